// SPDX-License-Identifier: Apache-2.0
// Which relays to ask, how, and as whom: flags over environment over file over defaults.
#ifndef DUMPCAST_CLIENT_CONFIG_H_
#define DUMPCAST_CLIENT_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/environment.h"

namespace dumpcast {

inline constexpr uint16_t kDefaultGrpcPort = 26211;

struct TlsConfig {
  bool enabled = false;   // set by any of the others, too
  std::string ca_path;    // PEM; empty: the system's roots
  std::string cert_path;  // PEM chain of the client, with key_path
  std::string key_path;
  std::string server_name;  // expected in the relay's certificate instead of the address
};

// Fields that were not given are empty.
struct ClientConfig {
  std::vector<std::string> servers;  // after LoadConfig(): gRPC targets with a port, at least one
  TlsConfig tls;
  // Path of the file that opens encrypted dumps.
  std::string identity;
  // How long one server has for one answer, or between two messages of a file.
  absl::Duration deadline = absl::Seconds(10);
};

// `host`, `host:port`, `1.2.3.4`, `[v6]`, `[v6]:port`, `v6`, or `unix:path` as a gRPC target.
// INVALID_ARGUMENT says what was wanted.
absl::StatusOr<std::string> ParseServer(absl::string_view text);

// Reads client.toml. NOT_FOUND when there is no such file, INVALID_ARGUMENT with file, line and
// the remedy for anything it does not understand.
absl::StatusOr<ClientConfig> ReadConfigFile(const std::string& path);

// $DUMPCAST_CONFIG, else $XDG_CONFIG_HOME or ~/.config, then dumpcast/client.toml. Empty without
// a home.
std::string DefaultConfigPath(const Environment& env);

// Where `dumpcast keygen` writes to: $XDG_CONFIG_HOME or ~/.config, then dumpcast/identity. Empty
// without a home.
std::string DefaultIdentityPath(const Environment& env);

// `flags` holds what the command line gave; `config_path` is empty for the default file, which may
// be missing (a named one may not). Servers come from the first source that has any. The identity
// is that of flags, $DUMPCAST_IDENTITY, the file, or DefaultIdentityPath() if there is such a file;
// it is not read here.
absl::StatusOr<ClientConfig> LoadConfig(const ClientConfig& flags, const std::string& config_path,
                                        const Environment& env);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_CONFIG_H_
