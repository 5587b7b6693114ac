// SPDX-License-Identifier: Apache-2.0
#include "store/service/replication_service.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/replicate/block_map.h"
#include "store/replicate/peer.h"
#include "store/service/grpc_status.h"

namespace dumpcast {
namespace {

constexpr size_t kListedPerMessage = 4096;
constexpr size_t kFetchBytes = 1 << 20;
constexpr int kMaxRanges = 65536;
constexpr int kMaxSymbolsOf = 4096;  // blocks
constexpr size_t kSymbolBytes = 16 << 20;

template <typename Request>
absl::StatusOr<DumpKey> KeyIn(const Request& request) {
  const absl::StatusOr<Id16> host = Id16FromBytes(request.host_id());
  const absl::StatusOr<Id16> dump = Id16FromBytes(request.dump_id());
  if (!host.ok()) return host.status();
  if (!dump.ok()) return dump.status();
  return DumpKey{*host, *dump};
}

absl::Status CheckRanges(const google::protobuf::RepeatedPtrField<v1::BlockRange>& ranges) {
  if (ranges.size() > kMaxRanges) {
    return absl::InvalidArgumentError(
        absl::StrCat("ranges: wanted at most ", kMaxRanges, ", got ", ranges.size()));
  }
  for (const v1::BlockRange& range : ranges) {
    if (range.block_class() >= DCAST_CLASSES || range.count() == 0 ||
        range.count() - 1 > std::numeric_limits<uint64_t>::max() - range.first()) {
      return absl::InvalidArgumentError(
          absl::StrCat("ranges: wanted class 0 to 3 and at least one number below 2^64, got class ",
                       range.block_class(), ", ", range.first(), " + ", range.count()));
    }
  }
  return absl::OkStatus();
}

// Whether a number was durable when the call began; those put since are left out.
class DurableFilter {
 public:
  static absl::StatusOr<DurableFilter> Make(const Store& store, const DumpKey& dump) {
    DurableFilter filter;
    absl::Status s = store.ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
      for (uint8_t c = 0; c < DCAST_CLASSES; c++) filter.numbers_[c] = blocks.durable.numbers(c);
    });
    if (!s.ok()) return s;
    return filter;
  }
  bool operator()(const BlockKey& key) const {
    return numbers_[key.block_class].Contains(key.number);
  }

 private:
  std::array<NumberSet, DCAST_CLASSES> numbers_;
};

void FillKey(const BlockKey& key, v1::Block* block) {
  block->set_block_class(key.block_class);
  block->set_number(key.number);
  block->set_digest(key.digest);
}

// Sends blocks in messages of at most kFetchBytes of encodings.
class BlockStream {
 public:
  BlockStream(grpc::ServerContext* context, grpc::ServerWriter<v1::FetchBlocksResponse>* writer)
      : context_(context), writer_(writer) {}

  // False when the caller has gone.
  bool Add(const BlockKey& key, std::string_view encoded) {
    if (bytes_ != 0 && bytes_ + encoded.size() > kFetchBytes && !Send()) return false;
    v1::Block* block = response_.add_blocks();
    FillKey(key, block);
    block->set_encoded(std::string(encoded));
    bytes_ += encoded.size() + 64;
    return true;
  }
  bool Send() {
    if (response_.blocks_size() == 0) return true;
    if (context_->IsCancelled() || !writer_->Write(response_)) return false;
    response_.Clear();
    bytes_ = 0;
    return true;
  }

 private:
  grpc::ServerContext* const context_;
  grpc::ServerWriter<v1::FetchBlocksResponse>* const writer_;
  v1::FetchBlocksResponse response_;
  size_t bytes_ = 0;
};

}  // namespace

grpc::Status ReplicationService::GetInventory(grpc::ServerContext*, const v1::GetInventoryRequest*,
                                              v1::GetInventoryResponse* response) {
  response->set_relay_id(store_->relay_id());
  response->set_relay_name(relay_name_);
  for (const v1::DumpRecord& record : store_->ListDumps()) {
    absl::StatusOr<v1::DumpSummary> summary = Summarize(*store_, record);
    if (!summary.ok()) return ToGrpc(summary.status());
    *response->add_dumps() = *std::move(summary);
  }
  return grpc::Status::OK;
}

grpc::Status ReplicationService::GetBlockMap(grpc::ServerContext*,
                                             const v1::GetBlockMapRequest* request,
                                             v1::GetBlockMapResponse* response) {
  const absl::StatusOr<DumpKey> dump = KeyIn(*request);
  if (!dump.ok()) return ToGrpc(dump.status());
  const absl::StatusOr<v1::DumpRecord> record = store_->GetDump(*dump);
  if (!record.ok()) return ToGrpc(record.status());
  absl::StatusOr<v1::DumpSummary> summary = Summarize(*store_, *record);
  if (!summary.ok()) return ToGrpc(summary.status());
  *response->mutable_summary() = *std::move(summary);
  return ToGrpc(store_->ReadBlockSets(*dump, [&](const DumpBlocks& blocks) {
    BlockMap::FromSet(blocks.durable).ToProto(response);
  }));
}

grpc::Status ReplicationService::ListBlocks(grpc::ServerContext* context,
                                            const v1::ListBlocksRequest* request,
                                            grpc::ServerWriter<v1::ListBlocksResponse>* writer) {
  const absl::StatusOr<DumpKey> dump = KeyIn(*request);
  if (!dump.ok()) return ToGrpc(dump.status());
  if (absl::Status s = CheckRanges(request->ranges()); !s.ok()) return ToGrpc(s);
  const absl::StatusOr<DurableFilter> durable = DurableFilter::Make(*store_, *dump);
  if (!durable.ok()) return ToGrpc(durable.status());
  v1::ListBlocksResponse response;
  bool gone = false;
  for (const v1::BlockRange& range : request->ranges()) {
    absl::Status s =
        store_->ScanBlocks(*dump, static_cast<uint8_t>(range.block_class()), range.first(),
                           range.first() + (range.count() - 1), /*with_bytes=*/false,
                           [&](const BlockKey& key, std::string_view) {
                             if (!(*durable)(key)) return true;
                             FillKey(key, response.add_blocks());
                             if (static_cast<size_t>(response.blocks_size()) < kListedPerMessage)
                               return true;
                             gone = context->IsCancelled() || !writer->Write(response);
                             response.Clear();
                             return !gone;
                           });
    if (!s.ok()) return ToGrpc(s);
    if (gone) return {grpc::StatusCode::CANCELLED, "the caller has gone"};
  }
  if (response.blocks_size() != 0) writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status ReplicationService::FetchBlocks(grpc::ServerContext* context,
                                             const v1::FetchBlocksRequest* request,
                                             grpc::ServerWriter<v1::FetchBlocksResponse>* writer) {
  const absl::StatusOr<DumpKey> dump = KeyIn(*request);
  if (!dump.ok()) return ToGrpc(dump.status());
  if (absl::Status s = CheckRanges(request->ranges()); !s.ok()) return ToGrpc(s);
  if (const auto record = store_->GetDump(*dump); !record.ok()) return ToGrpc(record.status());
  grpc::Status gone(grpc::StatusCode::CANCELLED, "the caller has gone");
  BlockStream stream(context, writer);
  for (const v1::BlockRange& range : request->ranges()) {
    bool sent = true;
    // A block that cannot be read is left out, as one that is not held: another peer may have it.
    absl::Status s =
        store_->ScanBlocks(*dump, static_cast<uint8_t>(range.block_class()), range.first(),
                           range.first() + (range.count() - 1), /*with_bytes=*/true,
                           [&](const BlockKey& key, std::string_view encoded) {
                             sent = stream.Add(key, encoded);
                             return sent;
                           });
    if (!sent) return gone;
    if (absl::IsDataLoss(s)) {
      s = store_->ScanBlocks(*dump, static_cast<uint8_t>(range.block_class()), range.first(),
                             range.first() + (range.count() - 1), /*with_bytes=*/false,
                             [&](const BlockKey& key, std::string_view) {
                               const auto encoded = store_->GetBlock(*dump, key);
                               if (encoded.ok()) sent = stream.Add(key, *encoded);
                               return sent;
                             });
      if (!sent) return gone;
    }
    if (!s.ok()) return ToGrpc(s);
  }
  for (const v1::Block& wanted : request->keys()) {
    if (wanted.block_class() >= DCAST_CLASSES) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("keys: wanted class 0 to 3, got ", wanted.block_class())};
    }
    const BlockKey key{static_cast<uint8_t>(wanted.block_class()), wanted.number(),
                       wanted.digest()};
    const absl::StatusOr<std::string> encoded = store_->GetBlock(*dump, key);
    if (encoded.ok() && !stream.Add(key, *encoded)) return gone;
  }
  if (!stream.Send()) return gone;
  return grpc::Status::OK;
}

grpc::Status ReplicationService::FetchSymbols(grpc::ServerContext*,
                                              const v1::FetchSymbolsRequest* request,
                                              v1::FetchSymbolsResponse* response) {
  const absl::StatusOr<DumpKey> dump = KeyIn(*request);
  if (!dump.ok()) return ToGrpc(dump.status());
  if (request->symbols_size() > kMaxSymbolsOf) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            absl::StrCat("symbols: wanted of at most ", kMaxSymbolsOf, " blocks, got of ",
                         request->symbols_size())};
  }
  size_t bytes = 0;
  for (const v1::Symbols& wanted : request->symbols()) {
    if (wanted.block_class() >= DCAST_CLASSES || wanted.symbol_size() > DCAST_MAX_SYMBOL_BYTES) {
      return {
          grpc::StatusCode::INVALID_ARGUMENT,
          absl::StrCat("symbols: wanted class 0 to 3 and at most ", DCAST_MAX_SYMBOL_BYTES,
                       " bytes, got class ", wanted.block_class(), " and ", wanted.symbol_size())};
    }
    BlockSymbols symbols = SymbolsOf(wanted);
    const absl::StatusOr<std::string> encoded = store_->GetBlock(*dump, symbols.key);
    const bool found =
        encoded.ok() ? CutSymbols(*encoded, &symbols)
                     : receive_status_ != nullptr && receive_status_->FindSymbols(*dump, &symbols);
    if (!found) continue;
    bytes += symbols.bytes.size();
    if (bytes > kSymbolBytes) break;
    FillSymbols(symbols, response->add_symbols());
  }
  return grpc::Status::OK;
}

}  // namespace dumpcast
