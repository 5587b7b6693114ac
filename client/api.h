// SPDX-License-Identifier: Apache-2.0
// The calls that commands make, with failover.
#ifndef DUMPCAST_CLIENT_API_H_
#define DUMPCAST_CLIENT_API_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/servers.h"

namespace dumpcast {

struct ListQuery {
  std::string parent;  // empty: all hosts
  std::string filter;
  size_t limit = 0;  // 0: all
};

struct DumpList {
  std::vector<v1::Dump> dumps;  // newest first
  bool more = false;            // there are older ones beyond the limit
};

struct DumpLog {
  std::string text;
  v1::LogSource source = v1::LOG_SOURCE_UNSPECIFIED;
};

// The resource name for what people type: a dump id, a prefix of one, or a resource name.
// INVALID_ARGUMENT otherwise.
absl::StatusOr<std::string> DumpName(absl::string_view id);

// Parent and filter for `--host` (host id of 32 hex digits, or a host name, `*` at its end allowed)
// together with the user's own filter. INVALID_ARGUMENT when the name has characters that no host
// name has.
absl::StatusOr<ListQuery> MakeQuery(absl::string_view host, absl::string_view filter);

absl::StatusOr<DumpList> ListDumps(Servers& servers, const ListQuery& query);
absl::StatusOr<std::vector<v1::Host>> ListHosts(Servers& servers);

// The first server that knows it answers.
absl::StatusOr<v1::Dump> GetDump(Servers& servers, const std::string& name);
// Of all servers, the one that holds most of it; that one is preferred afterwards. Asks no further
// once a server has the dump complete.
absl::StatusOr<v1::Dump> GetBestDump(Servers& servers, const std::string& name);

absl::StatusOr<DumpLog> ReadLog(Servers& servers, const std::string& name, uint32_t tail_lines);
absl::Status DeleteDump(Servers& servers, const std::string& name, bool force);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_API_H_
