// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/decrypted_dump.h"
#include "client/download.h"
#include "client/dump_sink.h"
#include "client/dump_text.h"
#include "client/progress.h"
#include "client/text.h"

namespace dumpcast {
namespace {

// A host names itself: nothing of it may leave the folder or look like a flag.
std::string DefaultFileName(const v1::Dump& dump, const std::string& format) {
  std::string host = dump.hostname().empty() ? ShortId(dump.host_id()) : dump.hostname();
  for (char& c : host) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.') c = '_';
  }
  return absl::StrCat("vmcore-", host.substr(0, 64), "-", ShortId(dump.dump_id()), ".", format);
}

// Sinks and what they need to live.
struct Target {
  std::unique_ptr<std::ofstream> device;
  std::unique_ptr<DumpSink> sink;
  std::string shown;  // for people and JSON
};

absl::StatusOr<Target> OpenTarget(const Context& context, const GetOptions& options,
                                  const v1::Dump& dump, Progress* progress) {
  Target target;
  if (options.path == "-") {
    target.shown = "-";
    target.sink = std::make_unique<StreamSink>(context.env.out, "standard output");
    return target;
  }
  namespace fs = std::filesystem;
  fs::path path = options.path.empty() ? DefaultFileName(dump, options.format) : options.path;
  std::error_code ec;
  if (fs::is_directory(path, ec)) path /= DefaultFileName(dump, options.format);
  target.shown = path.string();
  if (fs::exists(path, ec) && !fs::is_regular_file(path, ec)) {
    target.device = std::make_unique<std::ofstream>(path, std::ios::binary);
    if (!*target.device) {
      return absl::PermissionDeniedError(absl::StrCat("cannot write to ", target.shown));
    }
    target.sink = std::make_unique<StreamSink>(target.device.get(), target.shown);
    return target;
  }
  auto part =
      PartFile::Open(target.shown, {.name = dump.name(), .format = options.format}, options.force);
  if (!part.ok()) return part.status();
  if ((*part)->replaced_other()) {
    progress->Note(absl::StrCat(
        target.shown, ".part was of another dump or format: starting from its first byte"));
  } else if ((*part)->offset() > 0) {
    progress->Note(
        absl::StrCat("going on with ", target.shown, ".part at byte ", (*part)->offset()));
  }
  target.sink = *std::move(part);
  return target;
}

std::string ResultJson(const v1::Dump& dump, const GetOptions& options, const Target& target,
                       const DownloadResult& result) {
  const nlohmann::ordered_json json = {
      {"name", dump.name()},
      {"file", target.shown},
      {"format", options.format},
      {"bytes", target.sink->file_bytes()},
      {"etag", target.sink->etag()},
      {"complete", dump.state() == v1::DUMP_STATE_COMPLETE},
      {"resumed_at", result.resumed_at},
      {"restarts", result.restarts},
      {"server", result.server},
  };
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<ExitCode> RunGet(const Context& context, const GetOptions& options) {
  const Environment& env = context.env;
  auto name = DumpName(options.id);
  if (!name.ok()) return name.status();
  const bool to_stdout = options.path == "-";
  if (to_stdout && context.json) {
    return absl::InvalidArgumentError("-O - and -o json both want standard output: drop one");
  }
  if (to_stdout && env.out_is_tty && !options.force) {
    return absl::InvalidArgumentError(
        "a vmcore is no text for a terminal: redirect the output, or use --force");
  }
  auto dump = GetBestDump(context.servers, *name);
  if (!dump.ok()) return dump.status();
  std::optional<Identity> identity;
  if (dump->encrypted()) {
    auto read = ReadIdentity(context.identity);
    if (!read.ok()) return read.status();
    identity = *std::move(read);
  }
  Progress progress(&env, options.quiet);
  if (std::string missing = MissingText(*dump); !missing.empty()) {
    if (options.require_complete) {
      progress.Note(absl::StrCat("nothing fetched, --require-complete: the dump is ", missing));
      return kExitIncomplete;
    }
    progress.Note(absl::StrCat("warning: the dump is ", missing));
  }
  const bool kdump = options.format == "kdump";
  auto target = OpenTarget(context, options, *dump, &progress);
  if (!target.ok()) return target.status();
  const DownloadRequest request = {
      .name = dump->name(),
      .format = kdump ? v1::DUMP_FORMAT_KDUMP : v1::DUMP_FORMAT_ELF,
      .identity = identity ? &*identity : nullptr,
      .retries = options.retries,
  };
  auto result = Download(context.servers, request, target->sink.get(), &progress, env);
  if (!result.ok()) {
    progress.Finish();
    if (!to_stdout && target->device == nullptr && target->sink->offset() > 0) {
      progress.Note(absl::StrCat(target->sink->offset(), " bytes stay in ", target->shown,
                                 ".part; the same command goes on from there"));
    }
    return result.status();
  }
  if (context.json) {
    *env.out << ResultJson(*dump, options, *target, *result) << "\n";
  } else if (!to_stdout) {
    *env.out << Printable(target->shown) << "  " << HumanBytes(target->sink->file_bytes()) << "  "
             << StateText(*dump) << "\n";
  }
  return kExitOk;
}

}  // namespace dumpcast
