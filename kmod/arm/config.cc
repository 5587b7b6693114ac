// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/config.h"

#include <arpa/inet.h>
#include <toml++/toml.h>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dumpcast {
namespace {

// A number that goes to a configfs attribute after multiplication by unit.
struct NumberKey {
  absl::string_view key, attribute;
  int64_t low, high, unit;
};

// kmod/linux/configfs.c checks them again; here an error has a line number.
constexpr std::array kNumbers = {
    NumberKey{"dump_level", "dump_level", 0, 31, 1},
    NumberKey{"lanes", "lanes", 1, 64, 1},
    NumberKey{"symbol_size", "symbol_size", 0, 8840, 1},
    NumberKey{"slots", "slots", 1, 16, 1},
    NumberKey{"helpers", "helpers", 0, 16, 1},
    NumberKey{"commits", "commits", 0, 64, 1},
    NumberKey{"parity_percent", "parity_percent", 0, 100, 1},
    NumberKey{"parity_percent_blind", "parity_percent_blind", 0, 100, 1},
    NumberKey{"blind_passes", "blind_passes", 0, 1000, 1},
    NumberKey{"heartbeat_ms", "heartbeat_ms", 100, 3600000, 1},
    NumberKey{"linger_ms", "linger_ms", 0, 3600000, 1},
    NumberKey{"time_limit_s", "time_limit_s", 0, 604800, 1},
    NumberKey{"ring_kib", "ring_kib", 64, 65536, 1},
};

// A word of a few that goes to a configfs attribute of the same name.
struct WordKey {
  absl::string_view key;
  std::array<absl::string_view, 4> words;  // empty: fewer
};

constexpr std::array kWords = {
    WordKey{"mode", {"mirror", "stripe"}},
    WordKey{"codec", {"auto", "none", "lz4", "zstd"}},
};

constexpr std::array kPathNumbers = {
    NumberKey{"source_port", "source_port", 1, 65535, 1},
    NumberKey{"ttl", "ttl", 1, 255, 1},
};

constexpr double kMaxRateMibPerS = 4194303;

constexpr int kMaxPaths = 8;
constexpr size_t kMaxDestinations = 16;
constexpr size_t kMaxRecipients = 16;

struct Address {
  std::string text;
  bool v6 = false, group = false;
  int port = 0;  // 0: none given
};

// One reader a file: knows the name for messages.
class Reader {
 public:
  explicit Reader(absl::string_view name) : name_(name) {}

  absl::Status Error(const toml::source_region& where, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ":", static_cast<uint32_t>(where.begin.line), ": ", what));
  }

  absl::Status String(absl::string_view key, const toml::node& node, std::string* out) const {
    const auto value = node.value_exact<std::string>();
    if (!value) return Error(node.source(), absl::StrCat(key, " wants a string in quotes"));
    if (value->find_first_of("\n\r") != std::string::npos) {
      return Error(node.source(), absl::StrCat(key, " wants a string of one line"));
    }
    *out = *value;
    return absl::OkStatus();
  }

  absl::Status Bool(absl::string_view key, const toml::node& node, bool* out) const {
    const auto value = node.value_exact<bool>();
    if (!value) return Error(node.source(), absl::StrCat(key, " wants true or false"));
    *out = *value;
    return absl::OkStatus();
  }

  absl::Status Number(absl::string_view key, const toml::node& node, int64_t low, int64_t high,
                      int64_t* out) const {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < low || *value > high) {
      return Error(node.source(),
                   absl::StrCat(key, " wants a whole number in ", low, "..", high,
                                value ? absl::StrCat(", not ", *value) : std::string()));
    }
    *out = *value;
    return absl::OkStatus();
  }

 private:
  const std::string name_;
};

// Fills *found and returns true when key is among keys.
template <typename Keys>
bool FindNumber(const Keys& keys, absl::string_view key, NumberKey* found) {
  for (const NumberKey& candidate : keys) {
    if (candidate.key == key) {
      *found = candidate;
      return true;
    }
  }
  return false;
}

template <typename Keys>
std::string Names(const Keys& keys) {
  return absl::StrJoin(
      keys, ", ", [](std::string* out, const NumberKey& key) { absl::StrAppend(out, key.key); });
}

// ADDRESS, ADDRESS:PORT (IPv4) or [ADDRESS]:PORT (IPv6). False when text is none of them.
bool ParseAddress(absl::string_view text, Address* out) {
  std::string host(text);
  std::string port;
  if (absl::StartsWith(text, "[")) {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) return false;
    host = std::string(text.substr(1, end - 1));
    const absl::string_view rest = text.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return false;
    if (!rest.empty()) port = std::string(rest.substr(1));
    if (!rest.empty() && port.empty()) return false;
  } else if (const size_t colon = text.find(':');
             colon != absl::string_view::npos && text.rfind(':') == colon) {
    host = std::string(text.substr(0, colon));
    port = std::string(text.substr(colon + 1));
    if (port.empty()) return false;
  }
  if (!port.empty() &&
      (!absl::SimpleAtoi(port, &out->port) || out->port < 1 || out->port > 65535)) {
    return false;
  }
  in_addr v4{};
  in6_addr v6{};
  out->text = host;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    out->group = IN_MULTICAST(ntohl(v4.s_addr));
    return true;
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    out->v6 = true;
    out->group = IN6_IS_ADDR_MULTICAST(&v6);
    return true;
  }
  return false;
}

absl::Status ReadDestinations(const Reader& reader, const toml::node& node, PathConfig* path) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->empty() || array->size() > kMaxDestinations) {
    return reader.Error(
        node.source(), absl::StrCat("destinations wants a list of 1 to ", kMaxDestinations,
                                    " addresses: [\"239.192.68.67\"] for a group, or the relays'"));
  }
  std::vector<Address> addresses;
  for (const toml::node& element : *array) {
    std::string text;
    if (absl::Status status = reader.String("each destination", element, &text); !status.ok()) {
      return status;
    }
    Address address;
    if (!ParseAddress(text, &address)) {
      return reader.Error(
          element.source(),
          absl::StrCat("destination \"", text,
                       "\": wanted an IPv4 or IPv6 address, with :PORT or not (no DNS names: "
                       "nobody resolves them after a panic)"));
    }
    if (!addresses.empty() && (address.v6 != addresses[0].v6 || address.port != addresses[0].port ||
                               address.group || addresses[0].group)) {
      return reader.Error(element.source(),
                          "destinations of one path are one group, or unicast relays of one "
                          "address family and one port; make another [[path]] for the others");
    }
    addresses.push_back(address);
  }
  for (const Address& address : addresses) path->destinations.push_back(address.text);
  if (addresses[0].port != 0) path->port = addresses[0].port;
  return absl::OkStatus();
}

absl::Status ReadPath(const Reader& reader, const toml::table& table, PathConfig* path) {
  const toml::node* destinations = nullptr;
  for (const auto& [toml_key, node] : table) {
    const absl::string_view key(toml_key.str().data(), toml_key.str().size());
    NumberKey number;
    int64_t value = 0;
    absl::Status status;
    if (key == "name") {
      status = reader.String(key, node, &path->name);
    } else if (key == "device") {
      status = reader.String(key, node, &path->device);
    } else if (key == "destinations") {
      destinations = &node;
    } else if (key == "port") {
      status = reader.Number(key, node, 1, 65535, &value);
      path->port = static_cast<int>(value);
    } else if (key == "source" || key == "next_hop_mac") {
      status = reader.String(key, node, &path->attributes[std::string(key)]);
    } else if (FindNumber(kPathNumbers, key, &number)) {
      status = reader.Number(key, node, number.low, number.high, &value);
      path->attributes[std::string(number.attribute)] = absl::StrCat(value * number.unit);
    } else {
      status =
          reader.Error(toml_key.source(), absl::StrCat("unknown key ", key,
                                                       " in [[path]]; known are name, device, "
                                                       "destinations, port, source, next_hop_mac, ",
                                                       Names(kPathNumbers)));
    }
    if (!status.ok()) return status;
  }
  if (path->device.empty()) return reader.Error(table.source(), "[[path]] wants a device");
  if (path->device.size() > 15 || path->device.find_first_of("/ ") != std::string::npos) {
    return reader.Error(table.source(), absl::StrCat("device \"", path->device,
                                                     "\" is no name of a network device"));
  }
  if (path->name.empty()) path->name = path->device;
  if (path->name.size() > 31 || path->name[0] == '.' ||
      path->name.find_first_of("/ =\"") != std::string::npos) {
    return reader.Error(table.source(),
                        absl::StrCat("path name \"", path->name,
                                     "\": wanted up to 31 characters without spaces, /, = and \""));
  }
  if (destinations == nullptr) {
    path->destinations = {"239.192.68.67"};
    return absl::OkStatus();
  }
  return ReadDestinations(reader, *destinations, path);
}

absl::Status ReadPaths(const Reader& reader, const toml::node& node, ArmConfig* config) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->empty() || array->size() > kMaxPaths ||
      !array->is_array_of_tables()) {
    return reader.Error(node.source(), absl::StrCat("path wants 1 to ", kMaxPaths,
                                                    " tables, each begun by [[path]]"));
  }
  std::set<std::string> names;
  for (const toml::node& element : *array) {
    PathConfig path;
    if (absl::Status status = ReadPath(reader, *element.as_table(), &path); !status.ok()) {
      return status;
    }
    if (!names.insert(path.name).second) {
      return reader.Error(element.source(), absl::StrCat("two paths are named \"", path.name,
                                                         "\": give each a name of its own"));
    }
    config->paths.push_back(std::move(path));
  }
  return absl::OkStatus();
}

absl::Status CheckHostId(const Reader& reader, const toml::node& node, const std::string& text) {
  size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) digits = 99;
    digits++;
  }
  if (digits == 32) return absl::OkStatus();
  return reader.Error(node.source(), "host_id wants 32 hex digits, as in /etc/machine-id");
}

// One of the words that the key knows.
absl::Status ReadWord(const Reader& reader, const toml::node& node, const WordKey& known,
                      ArmConfig* config) {
  std::string& word = config->attributes[std::string(known.key)];
  absl::Status status = reader.String(known.key, node, &word);
  if (!status.ok()) return status;
  std::string wanted;
  for (const absl::string_view one : known.words) {
    if (one.empty()) break;
    if (word == one) return status;
    absl::StrAppend(&wanted, wanted.empty() ? "" : ", ", "\"", one, "\"");
  }
  return reader.Error(node.source(),
                      absl::StrCat(known.key, " wants one of ", wanted, ", not \"", word, "\""));
}

// Fractions of a MiB are fine; the module counts KiB.
absl::Status ReadRate(const Reader& reader, const toml::node& node, ArmConfig* config) {
  const auto rate = node.value<double>();
  if (!node.is_number() || !rate || !(*rate >= 0) || *rate > kMaxRateMibPerS) {
    return reader.Error(node.source(),
                        absl::StrCat("rate_mib_s wants a number in 0..", kMaxRateMibPerS,
                                     " (MiB/s of one path; 0: no ceiling)"));
  }
  config->attributes["rate_kib_s"] = absl::StrCat(static_cast<uint64_t>(std::ceil(*rate * 1024)));
  return absl::OkStatus();
}

absl::Status ReadRecipients(const Reader& reader, const toml::node& node, ArmConfig* config) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->size() > kMaxRecipients) {
    return reader.Error(node.source(), absl::StrCat("recipients wants a list of up to ",
                                                    kMaxRecipients, " keys in quotes"));
  }
  for (const toml::node& element : *array) {
    std::string text;
    if (absl::Status status = reader.String("each recipient", element, &text); !status.ok()) {
      return status;
    }
    const absl::StatusOr<Recipient> recipient = ParseRecipient(text);
    if (!recipient.ok()) return reader.Error(element.source(), recipient.status().message());
    config->recipients.push_back(*recipient);
  }
  return absl::OkStatus();
}

absl::Status ReadTop(const Reader& reader, absl::string_view key, const toml::key& toml_key,
                     const toml::node& node, ArmConfig* config) {
  NumberKey number;
  int64_t value = 0;
  if (key == "key_file") return reader.String(key, node, &config->key_file);
  if (key == "module") return reader.String(key, node, &config->module);
  if (key == "hostname") return reader.String(key, node, &config->hostname);
  if (key == "fix_kernel") return reader.Bool(key, node, &config->fix_kernel);
  if (key == "exclude_unused_vmemmap") {
    bool exclude = false;
    absl::Status status = reader.Bool(key, node, &exclude);
    config->attributes[std::string(key)] = absl::StrCat(exclude ? 1 : 0);
    return status;
  }
  if (key == "recipients") return ReadRecipients(reader, node, config);
  if (key == "path") return ReadPaths(reader, node, config);
  if (key == "host_id") {
    absl::Status status = reader.String(key, node, &config->host_id);
    return status.ok() ? CheckHostId(reader, node, config->host_id) : status;
  }
  if (key == "reboot_after_s") {
    absl::Status status = reader.Number(key, node, 1, 86400, &value);
    config->reboot_after_s = static_cast<int>(value);
    return status;
  }
  if (key == "rate_mib_s") return ReadRate(reader, node, config);
  for (const WordKey& words : kWords)
    if (key == words.key) return ReadWord(reader, node, words, config);
  if (FindNumber(kNumbers, key, &number)) {
    absl::Status status = reader.Number(key, node, number.low, number.high, &value);
    config->attributes[std::string(number.attribute)] = absl::StrCat(value * number.unit);
    return status;
  }
  return reader.Error(
      toml_key.source(),
      absl::StrCat("unknown key ", key,
                   "; known are key_file, recipients, host_id, hostname, module, fix_kernel, "
                   "reboot_after_s, mode, codec, rate_mib_s, ",
                   Names(kNumbers), " and [[path]]"));
}

}  // namespace

absl::StatusOr<ArmConfig> ParseArmConfig(absl::string_view text, absl::string_view name) {
  const Reader reader(name);
  toml::table table;
  try {
    table = toml::parse(std::string_view(text.data(), text.size()), std::string_view());
  } catch (const toml::parse_error& error) {
    const std::string_view what = error.description();
    return reader.Error(error.source(), absl::string_view(what.data(), what.size()));
  }
  ArmConfig config;
  for (const auto& [toml_key, node] : table) {
    const absl::string_view key(toml_key.str().data(), toml_key.str().size());
    absl::Status status = ReadTop(reader, key, toml_key, node, &config);
    if (!status.ok()) return status;
  }
  if (config.paths.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": no path: add [[path]] with device = \"eth0\" (your network card)"));
  }
  return config;
}

absl::StatusOr<ArmConfig> LoadArmConfig(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be read; the example arm.toml shows what belongs there"));
  }
  std::stringstream text;
  text << file.rdbuf();
  return ParseArmConfig(text.str(), path);
}

}  // namespace dumpcast
