// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/dump_text.h"
#include "client/json.h"
#include "client/text.h"

namespace dumpcast {
namespace {

std::string LastDumpText(const v1::Host& host, absl::Time now) {
  const size_t slash = host.last_dump().rfind('/');
  if (slash == std::string::npos) return "";
  std::string text = ShortId(absl::string_view(host.last_dump()).substr(slash + 1));
  if (const std::string kind = KindText(host.last_dump_live(), host.last_dump_test());
      kind != kPanicKind) {
    absl::StrAppend(&text, " (", kind, ")");
  }
  if (host.has_last_dump_time()) {
    absl::StrAppend(&text, " (", HumanAge(ToTime(true, host.last_dump_time()), now), ")");
  }
  return text;
}

}  // namespace

absl::StatusOr<ExitCode> RunHosts(const Context& context) {
  auto hosts = ListHosts(context.servers);
  if (!hosts.ok()) return hosts.status();
  const Environment& env = context.env;
  if (context.json) {
    *env.out << ToJsonArray(*hosts);
    return kExitOk;
  }
  if (hosts->empty()) {
    *env.err << "dumpcast: this relay has heard no host; arm one with dumpcast-arm\n";
    return kExitOk;
  }
  Table table({"HOST", "STATE", "HEARD", "PATHS", "KERNEL", "MEMORY", "LAST DUMP"});
  for (const v1::Host& host : *hosts) {
    table.Add({host.hostname().empty() ? ShortId(host.host_id()) : host.hostname(),
               HostStateText(host.state()),
               HumanAge(ToTime(host.has_last_heard_time(), host.last_heard_time()), env.now()),
               absl::StrCat(host.paths_heard(), " of ", host.paths()), host.kernel_release(),
               HumanBytes(host.memory_bytes()), LastDumpText(host, env.now())});
  }
  *env.out << table.Render(env.out_is_tty ? static_cast<size_t>(env.columns()) : 0);
  return kExitOk;
}

}  // namespace dumpcast
