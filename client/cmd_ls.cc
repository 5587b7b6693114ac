// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/dump_text.h"
#include "client/json.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr uint32_t kTableLimit = 50;

std::string HostText(const v1::Dump& dump) {
  return dump.hostname().empty() ? ShortId(dump.host_id()) : dump.hostname();
}

}  // namespace

absl::StatusOr<ExitCode> RunLs(const Context& context, const LsOptions& options) {
  auto query = MakeQuery(options.host, options.filter);
  if (!query.ok()) return query.status();
  query->limit = options.limit;
  if (options.limit == 0 && !options.all && !options.quiet && !context.json) {
    query->limit = kTableLimit;
  }
  auto list = ListDumps(context.servers, *query);
  if (!list.ok()) return list.status();
  const Environment& env = context.env;
  if (context.json) {
    *env.out << ToJsonArray(list->dumps);
    return kExitOk;
  }
  if (options.quiet) {
    for (const v1::Dump& dump : list->dumps) *env.out << Printable(dump.dump_id()) << "\n";
    return kExitOk;
  }
  if (list->dumps.empty()) {
    *env.err << "dumpcast: no dumps"
             << (query->parent.empty() && query->filter.empty() ? "" : " match") << "\n";
    return kExitOk;
  }
  Table table({"DUMP", "HOST", "KERNEL", "STATE", "SIZE", "WHEN", "REASON"});
  for (const v1::Dump& dump : list->dumps) {
    const uint64_t bytes = dump.elf_bytes() > 0 ? dump.elf_bytes() : dump.stored_bytes();
    table.Add({options.full_ids ? dump.dump_id() : ShortId(dump.dump_id()), HostText(dump),
               dump.kernel_release(), StateText(dump), HumanBytes(bytes),
               HumanAge(WhenCrashed(dump), env.now()), ReasonText(dump)});
  }
  *env.out << table.Render(env.out_is_tty ? static_cast<size_t>(env.columns()) : 0);
  if (list->more) {
    *env.err << "dumpcast: the newest " << list->dumps.size() << " are shown; --all for all\n";
  }
  return kExitOk;
}

}  // namespace dumpcast
