// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/crash_groups.h"
#include "client/dump_text.h"
#include "client/json.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr uint32_t kTableLimit = 50;

std::string HostText(const v1::Dump& dump) {
  return dump.hostname().empty() ? ShortId(dump.host_id()) : dump.hostname();
}

ExitCode PrintGroups(const Context& context, const std::vector<v1::Dump>& dumps) {
  const Environment& env = context.env;
  const std::vector<CrashGroup> groups = GroupBySignature(dumps);
  if (context.json) {
    *env.out << GroupsAsJson(groups);
    return kExitOk;
  }
  Table table({"SIGNATURE", "DUMPS", "COMPLETE", "HOSTS", "FIRST", "LAST", "NEWEST", "REASON"});
  for (const CrashGroup& group : groups) {
    table.Add({group.signature.empty() ? "none" : ShortId(group.signature),
               absl::StrCat(group.dumps), absl::StrCat(group.complete), absl::StrCat(group.hosts),
               HumanAge(group.first, env.now()), HumanAge(group.last, env.now()),
               ShortId(group.newest->dump_id()), ReasonText(*group.newest)});
  }
  *env.out << table.Render(env.out_is_tty ? static_cast<size_t>(env.columns()) : 0);
  return kExitOk;
}

}  // namespace

absl::StatusOr<ExitCode> RunLs(const Context& context, const LsOptions& options) {
  auto query = MakeQuery(options.host, options.filter);
  if (!query.ok()) return query.status();
  query->limit = options.limit;
  if (options.limit == 0 && !options.all && !options.quiet && !options.by_signature &&
      !context.json) {
    query->limit = kTableLimit;
  }
  auto list = ListDumps(context.servers, *query);
  if (!list.ok()) return list.status();
  const Environment& env = context.env;
  if (options.by_signature && (context.json || !list->dumps.empty())) {
    return PrintGroups(context, list->dumps);
  }
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
