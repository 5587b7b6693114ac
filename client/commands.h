// SPDX-License-Identifier: Apache-2.0
// One function per subcommand. Each returns an ExitCode, or an error that cli.cc prints and maps.
#ifndef DUMPCAST_CLIENT_COMMANDS_H_
#define DUMPCAST_CLIENT_COMMANDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/environment.h"
#include "client/exit_code.h"
#include "client/servers.h"

namespace dumpcast {

// What every command gets. Both must outlive the call.
struct Context {
  const Environment& env;
  Servers& servers;
  bool json = false;
  std::string identity;  // file that opens encrypted dumps; empty: none was named
};

struct LsOptions {
  std::string host;
  std::string filter;
  uint32_t limit = 0;  // 0: 50 in a table, all in JSON
  bool all = false;
  bool full_ids = false;
  bool quiet = false;  // dump ids only
  bool by_signature = false;
};
absl::StatusOr<ExitCode> RunLs(const Context& context, const LsOptions& options);

struct ShowOptions {
  std::string id;
  bool require_complete = false;
};
absl::StatusOr<ExitCode> RunShow(const Context& context, const ShowOptions& options);

struct LogOptions {
  std::string id;
  uint32_t lines = 0;  // 0: all
};
absl::StatusOr<ExitCode> RunLog(const Context& context, const LogOptions& options);

struct GetOptions {
  std::string id;
  std::string format = "elf";  // or "kdump"
  std::string path;            // empty: a name of its own here; "-": standard output
  bool force = false;
  bool quiet = false;
  bool require_complete = false;
  int retries = 5;
};
absl::StatusOr<ExitCode> RunGet(const Context& context, const GetOptions& options);

struct KeygenOptions {
  std::string path;  // empty: DefaultIdentityPath()
  bool force = false;
};
// Asks no server.
absl::StatusOr<ExitCode> RunKeygen(const Environment& env, bool json, const KeygenOptions& options);

struct HostkeyOptions {
  std::string host_id;
  std::string key_file;  // with cluster keys
  uint32_t epoch = 0;    // 0: the highest
};
// Asks no server.
absl::StatusOr<ExitCode> RunHostkey(const Environment& env, const HostkeyOptions& options);

struct ImportOptions {
  std::string file;
  std::string key_file, hostname, host_id, log_file;  // empty: as dumpcast-send finds them
  std::vector<std::string> recipients;
  uint32_t port = 26210;  // UDP, of the relays
  bool quiet = false;
  std::string program;  // empty: dumpcast-send beside this program, or of PATH
};
// Runs dumpcast-send for the relays at these gRPC addresses; its words go to this process's own
// streams.
absl::StatusOr<ExitCode> RunImport(const std::vector<std::string>& servers,
                                   const ImportOptions& options);

struct WatchOptions {
  std::string id;  // empty: every dump that matches
  std::string host;
  std::string filter;
  std::string until;  // "", "sealed" or "complete"
  absl::Duration timeout = absl::InfiniteDuration();
  bool require_complete = false;
};
absl::StatusOr<ExitCode> RunWatch(const Context& context, const WatchOptions& options);

absl::StatusOr<ExitCode> RunHosts(const Context& context);

struct RmOptions {
  std::vector<std::string> ids;
  bool yes = false;
  bool force = false;  // also dumps that are being received
};
absl::StatusOr<ExitCode> RunRm(const Context& context, const RmOptions& options);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_COMMANDS_H_
