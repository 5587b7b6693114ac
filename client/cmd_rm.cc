// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/dump_text.h"
#include "client/text.h"

namespace dumpcast {
namespace {

// Deleting is for ever and on every relay, so that it takes a word from a person, or --yes.
absl::StatusOr<bool> Confirm(const Environment& env, const std::vector<v1::Dump>& dumps) {
  if (!env.in_is_tty) {
    return absl::InvalidArgumentError(
        "nobody to ask whether to delete: standard input is no terminal; use --yes");
  }
  Table table({"DUMP", "HOST", "STATE", "WHEN", "REASON"});
  for (const v1::Dump& dump : dumps) {
    table.Add({dump.dump_id(), dump.hostname(), StateText(dump),
               HumanAge(WhenCrashed(dump), env.now()), dump.reason()});
  }
  *env.err << table.Render(static_cast<size_t>(env.columns()))
           << "Delete on every relay, for ever? [y/N] " << std::flush;
  std::string answer;
  std::getline(*env.in, answer);
  answer = absl::AsciiStrToLower(absl::StripAsciiWhitespace(answer));
  return answer == "y" || answer == "yes";
}

}  // namespace

absl::StatusOr<ExitCode> RunRm(const Context& context, const RmOptions& options) {
  const Environment& env = context.env;
  // All names are known before the first dump is gone.
  std::vector<v1::Dump> dumps;
  for (const std::string& id : options.ids) {
    auto name = DumpName(id);
    if (!name.ok()) return name.status();
    auto dump = GetDump(context.servers, *name);
    if (!dump.ok()) {
      return absl::Status(dump.status().code(), absl::StrCat(id, ": ", dump.status().message()));
    }
    dumps.push_back(*std::move(dump));
  }
  if (!options.yes) {
    auto sure = Confirm(env, dumps);
    if (!sure.ok()) return sure.status();
    if (!*sure) {
      *env.err << "dumpcast: nothing deleted\n";
      return kExitFailure;
    }
  }
  auto deleted = nlohmann::ordered_json::array();
  absl::Status status;
  for (const v1::Dump& dump : dumps) {
    status = DeleteDump(context.servers, dump.name(), options.force);
    if (!status.ok()) {
      status = absl::Status(status.code(), absl::StrCat(dump.dump_id(), ": ", status.message()));
      break;
    }
    deleted.push_back(dump.name());
    if (!context.json) *env.out << "deleted " << Printable(dump.name()) << "\n";
  }
  if (context.json) {
    const nlohmann::ordered_json json = {{"deleted", deleted}};
    *env.out << json.dump() << "\n";
  }
  if (!status.ok()) return status;
  return kExitOk;
}

}  // namespace dumpcast
