// SPDX-License-Identifier: Apache-2.0
#include "client/config.h"

#include <toml++/toml.h>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dumpcast {
namespace {

constexpr absl::string_view kKnownKeys =
    "servers = [\"host:port\", ...], identity and [tls] enabled, ca, cert, key, server_name";

absl::Status ServerError(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("server \"", text, "\": ", what,
                                                 "; want host, host:port, [v6]:port or unix:path"));
}

absl::Status FileError(const std::string& path, const toml::source_region& where,
                       absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ":", static_cast<uint32_t>(where.begin.line), ": ", what));
}

std::string KeyName(const toml::key& key) {
  return std::string(key.str());
}

absl::Status ReadString(const std::string& path, const toml::key& key, const toml::node& node,
                        std::string* out) {
  if (auto value = node.value_exact<std::string>()) {
    *out = *value;
    return absl::OkStatus();
  }
  return FileError(path, node.source(), absl::StrCat(KeyName(key), " wants a string in quotes"));
}

absl::Status ReadTls(const std::string& path, const toml::table& table, TlsConfig* tls) {
  for (const auto& [key, node] : table) {
    absl::Status status;
    if (key == "enabled") {
      if (auto value = node.value_exact<bool>()) {
        tls->enabled = *value;
      } else {
        status = FileError(path, node.source(), "tls.enabled wants true or false");
      }
    } else if (key == "ca") {
      status = ReadString(path, key, node, &tls->ca_path);
    } else if (key == "cert") {
      status = ReadString(path, key, node, &tls->cert_path);
    } else if (key == "key") {
      status = ReadString(path, key, node, &tls->key_path);
    } else if (key == "server_name") {
      status = ReadString(path, key, node, &tls->server_name);
    } else {
      status =
          FileError(path, key.source(),
                    absl::StrCat("unknown key tls.", KeyName(key), "; known are ", kKnownKeys));
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadServers(const std::string& path, const toml::node& node,
                         std::vector<std::string>* servers) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    return FileError(path, node.source(), "servers wants a list: [\"relay-0\", \"relay-1:26211\"]");
  }
  for (const toml::node& element : *array) {
    auto value = element.value_exact<std::string>();
    if (!value) return FileError(path, element.source(), "each server is a string in quotes");
    auto parsed = ParseServer(*value);
    if (!parsed.ok()) return FileError(path, element.source(), parsed.status().message());
    servers->push_back(*std::move(parsed));
  }
  return absl::OkStatus();
}

// TOML's own exceptions end here.
absl::StatusOr<toml::table> ParseToml(const std::string& path, const std::string& text) {
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    return FileError(path, e.source(), std::string(e.description()));
  }
}

absl::Status CheckTls(TlsConfig* tls) {
  if (tls->cert_path.empty() != tls->key_path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("TLS needs the client's certificate and its key together: ",
                     tls->cert_path.empty() ? "--cert" : "--key", " is missing"));
  }
  if (!tls->ca_path.empty() || !tls->cert_path.empty() || !tls->server_name.empty()) {
    tls->enabled = true;
  }
  return absl::OkStatus();
}

// `name` in this user's folder of the program; empty without a home.
std::string InConfigFolder(const Environment& env, absl::string_view name) {
  if (auto base = env.getenv("XDG_CONFIG_HOME"); base && !base->empty()) {
    return absl::StrCat(*base, "/dumpcast/", name);
  }
  if (auto home = env.getenv("HOME"); home && !home->empty()) {
    return absl::StrCat(*home, "/.config/dumpcast/", name);
  }
  return "";
}

void Override(const std::string& with, std::string* value) {
  if (!with.empty()) *value = with;
}

}  // namespace

absl::StatusOr<std::string> ParseServer(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return ServerError(text, "empty");
  if (text.substr(0, 5) == "unix:") return std::string(text);
  if (text.find_first_of("/ \t\"'@") != absl::string_view::npos) {
    return ServerError(text, "not an address");
  }
  absl::string_view host = text;
  absl::string_view port;
  if (text.front() == '[') {
    const size_t close = text.find(']');
    if (close == absl::string_view::npos) return ServerError(text, "the bracket is not closed");
    host = text.substr(0, close + 1);
    port = text.substr(close + 1);
    if (!port.empty() && port.front() != ':') return ServerError(text, "junk after the bracket");
    if (host.size() <= 2) return ServerError(text, "no host");
  } else if (const size_t colon = text.find(':'); colon != absl::string_view::npos) {
    // More than one colon without brackets is a bare IPv6 address.
    if (text.find(':', colon + 1) != absl::string_view::npos) {
      return absl::StrCat("[", text, "]:", kDefaultGrpcPort);
    }
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  if (host.empty()) return ServerError(text, "no host");
  if (port.empty()) return absl::StrCat(host, ":", kDefaultGrpcPort);
  uint32_t number = 0;
  if (!absl::SimpleAtoi(port.substr(1), &number) || number == 0 || number > 65535) {
    return ServerError(text, absl::StrCat("port \"", port.substr(1), "\" is not 1 to 65535"));
  }
  return absl::StrCat(host, ":", number);
}

absl::StatusOr<ClientConfig> ReadConfigFile(const std::string& path) {
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  auto table = ParseToml(path, text.str());
  if (!table.ok()) return table.status();
  ClientConfig config;
  for (const auto& [key, node] : *table) {
    absl::Status status;
    if (key == "servers") {
      status = ReadServers(path, node, &config.servers);
    } else if (key == "identity") {
      status = ReadString(path, key, node, &config.identity);
    } else if (key == "tls" && node.is_table()) {
      status = ReadTls(path, *node.as_table(), &config.tls);
    } else {
      status = FileError(path, key.source(),
                         absl::StrCat("unknown key ", KeyName(key), "; known are ", kKnownKeys));
    }
    if (!status.ok()) return status;
  }
  return config;
}

std::string DefaultConfigPath(const Environment& env) {
  if (auto path = env.getenv("DUMPCAST_CONFIG"); path && !path->empty()) return *path;
  return InConfigFolder(env, "client.toml");
}

std::string DefaultIdentityPath(const Environment& env) {
  return InConfigFolder(env, "identity");
}

absl::StatusOr<ClientConfig> LoadConfig(const ClientConfig& flags, const std::string& config_path,
                                        const Environment& env) {
  ClientConfig config;
  const std::string path = config_path.empty() ? DefaultConfigPath(env) : config_path;
  if (!path.empty()) {
    auto file = ReadConfigFile(path);
    const bool named = !config_path.empty() || env.getenv("DUMPCAST_CONFIG").value_or("") != "";
    if (file.ok()) {
      config = *std::move(file);
    } else if (!absl::IsNotFound(file.status())) {
      return file.status();
    } else if (named) {
      return absl::InvalidArgumentError(file.status().message());
    }
  }
  if (auto list = env.getenv("DUMPCAST_SERVER"); list && !list->empty()) {
    config.servers = absl::StrSplit(*list, ',', absl::SkipWhitespace());
  }
  if (!flags.servers.empty()) config.servers = flags.servers;
  if (config.servers.empty()) config.servers = {"localhost"};
  for (std::string& server : config.servers) {
    auto parsed = ParseServer(server);
    if (!parsed.ok()) return parsed.status();
    server = *std::move(parsed);
  }
  config.tls.enabled = config.tls.enabled || flags.tls.enabled;
  Override(flags.tls.ca_path, &config.tls.ca_path);
  Override(flags.tls.cert_path, &config.tls.cert_path);
  Override(flags.tls.key_path, &config.tls.key_path);
  Override(flags.tls.server_name, &config.tls.server_name);
  Override(env.getenv("DUMPCAST_IDENTITY").value_or(""), &config.identity);
  Override(flags.identity, &config.identity);
  if (config.identity.empty()) {
    const std::string standard = DefaultIdentityPath(env);
    std::error_code ec;
    if (!standard.empty() && std::filesystem::exists(standard, ec)) config.identity = standard;
  }
  config.deadline = flags.deadline;
  if (absl::Status status = CheckTls(&config.tls); !status.ok()) return status;
  return config;
}

}  // namespace dumpcast
