// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/options.h"

#include <sodium.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "protos/keys/end_to_end.h"
#include "protos/keys/keys.h"

namespace dumpcast {
namespace {

constexpr char kDescription[] =
    "Sends an ELF vmcore, or a raw memory image, to dumpcast relays as a crashed host would.\n"
    "It imports vmcores that exist already, loads relays for tests, and finishes from a kdump\n"
    "kernel what the first kernel could not send.\n";

constexpr char kFooter[] =
    "Examples\n"
    "  Import a vmcore to the default multicast group:\n"
    "    dumpcast-send --file /var/crash/vmcore --key-file /etc/dumpcast/key\n"
    "  To three relays without multicast, two of which must commit:\n"
    "    dumpcast-send --file vmcore --relay relay-0 --relay relay-1 --relay relay-2 --commits 2\n"
    "  Both ways out of a host at once, half the packets of each path lost:\n"
    "    dumpcast-send --file vmcore --interface eth0 --interface eth1 --drop 50\n"
    "  So that only who has the identity can read it (`dumpcast keygen` made both):\n"
    "    dumpcast-send --file vmcore --recipient 5c1f...e9\n"
    "  In a crash kernel, what the first kernel could not send:\n"
    "    dumpcast-send --kdump --key-file /etc/dumpcast/cluster.key\n"
    "\n"
    "Every flag can be set in the environment (--key-file as DUMPCAST_KEY_FILE) or in a TOML\n"
    "file given with --config (key-file = \"...\", interface = [\"eth0\", \"eth1\"]).\n"
    "\n"
    "Exit codes: 0 enough relays committed; 1 sent, but they did not; 2 usage or bad input;\n"
    "3 with --kdump: the crashed host was not armed, there is no dump to finish.\n";

struct Raw {
  std::string file, log_file, key_file, host_id, dump_id, boot_id, hostname;
  std::vector<std::string> groups, relays, interfaces, recipients;
  MemorySource::Format format = MemorySource::Format::kAuto;
  int mode = DCAST_MIRROR;
  double rate_mib_s = 0, drop_percent = 0, arm_s = 1, linger_s = 10, time_limit_s = 0;
  unsigned commits = 0, lanes = 1, symbol_size = 0, mtu = 1500, blind_passes = 2, slots = 8;
  unsigned codecs = 7, helpers = 0;
  unsigned parity = 4, parity_blind = 20, dump_level = 0, source_port = 0, ttl = 4;
  uint64_t seed = 0;
  bool blind = false, test = false, quiet = false, kdump = false, import = false;
};

// Bits of the codecs that may be used.
const std::map<std::string, unsigned> kCodecs = {{"none", 1u << DCAST_CODEC_NONE},
                                                 {"lz4", 1u << DCAST_CODEC_LZ4},
                                                 {"zstd", 1u << DCAST_CODEC_ZSTD},
                                                 {"auto", 7}};

void AddFlags(CLI::App* app, Raw* raw, CLI::Option** seed) {
  const std::map<std::string, MemorySource::Format> formats = {
      {"auto", MemorySource::Format::kAuto},
      {"elf", MemorySource::Format::kElf},
      {"kdump", MemorySource::Format::kKdump},
      {"raw", MemorySource::Format::kRaw}};
  const std::map<std::string, int> modes = {{"mirror", DCAST_MIRROR}, {"stripe", DCAST_STRIPE}};

  app->add_option("-f,--file", raw->file, "What to send")->group("What");
  app->add_flag(
         "--kdump", raw->kdump,
         "In a crash kernel: finish the dump that the armed module of the crashed kernel has "
         "begun. Ids, dump level and paths come from its record in --file, by default "
         "/proc/vmcore")
      ->group("What");
  app->add_option("--format", raw->format,
                  "elf: a vmcore with PT_LOADs; kdump: as makedumpfile compresses it; both may be "
                  "flattened; raw: physical memory from address 0; auto: by the file's magic")
      ->transform(CLI::CheckedTransformer(formats, CLI::ignore_case))
      ->default_str("auto")
      ->group("What");
  app->add_flag(
         "--import", raw->import,
         "The vmcore of another host: its name is the file's, its id is made of the name, the "
         "dump's id of the file, so that the same file is the same dump")
      ->group("What");
  app->add_option("--log-file", raw->log_file, "Text to send as the kernel log")->group("What");
  app->add_option("--dump-level", raw->dump_level,
                  "makedumpfile -d bits that the file was filtered with: recorded, not applied")
      ->check(CLI::Range(0, 31))
      ->capture_default_str()
      ->group("What");
  app->add_flag("--test", raw->test, "Mark the dump as a test of the road")->group("What");

  app->add_option("--group", raw->groups,
                  "Multicast group address[:port]; lane i goes to address + i. Default, when no "
                  "--relay is given: 239.192.68.67:26210")
      ->group("Where");
  app->add_option("--relay", raw->relays, "Relay address[:port], by unicast; may be repeated")
      ->group("Where");
  app->add_option("-i,--interface", raw->interfaces,
                  "Network interface; each one is a path. Default: one path, by the routing table")
      ->group("Where");
  app->add_option("--source-port", raw->source_port, "UDP source port, 0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group("Where");
  app->add_option("--ttl", raw->ttl, "Hops that multicast may take")
      ->check(CLI::Range(1, 255))
      ->capture_default_str()
      ->group("Where");

  app->add_option("-k,--key-file", raw->key_file,
                  "Cluster keys, `epoch hex64` lines; the highest epoch is used")
      ->group("Who");
  app->add_option("-r,--recipient", raw->recipients,
                  "Encrypt the dump for who has this identity: 64 hex digits, as `dumpcast keygen` "
                  "prints them; may be repeated")
      ->group("Who");
  app->add_option("--host-id", raw->host_id, "32 hex digits. Default: /etc/machine-id")
      ->group("Who");
  app->add_option("--dump-id", raw->dump_id, "32 hex digits. Default: random")->group("Who");
  app->add_option(
         "--boot-id", raw->boot_id,
         "32 hex digits: the boot that crashed, so that a second sender of a dump says the "
         "same. Default: random")
      ->group("Who");
  app->add_option("--hostname", raw->hostname, "Default: this machine's")->group("Who");
  *seed = app->add_option("--seed", raw->seed,
                          "Makes ids and drops repeatable: the same seed, the same dump")
              ->group("Who");

  app->add_option("--mode", raw->mode,
                  "mirror: every packet on every path; stripe: each packet on one")
      ->transform(CLI::CheckedTransformer(modes, CLI::ignore_case))
      ->default_str("mirror")
      ->group("How");
  app->add_option("--rate", raw->rate_mib_s,
                  "Ceiling of UDP payload per path, MiB/s; 0: as fast as relays say they can")
      ->check(CLI::Range(0.0, 1e5))
      ->capture_default_str()
      ->group("How");
  app->add_option("--commits", raw->commits,
                  "Relays that must commit; 0: two, or every relay heard when fewer")
      ->check(CLI::Range(0, DCAST_MAX_RELAYS))
      ->capture_default_str()
      ->group("How");
  app->add_option("--lanes", raw->lanes, "Multicast groups that blocks are spread over")
      ->check(CLI::Range(1, DCAST_MAX_LANES))
      ->capture_default_str()
      ->group("How");
  app->add_option("--mtu", raw->mtu, "Of the network; sets the symbol size")
      ->check(CLI::Range(1280, 9000))
      ->capture_default_str()
      ->group("How");
  app->add_option("--symbol-size", raw->symbol_size,
                  "Bytes of a block in one packet, a multiple of 8; overrides --mtu")
      ->check(CLI::Range(DCAST_MIN_SYMBOL_BYTES, DCAST_MAX_SYMBOL_BYTES))
      ->group("How");
  app->add_option("--slots", raw->slots, "Blocks interleaved, so that a burst loses little of each")
      ->check(CLI::Range(1, 16))
      ->capture_default_str()
      ->group("How");
  app->add_option("--codec", raw->codecs,
                  "none, lz4, zstd, or auto: whichever is the fastest at the moment")
      ->transform(CLI::CheckedTransformer(kCodecs, CLI::ignore_case))
      ->default_str("auto")
      ->group("How");
  app->add_option("--helpers", raw->helpers, "Threads that encode beside the one that sends")
      ->check(CLI::Range(0, DCAST_MAX_HELPERS))
      ->capture_default_str()
      ->group("How");
  app->add_option(
         "--parity", raw->parity,
         "Percent of parity at first, when relays can be heard; then it follows what they lack")
      ->check(CLI::Range(0, 100))
      ->capture_default_str()
      ->group("How");
  app->add_option("--parity-blind", raw->parity_blind, "Percent of parity when they cannot")
      ->check(CLI::Range(0, 100))
      ->capture_default_str()
      ->group("How");
  app->add_flag("--blind", raw->blind, "Ignore what relays answer: parity and passes must do")
      ->group("How");
  app->add_option("--blind-passes", raw->blind_passes, "Further passes when no relay was heard")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->group("How");
  app->add_option("--arm", raw->arm_s, "Seconds of heartbeats before the dump, to hear relays")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group("How");
  app->add_option("--linger", raw->linger_s,
                  "Seconds to wait for NAKs and commits after the last one")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group("How");
  app->add_option("--time-limit", raw->time_limit_s, "Seconds for the whole dump; 0: none")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str()
      ->group("How");
  app->add_option("--drop", raw->drop_percent,
                  "Percent of packets to drop instead of sending them, for tests")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str()
      ->group("How");
  app->add_flag("-q,--quiet", raw->quiet, "Print errors only")->group("How");
}

std::string ReadMachineId() {
  std::string id;
  std::ifstream("/etc/machine-id") >> id;
  return id;
}

absl::Status FillPaths(const Raw& raw, SendOptions* out) {
  std::vector<Endpoint> destinations;
  std::vector<std::string> texts = raw.groups;
  const size_t groups = raw.groups.size();
  texts.insert(texts.end(), raw.relays.begin(), raw.relays.end());
  if (texts.empty()) texts.emplace_back("239.192.68.67");
  for (size_t i = 0; i < texts.size(); ++i) {
    auto e = ParseEndpoint(texts[i], DCAST_PORT);
    if (!e.ok()) return e.status();
    const bool group = i < groups || raw.relays.empty();
    if (group != e->is_multicast()) {
      return absl::InvalidArgumentError(
          absl::StrCat(e->ToString(), group ? " is no multicast address; give it as --relay"
                                            : " is a multicast address; give it as --group"));
    }
    destinations.push_back(*e);
  }
  std::vector<std::string> interfaces = raw.interfaces;
  if (interfaces.empty()) interfaces.emplace_back("");
  if (interfaces.size() > DCAST_MAX_PATHS) {
    return absl::InvalidArgumentError(absl::StrCat("--interface is given ", interfaces.size(),
                                                   " times, at most 8 paths are possible"));
  }
  for (size_t i = 0; i < interfaces.size(); ++i) {
    UdpPathOptions path;
    path.interface = interfaces[i];
    path.destinations = destinations;
    path.source_port = static_cast<uint16_t>(raw.source_port);
    path.ttl = static_cast<int>(raw.ttl);
    path.drop = raw.drop_percent / 100;
    path.drop_seed = raw.seed * DCAST_MAX_PATHS + i;
    out->paths.push_back(std::move(path));
  }
  return absl::OkStatus();
}

absl::Status FillIdentity(const Raw& raw, bool seeded, SendOptions* out) {
  dcast_config& config = out->replay.config;
  uint8_t random[DCAST_ID_BYTES + DCAST_ID_BYTES + sizeof(config.origin)];
  if (seeded) {
    std::mt19937_64 rng(raw.seed);
    for (uint8_t& byte : random) byte = static_cast<uint8_t>(rng());
  } else {
    randombytes_buf(random, sizeof(random));
  }
  std::memcpy(config.dump_id, random, DCAST_ID_BYTES);
  std::memcpy(config.boot_id, random + DCAST_ID_BYTES, DCAST_ID_BYTES);
  std::memcpy(&config.origin, random + 2 * DCAST_ID_BYTES, sizeof(config.origin));
  config.origin |= 1;
  out->unauthenticated = raw.key_file.empty();
  out->keys = UnauthenticatedKeys();
  if (!raw.key_file.empty()) {
    auto loaded = LoadKeyFile(raw.key_file);
    if (!loaded.ok()) return loaded.status();
    out->keys = *std::move(loaded);
  }
  if (raw.import) {
    out->import = true;
    out->host_id = raw.host_id;
    out->dump_id = raw.dump_id;
    out->hostname = raw.hostname;
    return absl::OkStatus();
  }
  const std::string host_id = raw.host_id.empty() ? ReadMachineId() : raw.host_id;
  if (host_id.empty()) {
    return absl::InvalidArgumentError(
        "no --host-id, and /etc/machine-id has none; give --host-id with 32 hex digits");
  }
  absl::Status status = ParseId(host_id, "--host-id", config.host_id);
  if (status.ok() && !raw.dump_id.empty()) {
    status = ParseId(raw.dump_id, "--dump-id", config.dump_id);
  }
  if (status.ok() && !raw.boot_id.empty()) {
    status = ParseId(raw.boot_id, "--boot-id", config.boot_id);
  }
  if (!status.ok()) return status;

  std::string hostname = raw.hostname;
  if (hostname.empty()) {
    char name[256] = {};
    gethostname(name, sizeof(name) - 1);
    hostname = name;
  }
  std::strncpy(config.hostname, hostname.c_str(), sizeof(config.hostname) - 1);

  UseHostKey(out);
  return absl::OkStatus();
}

absl::Status FillRecipients(const Raw& raw, SendOptions* out) {
  if (raw.recipients.empty()) return absl::OkStatus();
  const EndToEndKey key = NewEndToEndKey();
  std::vector<Recipient> recipients;
  for (const std::string& text : raw.recipients) {
    const auto recipient = ParseRecipient(text);
    if (!recipient.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--recipient: ", recipient.status().message()));
    }
    const dcast_key_box box = MakeKeyBox(key, *recipient);
    out->key_boxes.append(reinterpret_cast<const char*>(&box), sizeof(box));
    recipients.push_back(*recipient);
  }
  dcast_secrets& secrets = out->replay.secrets;
  secrets.end_to_end = CipherKeys(key);
  const Secret<16> signature = SignatureKey(std::move(recipients));
  secrets.signature = {dcast_load64(signature.data()), dcast_load64(signature.data() + 8)};
  secrets.encrypted = 1;
  return absl::OkStatus();
}

constexpr char kKdumpFile[] = "/proc/vmcore";
constexpr char kKdumpKeys[] = "/etc/dumpcast/cluster.key";
constexpr double kKdumpLimitS = 600;  // nothing may keep kdump from its own dump for ever

// What the command line says to a second sender: how, and where from; who and where to is in the
// record.
absl::Status FillKdump(Raw raw, SendOptions* out) {
  if (!raw.host_id.empty() || !raw.dump_id.empty() || !raw.boot_id.empty() || raw.test ||
      !raw.recipients.empty()) {
    return absl::InvalidArgumentError(
        "--kdump finishes the dump that the record names, encrypted as the host was armed; leave "
        "out --host-id, --dump-id, --boot-id, --recipient and --test");
  }
  out->kdump = true;
  out->file = raw.file.empty() ? kKdumpFile : raw.file;
  out->log_file = raw.log_file;
  out->format = MemorySource::Format::kElf;
  if (!raw.groups.empty() || !raw.relays.empty() || !raw.interfaces.empty()) {
    const absl::Status status = FillPaths(raw, out);
    if (!status.ok()) return status;
  }
  if (raw.key_file.empty() && access(kKdumpKeys, F_OK) == 0) raw.key_file = kKdumpKeys;
  out->unauthenticated = raw.key_file.empty();
  out->keys = UnauthenticatedKeys();
  if (!out->unauthenticated) {
    auto loaded = LoadKeyFile(raw.key_file);
    if (!loaded.ok()) return loaded.status();
    out->keys = *std::move(loaded);
  }
  dcast_config& config = out->replay.config;
  randombytes_buf(&config.origin, sizeof(config.origin));
  config.origin |= 1;
  config.codecs = static_cast<__u8>(raw.codecs);
  config.helpers = static_cast<__u8>(raw.helpers);
  config.heartbeat_ms = 200;
  config.rate_kib_s = static_cast<__u32>(raw.rate_mib_s * 1024);
  config.linger_ns = static_cast<__u64>(raw.linger_s * 1e9);
  config.time_limit_ns =
      static_cast<__u64>((raw.time_limit_s > 0 ? raw.time_limit_s : kKdumpLimitS) * 1e9);
  config.blind_passes = raw.blind_passes;
  out->replay.continues = true;
  out->replay.ignore_replies = raw.blind;
  out->replay.quiet = raw.quiet;
  return absl::OkStatus();
}

absl::Status Fill(const Raw& raw, bool seeded, SendOptions* out) {
  if (raw.kdump) return FillKdump(raw, out);
  if (raw.file.empty()) {
    return absl::InvalidArgumentError("--file is required: a vmcore, or a raw memory image");
  }
  out->file = raw.file;
  out->log_file = raw.log_file;
  out->format = raw.format;
  dcast_config& config = out->replay.config;
  absl::Status status = FillPaths(raw, out);
  if (status.ok()) status = FillIdentity(raw, seeded, out);
  if (status.ok()) status = FillRecipients(raw, out);
  if (!status.ok()) return status;
  bool v6 = false;
  for (const Endpoint& e : out->paths[0].destinations) v6 |= e.is_v6();
  config.symbol_size =
      raw.symbol_size != 0 ? static_cast<__u16>(raw.symbol_size) : SymbolSizeForMtu(raw.mtu, v6);
  if (config.symbol_size % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--symbol-size: wanted a multiple of 8, got ",
                                                   config.symbol_size, "; use ",
                                                   config.symbol_size / 8 * 8));
  }
  config.lanes = static_cast<__u8>(raw.lanes);
  config.mode = static_cast<__u8>(raw.mode);
  config.page_shift = 12;
  config.dump_level = static_cast<__u8>(raw.dump_level);
  config.commits_wanted = static_cast<__u8>(raw.commits);
  config.slots = static_cast<__u8>(raw.slots);
  config.codecs = static_cast<__u8>(raw.codecs);
  config.helpers = static_cast<__u8>(raw.helpers);
  config.parity_percent = static_cast<__u8>(raw.parity);
  config.parity_percent_blind = static_cast<__u8>(raw.parity_blind);
  config.heartbeat_ms = 200;
  config.rate_kib_s = static_cast<__u32>(raw.rate_mib_s * 1024);
  if (raw.rate_mib_s > 0 && config.rate_kib_s == 0) config.rate_kib_s = 1;
  config.linger_ns = static_cast<__u64>(raw.linger_s * 1e9);
  config.time_limit_ns = static_cast<__u64>(raw.time_limit_s * 1e9);
  config.blind_passes = raw.blind_passes;
  out->replay.arm_ns = static_cast<uint64_t>(raw.arm_s * 1e9);
  out->replay.flags = raw.test ? DCAST_F_TEST | DCAST_F_LIVE : 0;
  out->replay.ignore_replies = raw.blind;
  out->replay.quiet = raw.quiet;
  out->replay.insists = raw.import;
  for (UdpPathOptions& path : out->paths) {
    path.packet_bytes = sizeof(dcast_hdr) + config.symbol_size;
  }
  return absl::OkStatus();
}

}  // namespace

void UseHostKey(SendOptions* options) {
  dcast_config& config = options->replay.config;
  HostId id;
  std::copy(config.host_id, config.host_id + DCAST_ID_BYTES, id.begin());
  config.key_epoch = options->keys.NewestEpoch();
  const std::optional<Key> key = options->keys.HostKey(id, config.key_epoch);  // it is there
  dcast_keys_init(&options->replay.secrets.wire, key->data());
}

absl::Status ParseId(const std::string& hex, const std::string& what, uint8_t id[DCAST_ID_BYTES]) {
  std::string digits;
  for (const char c : hex) {
    if (c != '-') digits += c;
  }
  const bool all_hex = std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit);
  if (digits.size() != 2 * DCAST_ID_BYTES || !all_hex) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": wanted 32 hex digits, got `", hex, "`"));
  }
  for (size_t i = 0; i < DCAST_ID_BYTES; ++i) {
    id[i] = static_cast<uint8_t>(std::stoul(digits.substr(2 * i, 2), nullptr, 16));
  }
  return absl::OkStatus();
}

uint16_t SymbolSizeForMtu(unsigned mtu, bool v6) {
  const unsigned size = (mtu - (v6 ? 40 : 20) - 8 - sizeof(dcast_hdr)) / 8 * 8;
  return static_cast<uint16_t>(
      std::clamp<unsigned>(size, DCAST_MIN_SYMBOL_BYTES, DCAST_MAX_SYMBOL_BYTES));
}

ParsedSendOptions ParseSendOptions(int argc, const char* const* argv) {
  ParsedSendOptions parsed;
  Raw raw;
  CLI::Option* seed = nullptr;
  CLI::App app(kDescription, "dumpcast-send");
  app.footer(kFooter);
  app.set_config("--config", "", "TOML file with any of these flags");
  app.set_version_flag("--version", "dumpcast-send 0.1.0, packet format 1.0");
  AddFlags(&app, &raw, &seed);
  for (CLI::Option* option : app.get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || name == "version" || name == "config") continue;
    std::string env = "DUMPCAST_" + absl::AsciiStrToUpper(name);
    std::replace(env.begin(), env.end(), '-', '_');
    option->envname(env);
  }
  try {  // CLI11 reports by exception; none leaves this function
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    parsed.exit_code = app.exit(e, std::cout, std::cerr) == 0 ? 0 : 2;
    return parsed;
  }
  if (sodium_init() < 0) {
    std::cerr << "dumpcast-send: libsodium cannot start\n";
    parsed.exit_code = 2;
    return parsed;
  }
  const absl::Status status = Fill(raw, seed->count() != 0, &parsed.options);
  if (!status.ok()) {
    std::cerr << "dumpcast-send: " << status.message() << "\n";
    parsed.exit_code = 2;
    return parsed;
  }
  parsed.run = true;
  return parsed;
}

}  // namespace dumpcast
