// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/decrypted_dump.h"
#include "client/text.h"

namespace dumpcast {
namespace {

absl::string_view SourceText(v1::LogSource source) {
  return source == v1::LOG_SOURCE_MEMORY ? "memory" : "stream";
}

// The kernel writes UTF-8 mostly; what is not becomes U+FFFD, since JSON has no bytes.
std::string LogJson(const DumpLog& log) {
  std::vector<std::string> lines = absl::StrSplit(log.text, '\n');
  if (lines.back().empty()) lines.pop_back();
  const nlohmann::ordered_json json = {{"source", SourceText(log.source)}, {"lines", lines}};
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

absl::StatusOr<DumpLog> FetchLog(const Context& context, const v1::Dump& dump, uint32_t lines) {
  if (!dump.encrypted()) return ReadLog(context.servers, dump.name(), lines);
  const auto identity = ReadIdentity(context.identity);
  if (!identity.ok()) return identity.status();
  return ReadDecryptedLog(context.servers, dump.name(), *identity, lines);
}

}  // namespace

absl::StatusOr<ExitCode> RunLog(const Context& context, const LogOptions& options) {
  auto name = DumpName(options.id);
  if (!name.ok()) return name.status();
  auto dump = GetDump(context.servers, *name);
  if (!dump.ok()) return dump.status();
  auto log = FetchLog(context, *dump, options.lines);
  if (!log.ok()) return log.status();
  const Environment& env = context.env;
  if (context.json) {
    *env.out << LogJson(*log) << "\n";
    return kExitOk;
  }
  // A terminal gets no escape sequences from a crashed host; a file gets the bytes.
  *env.out << (env.out_is_tty ? Printable(log->text, /*keep_lines=*/true) : log->text);
  if (!log->text.empty() && log->text.back() != '\n') *env.out << "\n";
  if (log->source == v1::LOG_SOURCE_STREAM) {
    *env.err << "dumpcast: this is the log that the host sent ahead of its memory; the ring buffer "
                "itself has not arrived\n";
  }
  return kExitOk;
}

}  // namespace dumpcast
