// SPDX-License-Identifier: Apache-2.0
#include "client/download.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/crc32c.h"
#include "client/decrypted_dump.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"

namespace dumpcast {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(500);
constexpr absl::Duration kLongestPause = absl::Seconds(8);
constexpr uint64_t kStepBytes = 1 << 20;

// How one stream ended.
struct Outcome {
  absl::Status remote;  // OK: the file is whole
  absl::Status local;   // the sink's own error, which no server can mend
};

class Downloader {
 public:
  Downloader(Servers& servers, const DownloadRequest& request, DumpSink* sink, Progress* progress,
             const Environment& env)
      : servers_(servers), request_(request), sink_(sink), progress_(progress), env_(env) {}

  absl::StatusOr<DownloadResult> Run();

 private:
  Outcome ReadFrom(Server& server);
  // The same for an encrypted dump.
  Outcome DecryptFrom(Server& server);
  // Takes note of the view that a server has; both may fail.
  void BeginView(const std::string& etag, uint64_t file_bytes, Outcome* outcome);
  absl::Status CheckChunk(const v1::ReadDumpResponse& chunk) const;
  // Asks each server once, unless the file is whole before. The error is one that ends everything;
  // what another round may mend is in errors_.
  absl::Status Round();
  bool whole() const { return !sink_->etag().empty() && sink_->offset() == sink_->file_bytes(); }

  Servers& servers_;
  const DownloadRequest& request_;
  DumpSink* sink_;
  Progress* progress_;
  const Environment& env_;
  DownloadResult result_;
  ServerErrors errors_;        // of this round
  bool view_changed_ = false;  // some server answered this round, and has another view
  bool moved_ = false;         // this round brought bytes
};

absl::Status Downloader::CheckChunk(const v1::ReadDumpResponse& chunk) const {
  if (chunk.offset() != sink_->offset()) {
    return absl::DataLossError(
        absl::StrCat("sent offset ", chunk.offset(), ", wanted ", sink_->offset()));
  }
  if (chunk.data().size() > sink_->file_bytes() - sink_->offset()) {
    return absl::DataLossError(
        absl::StrCat("sent more than the file's ", sink_->file_bytes(), " bytes"));
  }
  const uint32_t crc = Crc32c(chunk.data());
  if (crc != chunk.crc32c()) {
    return absl::DataLossError(absl::StrFormat("%d bytes at offset %d have CRC-32C %08x, want %08x",
                                               chunk.data().size(), chunk.offset(), crc,
                                               chunk.crc32c()));
  }
  return absl::OkStatus();
}

void Downloader::BeginView(const std::string& etag, uint64_t file_bytes, Outcome* outcome) {
  if (sink_->etag().empty()) {
    outcome->local = sink_->Begin(etag, file_bytes);
  } else if (etag != sink_->etag() || file_bytes != sink_->file_bytes()) {
    outcome->remote = absl::AbortedError("sent another view than the one asked for");
  }
}

Outcome Downloader::ReadFrom(Server& server) {
  v1::ReadDumpRequest request;
  request.set_name(request_.name);
  request.set_format(request_.format);
  request.set_offset(sink_->offset());
  request.set_etag(sink_->etag());
  grpc::ClientContext context;
  Watchdog watchdog(&context, servers_.deadline());
  auto reader = server.dumps->ReadDump(&context, request);
  v1::ReadDumpResponse chunk;
  Outcome outcome;
  bool first = true;
  while (outcome.remote.ok() && outcome.local.ok()) {
    watchdog.Arm();
    const bool more = reader->Read(&chunk);
    watchdog.Disarm();
    if (!more) break;
    if (first) {
      first = false;
      if (chunk.etag().empty()) {
        outcome.remote = absl::InternalError("named no etag");
      } else {
        BeginView(chunk.etag(), chunk.file_bytes(), &outcome);
      }
      if (!outcome.remote.ok() || !outcome.local.ok()) break;
    }
    outcome.remote = CheckChunk(chunk);
    if (!outcome.remote.ok()) break;
    outcome.local = sink_->Write(chunk.data());
    if (outcome.local.ok() && !chunk.data().empty()) {
      moved_ = true;
      progress_->Update(sink_->offset(), sink_->file_bytes());
    }
  }
  if (!outcome.remote.ok() || !outcome.local.ok()) {
    context.TryCancel();
    (void)reader->Finish();  // the reason is known
    return outcome;
  }
  outcome.remote = FromGrpc(reader->Finish());
  if (watchdog.fired()) {
    outcome.remote = absl::DeadlineExceededError(
        absl::StrCat("silent for ", absl::FormatDuration(servers_.deadline())));
  } else if (outcome.remote.ok() && !whole()) {
    outcome.remote = absl::DataLossError(
        absl::StrCat("ended at byte ", sink_->offset(), " of ", sink_->file_bytes()));
  }
  // What came after the last byte does not matter.
  if (whole()) outcome.remote = absl::OkStatus();
  return outcome;
}

Outcome Downloader::DecryptFrom(Server& server) {
  Outcome outcome;
  const auto dump = OpenDecrypted(servers_, &server, request_.name, *request_.identity);
  if (!dump.ok()) return {dump.status(), absl::OkStatus()};
  // Known before the view is made, which may take a while.
  if (!sink_->etag().empty() && !absl::StartsWith(sink_->etag(), absl::StrCat(dump->etag, "-"))) {
    return {absl::AbortedError("holds other blocks than those read so far"), absl::OkStatus()};
  }
  const bool kdump = request_.format == v1::DUMP_FORMAT_KDUMP;
  const auto file = kdump ? MakeKdumpView(dump->memory) : MakeElfView(dump->memory);
  if (!file.ok()) return {file.status(), absl::OkStatus()};
  const auto etag = DecryptedFileEtag(*dump, kdump ? "kdump" : "elf", **file);
  if (!etag.ok()) return {etag.status(), absl::OkStatus()};
  BeginView(*etag, (*file)->size(), &outcome);
  std::string data;
  while (outcome.remote.ok() && outcome.local.ok() && !whole()) {
    data.resize(std::min(kStepBytes, sink_->file_bytes() - sink_->offset()));
    outcome.remote = (*file)->Read(sink_->offset(), data.size(), data.data());
    if (!outcome.remote.ok()) break;
    outcome.local = sink_->Write(data);
    if (!outcome.local.ok()) break;
    moved_ = true;
    progress_->Update(sink_->offset(), sink_->file_bytes());
  }
  return outcome;
}

absl::Status Downloader::Round() {
  errors_.clear();
  view_changed_ = moved_ = false;
  size_t preferred = 0;
  for (size_t i = 0; i < servers_.size(); ++i) {
    Server& server = servers_.At(i);
    const uint64_t before = sink_->offset();
    Outcome outcome = request_.identity == nullptr ? ReadFrom(server) : DecryptFrom(server);
    if (!outcome.local.ok()) return outcome.local;
    if (outcome.remote.ok()) {
      result_.server = server.address;
      return absl::OkStatus();
    }
    if (absl::IsAborted(outcome.remote) || absl::IsOutOfRange(outcome.remote)) {
      view_changed_ = true;
    } else if (!MayFailOver(outcome.remote)) {
      return absl::Status(outcome.remote.code(),
                          absl::StrCat(server.address, ": ", outcome.remote.message()));
    }
    if (sink_->offset() > before) {
      preferred = i;
      progress_->Note(
          absl::StrCat(server.address, ": ", absl::StatusCodeToString(outcome.remote.code()), ": ",
                       outcome.remote.message(), "; going on at byte ", sink_->offset()));
    }
    errors_.Add(server, outcome.remote);
  }
  servers_.Prefer(preferred);
  return absl::OkStatus();
}

absl::StatusOr<DownloadResult> Downloader::Run() {
  result_.resumed_at = sink_->offset();
  int stuck = 0;
  absl::Duration pause = kFirstPause;
  while (!whole()) {
    if (absl::Status fatal = Round(); !fatal.ok()) return fatal;
    if (whole()) break;
    if (moved_) {
      stuck = 0;
      pause = kFirstPause;
      continue;
    }
    if (view_changed_) {
      if (result_.restarts == request_.restarts) {
        return absl::AbortedError(absl::StrCat(
            "the dump changed ", result_.restarts + 1,
            " times while it was being fetched; wait with `dumpcast watch --until sealed`"));
      }
      ++result_.restarts;
      result_.resumed_at = 0;
      if (absl::Status restarted = sink_->Restart(); !restarted.ok()) return restarted;
      progress_->Note(
          "the dump has changed at the relay (repair found more of it): "
          "starting again from its first byte");
      continue;
    }
    // Nobody knows it: waiting does not help.
    const absl::Status status = errors_.Join();
    if (absl::IsNotFound(status) || ++stuck > request_.retries) return status;
    progress_->Note(absl::StrCat("no server goes on at byte ", sink_->offset(), ", trying again (",
                                 stuck, " of ", request_.retries, ")"));
    env_.sleep(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
  absl::Status finished = sink_->Finish();
  progress_->Finish();
  if (!finished.ok()) return finished;
  return result_;
}

}  // namespace

absl::StatusOr<DownloadResult> Download(Servers& servers, const DownloadRequest& request,
                                        DumpSink* sink, Progress* progress,
                                        const Environment& env) {
  return Downloader(servers, request, sink, progress, env).Run();
}

}  // namespace dumpcast
