// SPDX-License-Identifier: Apache-2.0
#include "store/service/dumps_service.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/service/crc32c.h"
#include "store/service/filter.h"
#include "store/service/grpc_status.h"
#include "store/service/names.h"
#include "store/service/page_token.h"
#include "store/vmcore/block_source.h"
#include "store/vmcore/log_reader.h"

namespace dumpcast {
namespace {

constexpr uint64_t kChunkBytes = 1 << 20;
constexpr int kRunsPerMessage = 32768;
// What a block takes in a message beside its bytes, about.
constexpr uint64_t kBlockOverheadBytes = 32;
constexpr uint32_t kDefaultWatchMs = 500;
constexpr uint32_t kLeastWatchMs = 50;
// How soon a watch notices that its caller has gone.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(50);

std::string BigEndian64(uint64_t value) {
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}

// Newest crash first; what has not told its crash yet by when it began to arrive.
std::string SortKey(const v1::Dump& dump) {
  const auto& time = dump.has_crash_time() ? dump.crash_time() : dump.receive_time();
  const int64_t ns = time.seconds() * 1'000'000'000 + time.nanos();
  return BigEndian64(~static_cast<uint64_t>(ns)) + dump.host_id() + dump.dump_id();
}

std::string Query(const std::string& parent, const std::string& filter) {
  return parent + '\0' + filter;
}

bool InParent(const v1::DumpRecord& record, const std::optional<Id16>& parent) {
  return !record.deleted() && (!parent || KeyOf(record).host_id == *parent);
}

// Where the last `lines` lines of a text begin; 0 lines mean all.
size_t TailStart(const std::string& text, uint32_t lines) {
  if (lines == 0 || text.empty()) return 0;
  size_t at = text.size() - 1;  // the last newline ends the last line
  while (lines-- != 0) {
    at = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
    if (at == std::string::npos) return 0;
  }
  return at + 1;
}

// The dump without what changes by itself.
std::string Essence(v1::Dump dump) {
  for (v1::Holder& holder : *dump.mutable_holders()) holder.clear_update_time();
  return dump.SerializeAsString();
}

}  // namespace

grpc::Status DumpsService::ListDumps(grpc::ServerContext*, const v1::ListDumpsRequest* request,
                                     v1::ListDumpsResponse* response) {
  return ToGrpc(List(*request, response));
}

absl::Status DumpsService::List(const v1::ListDumpsRequest& request,
                                v1::ListDumpsResponse* response) {
  const auto parent = ParseParent(request.parent());
  if (!parent.ok()) return parent.status();
  const auto filter = DumpFilter::Parse(request.filter());
  if (!filter.ok()) return filter.status();
  const auto page_size = CheckPageSize(request.page_size());
  if (!page_size.ok()) return page_size.status();
  const std::string query = Query(request.parent(), request.filter());
  const auto after = ParsePageToken(request.page_token(), query);
  if (!after.ok()) return after.status();

  std::vector<std::pair<std::string, v1::Dump>> dumps;
  for (const v1::DumpRecord& record : catalog_->options().store->ListDumps()) {
    if (!InParent(record, *parent)) continue;
    absl::StatusOr<v1::Dump> dump = catalog_->Describe(record);
    if (absl::IsNotFound(dump.status())) continue;  // deleted meanwhile
    if (!dump.ok()) return dump.status();
    std::string key = SortKey(*dump);
    if (!filter->Matches(*dump) || key <= *after) continue;
    dumps.emplace_back(std::move(key), *std::move(dump));
  }
  std::sort(dumps.begin(), dumps.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  if (dumps.size() > *page_size) {
    dumps.resize(*page_size);
    response->set_next_page_token(MakePageToken(dumps.back().first, query));
  }
  for (auto& [key, dump] : dumps) *response->add_dumps() = std::move(dump);
  return absl::OkStatus();
}

grpc::Status DumpsService::GetDump(grpc::ServerContext*, const v1::GetDumpRequest* request,
                                   v1::Dump* response) {
  const absl::StatusOr<v1::DumpRecord> record =
      ResolveDump(*catalog_->options().store, request->name());
  if (!record.ok()) return ToGrpc(record.status());
  absl::StatusOr<v1::Dump> dump = catalog_->Describe(*record);
  if (!dump.ok()) return ToGrpc(dump.status());
  *response = *std::move(dump);
  return grpc::Status::OK;
}

grpc::Status DumpsService::ReadDump(grpc::ServerContext* context,
                                    const v1::ReadDumpRequest* request,
                                    grpc::ServerWriter<v1::ReadDumpResponse>* writer) {
  return ToGrpc(Read(context, *request, writer));
}

absl::Status DumpsService::Read(grpc::ServerContext* context, const v1::ReadDumpRequest& request,
                                grpc::ServerWriter<v1::ReadDumpResponse>* writer) {
  const v1::DumpFormat format =
      request.format() == v1::DUMP_FORMAT_UNSPECIFIED ? v1::DUMP_FORMAT_ELF : request.format();
  if (format != v1::DUMP_FORMAT_ELF && format != v1::DUMP_FORMAT_KDUMP) {
    return absl::InvalidArgumentError(absl::StrCat("format: wanted ELF (1) or KDUMP (2), got ",
                                                   static_cast<int>(request.format())));
  }
  const absl::StatusOr<v1::DumpRecord> record =
      ResolveDump(*catalog_->options().store, request.name());
  if (!record.ok()) return record.status();
  const DumpKey dump = KeyOf(*record);
  const absl::StatusOr<std::shared_ptr<DumpViews>> views = catalog_->views().Open(dump);
  if (absl::IsNotFound(views.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat(dump.ResourceName(), " cannot be opened yet: ", views.status().message(),
                     "; wait, or ask another relay"));
  }
  if (!views.ok()) return views.status();
  const std::string etag = DumpViews::FileEtag((*views)->etag(), format);
  if (!request.etag().empty() && request.etag() != etag) {
    return absl::AbortedError(absl::StrCat("the view has changed since (etag \"", request.etag(),
                                           "\", now \"", etag,
                                           "\"): blocks arrived; read again from the beginning"));
  }
  const absl::StatusOr<std::shared_ptr<const FileView>> file = (*views)->File(format);
  if (!file.ok()) return file.status();
  const uint64_t size = (*file)->size();
  if (request.offset() > size) {
    return absl::OutOfRangeError(
        absl::StrCat("offset ", request.offset(), " is beyond the file's ", size, " bytes"));
  }
  uint64_t left = size - request.offset();
  if (request.length() != 0) left = std::min(left, request.length());

  uint64_t offset = request.offset();
  v1::ReadDumpResponse response;
  response.set_file_bytes(size);
  response.set_etag(etag);
  do {
    if (context->IsCancelled()) return absl::CancelledError("the caller has gone");
    const uint64_t take = std::min(left, kChunkBytes);
    response.set_offset(offset);
    std::string* data = response.mutable_data();
    data->resize(take);
    if (absl::Status s = (*file)->Read(offset, take, data->data()); !s.ok()) return s;
    response.set_crc32c(service::Crc32c(*data));
    if (!writer->Write(response)) return absl::CancelledError("the caller has gone");
    response.clear_file_bytes();
    response.clear_etag();
    offset += take;
    left -= take;
  } while (left != 0);
  return absl::OkStatus();
}

grpc::Status DumpsService::ReadLog(grpc::ServerContext* context, const v1::ReadLogRequest* request,
                                   grpc::ServerWriter<v1::ReadLogResponse>* writer) {
  return ToGrpc(Log(context, *request, writer));
}

absl::Status DumpsService::Log(grpc::ServerContext* context, const v1::ReadLogRequest& request,
                               grpc::ServerWriter<v1::ReadLogResponse>* writer) {
  const absl::StatusOr<v1::DumpRecord> record =
      ResolveDump(*catalog_->options().store, request.name());
  if (!record.ok()) return record.status();
  const DumpKey dump = KeyOf(*record);
  const absl::StatusOr<std::shared_ptr<DumpViews>> views = catalog_->views().Open(dump);
  if (absl::IsFailedPrecondition(views.status())) return views.status();
  if (!views.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the log of ", dump.ResourceName(), " has not arrived yet: ", views.status().message()));
  }
  const absl::StatusOr<KernelLog> log = ReadKernelLog((*views)->memory());
  if (!log.ok()) return log.status();
  v1::ReadLogResponse response;
  response.set_source(log->origin == LogOrigin::kMemory ? v1::LOG_SOURCE_MEMORY
                                                        : v1::LOG_SOURCE_STREAM);
  size_t at = TailStart(log->text, request.tail_lines());
  while (at < log->text.size()) {
    if (context->IsCancelled()) return absl::CancelledError("the caller has gone");
    size_t end = log->text.size();
    if (end - at > kChunkBytes) {
      // Whole lines; a line longer than a chunk goes in pieces.
      end = at + kChunkBytes;
      const size_t newline = log->text.rfind('\n', end - 1);
      if (newline != std::string::npos && newline >= at) end = newline + 1;
    }
    response.set_text(log->text.substr(at, end - at));
    if (!writer->Write(response)) return absl::CancelledError("the caller has gone");
    at = end;
  }
  return absl::OkStatus();
}

// The blocks that a request of ListHeldRuns or ReadBlocks means.
template <typename Request>
absl::StatusOr<std::shared_ptr<const OpenedBlocks>> DumpsService::OpenBlocks(
    const Request& request) {
  if (request.block_class() >= DCAST_CLASSES) {
    return absl::InvalidArgumentError(absl::StrCat("block_class: wanted 0 to ", DCAST_CLASSES - 1,
                                                   ", got ", request.block_class()));
  }
  const absl::StatusOr<v1::DumpRecord> record =
      ResolveDump(*catalog_->options().store, request.name());
  if (!record.ok()) return record.status();
  return catalog_->blocks().Open(KeyOf(*record), request.etag());
}

grpc::Status DumpsService::ListHeldRuns(grpc::ServerContext* context,
                                        const v1::ListHeldRunsRequest* request,
                                        grpc::ServerWriter<v1::ListHeldRunsResponse>* writer) {
  return ToGrpc(SendRuns(context, *request, writer));
}

absl::Status DumpsService::SendRuns(grpc::ServerContext* context,
                                    const v1::ListHeldRunsRequest& request,
                                    grpc::ServerWriter<v1::ListHeldRunsResponse>* writer) {
  const absl::StatusOr<std::shared_ptr<const OpenedBlocks>> blocks = OpenBlocks(request);
  if (!blocks.ok()) return blocks.status();
  const absl::StatusOr<std::vector<HeldRun>> runs =
      (*blocks)->source->HeldRuns(static_cast<uint8_t>(request.block_class()), 0, ~uint64_t{0});
  if (!runs.ok()) return runs.status();
  v1::ListHeldRunsResponse response;
  response.set_etag(DumpViews::Etag((*blocks)->keys, (*blocks)->key_sum));
  auto run = runs->begin();
  do {
    if (context->IsCancelled()) return absl::CancelledError("the caller has gone");
    for (; run != runs->end() && response.runs_size() < kRunsPerMessage; ++run) {
      v1::HeldRun* out = response.add_runs();
      out->set_first(run->first);
      out->set_count(run->count);
    }
    if (!writer->Write(response)) return absl::CancelledError("the caller has gone");
    response.Clear();
  } while (run != runs->end());
  return absl::OkStatus();
}

grpc::Status DumpsService::ReadBlocks(grpc::ServerContext* context,
                                      const v1::ReadBlocksRequest* request,
                                      grpc::ServerWriter<v1::ReadBlocksResponse>* writer) {
  return ToGrpc(SendBlocks(context, *request, writer));
}

absl::Status DumpsService::SendBlocks(grpc::ServerContext* context,
                                      const v1::ReadBlocksRequest& request,
                                      grpc::ServerWriter<v1::ReadBlocksResponse>* writer) {
  if (request.last() < request.first()) {
    return absl::InvalidArgumentError(absl::StrCat("last: wanted at least first, which is ",
                                                   request.first(), ", got ", request.last()));
  }
  const absl::StatusOr<std::shared_ptr<const OpenedBlocks>> blocks = OpenBlocks(request);
  if (!blocks.ok()) return blocks.status();
  const BlockSource& source = *(*blocks)->source;
  const auto block_class = static_cast<uint8_t>(request.block_class());
  const size_t prefix = request.prefix_bytes();
  const absl::StatusOr<std::vector<HeldRun>> runs =
      source.HeldRuns(block_class, request.first(), request.last());
  if (!runs.ok()) return runs.status();
  v1::ReadBlocksResponse response;
  response.set_etag(DumpViews::Etag((*blocks)->keys, (*blocks)->key_sum));
  uint64_t bytes = 0;
  for (const HeldRun& run : *runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      v1::StoredBlock* block = response.add_blocks();
      block->set_number(run.first + i);
      std::string* encoded = block->mutable_encoded();
      absl::StatusOr<BlockState> state =
          prefix != 0 ? source.ReadBlockHeader(block_class, block->number(), encoded)
                      : source.ReadBlock(block_class, block->number(), encoded);
      if (state.ok() && *state == BlockState::kHeld && encoded->size() < prefix) {
        state = source.ReadBlock(block_class, block->number(), encoded);
      }
      if (!state.ok()) return state.status();
      if (prefix != 0 && encoded->size() > prefix) encoded->resize(prefix);
      block->set_crc32c(service::Crc32c(*encoded));
      bytes += encoded->size() + kBlockOverheadBytes;
      if (bytes < kChunkBytes) continue;
      if (context->IsCancelled() || !writer->Write(response)) {
        return absl::CancelledError("the caller has gone");
      }
      response.Clear();
      bytes = 0;
    }
  }
  // The last, or the only one, which names the set.
  if ((response.blocks_size() != 0 || !response.etag().empty()) && !writer->Write(response)) {
    return absl::CancelledError("the caller has gone");
  }
  return absl::OkStatus();
}

grpc::Status DumpsService::WatchDumps(grpc::ServerContext* context,
                                      const v1::WatchDumpsRequest* request,
                                      grpc::ServerWriter<v1::WatchDumpsResponse>* writer) {
  return ToGrpc(Watch(context, *request, writer));
}

absl::Status DumpsService::Watch(grpc::ServerContext* context, const v1::WatchDumpsRequest& request,
                                 grpc::ServerWriter<v1::WatchDumpsResponse>* writer) {
  const auto parent = ParseParent(request.parent());
  if (!parent.ok()) return parent.status();
  const auto filter = DumpFilter::Parse(request.filter());
  if (!filter.ok()) return filter.status();
  const absl::Duration interval = absl::Milliseconds(
      request.min_interval_ms() == 0 ? kDefaultWatchMs
                                     : std::max(request.min_interval_ms(), kLeastWatchMs));
  std::map<DumpKey, std::string> shown;  // essence of what was sent last
  for (;;) {
    for (const v1::DumpRecord& record : catalog_->options().store->ListDumps()) {
      if (context->IsCancelled()) return absl::CancelledError("the caller has gone");
      const DumpKey key = KeyOf(record);
      const auto before = shown.find(key);
      v1::WatchDumpsResponse response;
      if (record.deleted()) {
        if (before == shown.end()) continue;
        shown.erase(before);
        response.mutable_dump()->set_name(key.ResourceName());
        response.set_deleted(true);
      } else {
        if (!InParent(record, *parent)) continue;
        absl::StatusOr<v1::Dump> dump = catalog_->Describe(record);
        if (absl::IsNotFound(dump.status())) continue;
        if (!dump.ok()) return dump.status();
        // One that was shown and matches no more is shown once more: a watcher of
        // `state=receiving` wants to see the end.
        const bool matches = filter->Matches(*dump);
        if (!matches && before == shown.end()) continue;
        std::string essence = Essence(*dump);
        if (before != shown.end() && before->second == essence) continue;
        if (matches) {
          shown[key] = std::move(essence);
        } else {
          shown.erase(before);
        }
        *response.mutable_dump() = *std::move(dump);
      }
      if (!writer->Write(response)) return absl::CancelledError("the caller has gone");
    }
    for (absl::Duration waited; waited < interval; waited += kCancelPoll) {
      if (context->IsCancelled()) return absl::CancelledError("the caller has gone");
      absl::SleepFor(std::min(kCancelPoll, interval - waited));
    }
  }
}

grpc::Status DumpsService::DeleteDump(grpc::ServerContext*, const v1::DeleteDumpRequest* request,
                                      v1::DeleteDumpResponse*) {
  return ToGrpc(Delete(*request));
}

absl::Status DumpsService::Delete(const v1::DeleteDumpRequest& request) {
  const absl::StatusOr<DumpKey> dump = ParseDumpName(request.name());
  if (!dump.ok()) return dump.status();
  Store& store = *catalog_->options().store;
  const absl::StatusOr<v1::DumpRecord> record = ResolveDump(store, request.name());
  if (!record.ok()) return record.status();
  if (record->seal_unix_ns() == 0 && !request.force()) {
    return absl::FailedPreconditionError(
        absl::StrCat(dump->ResourceName(),
                     " is still being received: wait until it is sealed, or delete it with force"));
  }
  if (absl::Status s = store.DeleteDump(*dump, catalog_->options().now_unix_ns()); !s.ok()) {
    return s;
  }
  catalog_->ForgetViews();
  if (on_delete_) on_delete_(*dump);
  return absl::OkStatus();
}

}  // namespace dumpcast
