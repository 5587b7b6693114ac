// SPDX-License-Identifier: Apache-2.0
#include "relay/options.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "protos/wire/dumpcast_wire.h"
#include "relay/cgroup.h"

namespace dumpcast {
namespace {

constexpr char kDescription[] =
    "Receives the memory of crashed hosts over UDP, keeps it, and serves it over gRPC.\n"
    "Without any option it runs as a single node on the default multicast group, with its\n"
    "store in the current user's state folder.\n";

constexpr char kFooter[] =
    "Examples\n"
    "  One of three relays, on two networks, with a cluster key:\n"
    "    dumpcast-relay --store /var/lib/dumpcast --key-file /etc/dumpcast/key \\\n"
    "      --interface eth0 --interface eth1 --peers relay-1,relay-2\n"
    "  Where multicast does not reach (hosts send to this relay's address):\n"
    "    dumpcast-relay --group none --group6 none\n"
    "  Make a key, and see whether a configuration is right:\n"
    "    (echo -n '1 '; openssl rand -hex 32) > /etc/dumpcast/key; chmod 600 /etc/dumpcast/key\n"
    "    dumpcast-relay --config /etc/dumpcast/relay.toml --check-config\n"
    "  Prove the road with a file instead of a crashed host:\n"
    "    dumpcast-send --file vmcore --test --key-file /etc/dumpcast/key; dumpcast ls\n"
    "\n"
    "Every flag can be set in the environment (--key-file as DUMPCAST_KEY_FILE) and in the TOML\n"
    "file (key-file = \"/etc/dumpcast/key\", peers = [\"relay-1\", \"relay-2\"]). A flag\n"
    "wins over the environment, which wins over the file.\n"
    "\n"
    "Sizes take KiB, MiB, GiB; times ms, s, m, h.\n"
    "SIGTERM and SIGINT flush the store and end it; SIGUSR1 logs the counters.\n"
    "Exit codes: 0 ended as asked; 1 could not start or go on; 2 a mistake in flags or file.\n";

// Values as they were given; which of them were given is CLI11's to know.
struct Raw {
  std::string min_free = "1GiB", memory, dump_memory;
  std::string socket_buffer = "64MiB", silent = "15s", seal = "30s", config;
  std::string window = "1h", wait = "60s";
  std::string own_lanes = "all", log_format = "text";
};

// A mask of "all" or of numbers and ranges, "1,4-7".
std::optional<uint64_t> ParseLanes(absl::string_view text) {
  if (text == "all") return ~uint64_t{0};
  uint64_t mask = 0;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    uint32_t first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) return std::nullopt;
    last = first;
    if (part.find('-') != part.npos && !absl::SimpleAtoi(ends.second, &last)) return std::nullopt;
    if (first > last || last >= DCAST_MAX_LANES) return std::nullopt;
    for (uint32_t lane = first; lane <= last; ++lane) mask |= uint64_t{1} << lane;
  }
  return mask;
}

std::string CheckLanes(const std::string& text) {
  if (ParseLanes(text)) return "";
  return absl::StrCat("wanted lanes of 0 to ", DCAST_MAX_LANES - 1, " such as 1,4-7, or all, got `",
                      text, "`");
}

std::optional<uint64_t> ParseBytes(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint64_t value = 0;
  if (!absl::SimpleAtoi(std::string(text.substr(0, digits)), &value)) return std::nullopt;
  const std::string unit = absl::AsciiStrToLower(
      std::string(absl::StripAsciiWhitespace(std::string(text.substr(digits)))));
  unsigned shift = 0;
  if (unit == "kib" || unit == "k") {
    shift = 10;
  } else if (unit == "mib" || unit == "m") {
    shift = 20;
  } else if (unit == "gib" || unit == "g") {
    shift = 30;
  } else if (unit == "tib" || unit == "t") {
    shift = 40;
  } else if (!unit.empty() && unit != "b") {
    return std::nullopt;
  }
  if (value > std::numeric_limits<uint64_t>::max() >> shift) return std::nullopt;
  return value << shift;
}

std::string CheckBytes(const std::string& text) {
  if (ParseBytes(text)) return "";
  return absl::StrCat("wanted a size such as 256MiB, got `", text, "`");
}

std::string CheckDuration(const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration > absl::ZeroDuration()) return "";
  return absl::StrCat("wanted a time above 0 such as 15s or 500ms, got `", text, "`");
}

TimeNs Nanoseconds(const std::string& text) {
  absl::Duration duration;
  return absl::ParseDuration(text, &duration)
             ? static_cast<TimeNs>(absl::ToInt64Nanoseconds(duration))
             : 0;
}

std::string CheckGroup(const std::string& text) {
  in_addr v4;
  if (text == "none") return "";
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1 && IN_MULTICAST(ntohl(v4.s_addr))) return "";
  return absl::StrCat("wanted an IPv4 multicast address such as 239.192.68.67, or none, got `",
                      text, "`");
}

std::string CheckGroup6(const std::string& text) {
  in6_addr v6;
  if (text == "none") return "";
  if (inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_MULTICAST(&v6)) return "";
  return absl::StrCat("wanted an IPv6 multicast address such as ff08::4443, or none, got `", text,
                      "`");
}

void AddFlags(CLI::App* app, RelayOptions* o, Raw* raw) {
  app->add_option("--name", o->name, "What people and hosts see of this relay. Default: host name")
      ->group("Relay");
  app->add_option("--store", o->store_path,
                  "Folder of the store. Default: $XDG_STATE_HOME/dumpcast or "
                  "~/.local/state/dumpcast")
      ->group("Relay");
  app->add_option("-k,--key-file", o->key_file,
                  "Cluster keys, `epoch hex64` lines. Without it anybody can forge packets")
      ->group("Relay");
  app->add_option("--config", raw->config, "TOML file. Default: /etc/dumpcast/relay.toml if there")
      ->group("Relay");
  app->add_flag("--check-config", o->check_config, "Say whether flags and file are right, and end")
      ->group("Relay");

  app->add_option("--group", o->group, "Multicast group of lane 0, lane i is i higher; or none")
      ->check(CheckGroup)
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");
  app->add_option("--group6", o->group6, "The same for IPv6; or none")
      ->check(CheckGroup6)
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");
  app->add_option("--port", o->port, "UDP port of all lanes")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");
  app->add_option("--lanes", o->lanes, "Lanes that the hosts use")
      ->check(CLI::Range(1, DCAST_MAX_LANES))
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");
  app->add_option("--own-lanes", raw->own_lanes,
                  "Lanes to receive, one thread each, such as 1,4-7; lane 0, which has the log, is "
                  "always one of them. The others' blocks come from peers")
      ->check(CheckLanes)
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");
  app->add_option("-i,--interface", o->interfaces,
                  "Network interface to join the groups on; may be repeated. Default: every one "
                  "that can multicast")
      ->delimiter(',')
      ->group("Hosts to relay (UDP)");
  app->add_option("--socket-buffer", raw->socket_buffer, "Receive buffer of each socket")
      ->check(CheckBytes)
      ->capture_default_str()
      ->group("Hosts to relay (UDP)");

  app->add_option("--listen", o->listen, "gRPC address; may be repeated. Default: 0.0.0.0:26211")
      ->delimiter(',')
      ->group("Clients and peers (gRPC)");
  app->add_option("--peers,--peer", o->peers,
                  "Other relays, host[:port]; a name may have many addresses and is looked up "
                  "again and again")
      ->delimiter(',')
      ->group("Clients and peers (gRPC)");
  app->add_option("--tls-cert", o->tls_cert, "PEM certificate chain of this relay")
      ->group("Clients and peers (gRPC)");
  app->add_option("--tls-key", o->tls_key, "PEM private key")->group("Clients and peers (gRPC)");
  app->add_option("--tls-ca", o->tls_ca, "PEM roots that clients and peers must be signed by")
      ->group("Clients and peers (gRPC)");

  app->add_option("--memory", raw->memory,
                  "For incomplete blocks of all dumps. Default: an eighth of what the cgroup may "
                  "use, from 16MiB to 1GiB; 256MiB without a limit")
      ->check(CheckBytes)
      ->group("Limits");
  app->add_option("--dump-memory", raw->dump_memory,
                  "For incomplete blocks of one dump. Default: half of --memory")
      ->check(CheckBytes)
      ->group("Limits");
  app->add_option("--max-dumps", o->max_dumps, "Dumps received at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group("Limits");
  app->add_option("--full-dumps", o->admission.full_dumps,
                  "Dumps of one crash signature taken in full within --full-dumps-window; of "
                  "further ones the log only. 0: no limit")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str()
      ->group("Storms");
  app->add_option("--full-dumps-window", raw->window, "See --full-dumps")
      ->check(CheckDuration)
      ->capture_default_str()
      ->group("Storms");
  app->add_option("--concurrent-dumps", o->admission.concurrent,
                  "Dumps taken in full at a time; others wait for their turn. 0: no limit")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str()
      ->group("Storms");
  app->add_option("--waiting-dumps", o->admission.waiting,
                  "Dumps that may wait; of further ones the log only")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str()
      ->group("Storms");
  app->add_option("--wait", raw->wait, "The longest that a host waits; then it sends")
      ->check(CheckDuration)
      ->capture_default_str()
      ->group("Storms");
  app->add_option("--min-free", raw->min_free,
                  "New blocks are refused while the file system has less than this")
      ->check(CheckBytes)
      ->capture_default_str()
      ->group("Limits");
  app->add_option(
         "--scrub-rate", o->scrub_mib_s,
         "MiB a second that the relay reads of its own store, to find blocks that the disk "
         "has changed and have them from a peer. 0: only what somebody reads is found")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str()
      ->group("Limits");
  app->add_option("--silent-after", raw->silent, "A host not heard for this long is gone")
      ->check(CheckDuration)
      ->capture_default_str()
      ->group("Limits");
  app->add_option("--seal-after", raw->seal,
                  "A dump whose host is gone is sealed incomplete when no peer has brought a "
                  "block for this long")
      ->check(CheckDuration)
      ->capture_default_str()
      ->group("Limits");

  app->add_option("--log-level", o->log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str()
      ->group("Logs and metrics");
  app->add_option("--log-format", raw->log_format,
                  "text, or json: an object a line, with dump and host as fields")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str()
      ->group("Logs and metrics");
  app->add_option("--metrics", o->metrics, "Address of http://.../metrics for Prometheus; or none")
      ->capture_default_str()
      ->group("Logs and metrics");
  app->add_flag("--describe-metrics", o->describe_metrics,
                "Print what is at /metrics as a page of Markdown, and end")
      ->group("Logs and metrics");
}

std::string NameOf(const CLI::Option* option) {
  return option->get_single_name();
}

// Flags that only make sense on a command line.
bool InFile(const CLI::Option* option) {
  const std::string name = NameOf(option);
  return name != "help" && name != "version" && name != "config" && name != "check-config" &&
         name != "describe-metrics";
}

// Levenshtein distance, for "did you mean".
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = std::exchange(row[j], next);
    }
  }
  return row[b.size()];
}

std::string Nearest(const CLI::App& app, const std::string& name) {
  std::string best;
  size_t least = 4;  // further away is no help
  for (const CLI::Option* option : app.get_options()) {
    if (!InFile(option)) continue;
    const size_t distance = Distance(name, NameOf(option));
    if (distance < least) {
      least = distance;
      best = NameOf(option);
    }
  }
  return best;
}

// One value of the file as a flag's text; nullopt for a kind that no flag has.
std::optional<std::string> TextOf(const toml::node& node) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return absl::StrCat(i->get());
  if (const auto* b = node.as_boolean()) return b->get() ? "true" : "false";
  return std::nullopt;
}

// Gives the options that neither flag nor environment has set the values of the file. Says every
// mistake, each with its line. True when there was none.
bool ApplyFile(CLI::App* app, const std::string& path) {
  toml::table table;
  try {  // toml++ reports by exception; none leaves this function
    table = toml::parse_file(path);
  } catch (const toml::parse_error& e) {
    std::cerr << path << ":" << e.source().begin.line << ": " << e.description() << "\n";
    return false;
  }
  bool good = true;
  const auto complain = [&](const toml::node& node, const std::string& what) {
    std::cerr << path << ":" << node.source().begin.line << ": " << what << "\n";
    good = false;
  };
  for (auto&& [key, node] : table) {
    const std::string name(key.str());
    CLI::Option* option = app->get_option_no_throw("--" + name);
    if (option == nullptr || !InFile(option)) {
      const std::string nearest = Nearest(*app, name);
      complain(node,
               absl::StrCat("unknown key `", name, "`",
                            nearest.empty() ? "; `dumpcast-relay --help` lists them all"
                                            : absl::StrCat("; did you mean `", nearest, "`?")));
      continue;
    }
    std::vector<std::string> values;
    bool usable = true;
    const bool list = option->get_expected_max() > 1;
    if (const toml::array* array = node.as_array()) {
      usable = list;
      for (const toml::node& element : *array) {
        const auto text = TextOf(element);
        usable = usable && text.has_value();
        if (text) values.push_back(*text);
      }
    } else if (const auto text = TextOf(node)) {
      values.push_back(*text);
    } else {
      usable = false;
    }
    if (!usable) {
      complain(node, absl::StrCat("`", name, "`: wanted ",
                                  list ? "a list of strings, such as [\"a\", \"b\"]"
                                       : "one value, such as \"text\" or 5"));
      continue;
    }
    if (option->count() != 0 || values.empty()) continue;
    try {
      for (const std::string& value : values) option->add_result(value);
      option->run_callback();
    } catch (const CLI::ParseError& e) {
      complain(node, absl::StrCat("`", name, "`: ", e.what()));
    }
  }
  return good;
}

// The store has as much again for what it has not written, and a little more.
uint64_t DefaultMemory() {
  const std::optional<uint64_t> limit = CgroupMemoryLimit();
  return limit ? std::clamp<uint64_t>(*limit / 8, 16 << 20, 1 << 30) : 256 << 20;
}

std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name[0] != '\0' ? name : "relay";
}

// What only the whole can tell. Empty when all is well.
std::string Contradiction(const RelayOptions& o) {
  if (o.dump_memory_bytes < (1u << 20))
    return "--dump-memory: wanted at least 1MiB, a few blocks of one dump";
  if (o.memory_bytes < o.dump_memory_bytes)
    return "--memory is less than --dump-memory; give all dumps at least what one may use";
  if (o.tls_cert.empty() != o.tls_key.empty())
    return "--tls-cert and --tls-key belong together; give both or neither";
  if (!o.tls_ca.empty() && o.tls_cert.empty()) return "--tls-ca needs --tls-cert and --tls-key";
  if (o.store_path.empty())
    return "no --store, and neither XDG_STATE_HOME nor HOME is set; give --store";
  for (const std::string& peer : o.peers)
    if (peer.empty()) return "--peers has an empty entry; wanted host[:port],host[:port]";
  in_addr v4;
  if (inet_pton(AF_INET, o.group.c_str(), &v4) == 1 &&
      !IN_MULTICAST(ntohl(v4.s_addr) + o.lanes - 1))
    return absl::StrCat("--lanes ", o.lanes,
                        ": the group of the last lane is no multicast address");
  return "";
}

}  // namespace

std::string DefaultStorePath() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') return absl::StrCat(state, "/dumpcast");
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return absl::StrCat(home, "/.local/state/dumpcast");
  return "";
}

ParsedRelayOptions ParseRelayOptions(int argc, const char* const* argv,
                                     const std::string& default_config) {
  ParsedRelayOptions parsed;
  RelayOptions& o = parsed.options;
  Raw raw;
  CLI::App app(kDescription, "dumpcast-relay");
  app.footer(kFooter);
  app.set_version_flag("--version",
                       absl::StrCat("dumpcast-relay ", DUMPCAST_VERSION, ", packet format ",
                                    DCAST_VERSION_MAJOR, ".", DCAST_VERSION_MINOR));
  AddFlags(&app, &o, &raw);
  for (CLI::Option* option : app.get_options()) {
    if (!InFile(option) && NameOf(option) != "config") continue;
    std::string env = "DUMPCAST_" + absl::AsciiStrToUpper(NameOf(option));
    std::replace(env.begin(), env.end(), '-', '_');
    option->envname(env);
  }
  const auto wrong = [&parsed] {
    parsed.exit_code = 2;
    return parsed;
  };
  try {  // CLI11 reports by exception; none leaves this function
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    parsed.exit_code = app.exit(e, std::cout, std::cerr) == 0 ? 0 : 2;
    return parsed;
  }
  if (raw.config.empty() && access(default_config.c_str(), F_OK) == 0) raw.config = default_config;
  if (!raw.config.empty()) {
    if (access(raw.config.c_str(), R_OK) != 0) {
      std::cerr << "dumpcast-relay: --config: cannot read `" << raw.config << "`\n";
      return wrong();
    }
    struct stat file;
    if (stat(raw.config.c_str(), &file) == 0 && S_ISDIR(file.st_mode)) {
      std::cerr << "dumpcast-relay: --config: wanted a file, `" << raw.config << "` is a folder\n";
      return wrong();
    }
    if (!ApplyFile(&app, raw.config)) return wrong();
  }
  for (const CLI::Option* option : app.get_options())
    o.configured = o.configured || option->count() != 0;
  o.min_free_bytes = *ParseBytes(raw.min_free);
  o.memory_bytes = raw.memory.empty() ? DefaultMemory() : *ParseBytes(raw.memory);
  o.dump_memory_bytes = raw.dump_memory.empty() ? o.memory_bytes / 2 : *ParseBytes(raw.dump_memory);
  o.socket_buffer_bytes = *ParseBytes(raw.socket_buffer);
  const uint64_t lanes = o.lanes >= 64 ? ~uint64_t{0} : (uint64_t{1} << o.lanes) - 1;
  o.own_lanes = (*ParseLanes(raw.own_lanes) & lanes) | 1;
  o.json_log = raw.log_format == "json";
  o.admission.window_ns = Nanoseconds(raw.window);
  o.admission.wait_ns = Nanoseconds(raw.wait);
  o.silent_ns = Nanoseconds(raw.silent);
  o.seal_ns = Nanoseconds(raw.seal);
  if (o.name.empty()) o.name = HostName();
  if (o.store_path.empty()) o.store_path = DefaultStorePath();
  if (o.listen.empty()) o.listen.emplace_back("0.0.0.0:26211");
  std::string mistake = Contradiction(o);
  if (raw.own_lanes != "all" && (*ParseLanes(raw.own_lanes) & ~lanes) != 0)
    mistake = absl::StrCat("--own-lanes ", raw.own_lanes, ": --lanes says that there are ", o.lanes,
                           ", 0 to ", o.lanes - 1);
  if (!mistake.empty()) {
    std::cerr << "dumpcast-relay: " << mistake << "\n";
    return wrong();
  }
  parsed.run = true;
  return parsed;
}

}  // namespace dumpcast
