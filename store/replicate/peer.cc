// SPDX-License-Identifier: Apache-2.0
#include "store/replicate/peer.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/service/grpc_status.h"

namespace dumpcast {
namespace {

template <typename Request>
void SetDump(const DumpKey& dump, Request* request) {
  request->set_host_id(std::string(dump.host_id.begin(), dump.host_id.end()));
  request->set_dump_id(std::string(dump.dump_id.begin(), dump.dump_id.end()));
}

template <typename Request>
void AddRanges(const std::vector<BlockRun>& runs, Request* request) {
  for (const BlockRun& run : runs) {
    v1::BlockRange* range = request->add_ranges();
    range->set_block_class(run.block_class);
    range->set_first(run.first);
    range->set_count(run.count);
  }
}

absl::StatusOr<BlockKey> KeyOfBlock(const v1::Block& block) {
  if (block.block_class() >= DCAST_CLASSES) {
    return absl::InvalidArgumentError(
        absl::StrCat("a peer sent a block of class ", block.block_class(), ", wanted 0 to 3"));
  }
  return BlockKey{static_cast<uint8_t>(block.block_class()), block.number(), block.digest()};
}

}  // namespace

void CallRegistry::CancelAll() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

bool CallRegistry::cancelled() const {
  absl::MutexLock lock(&mu_);
  return cancelled_;
}

RegisteredContext::RegisteredContext(CallRegistry* registry, absl::Duration timeout)
    : registry_(registry) {
  context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  absl::MutexLock lock(&registry_->mu_);
  registry_->calls_.insert(&context_);
  if (registry_->cancelled_) context_.TryCancel();
}

RegisteredContext::~RegisteredContext() {
  absl::MutexLock lock(&registry_->mu_);
  registry_->calls_.erase(&context_);
}

absl::StatusOr<v1::GetInventoryResponse> Peer::GetInventory(uint64_t own_id,
                                                            const std::string& own_name) const {
  RegisteredContext context(calls_, timeout_);
  v1::GetInventoryRequest request;
  request.set_relay_id(own_id);
  request.set_relay_name(own_name);
  v1::GetInventoryResponse response;
  const grpc::Status s = stub_->GetInventory(context.get(), request, &response);
  if (!s.ok()) return FromGrpcStatus(s);
  return response;
}

absl::StatusOr<v1::GetBlockMapResponse> Peer::GetBlockMap(const DumpKey& dump) const {
  RegisteredContext context(calls_, timeout_);
  v1::GetBlockMapRequest request;
  SetDump(dump, &request);
  v1::GetBlockMapResponse response;
  const grpc::Status s = stub_->GetBlockMap(context.get(), request, &response);
  if (!s.ok()) return FromGrpcStatus(s);
  return response;
}

absl::StatusOr<std::vector<BlockKey>> Peer::ListBlocks(const DumpKey& dump,
                                                       const std::vector<BlockRun>& runs) const {
  RegisteredContext context(calls_, timeout_);
  v1::ListBlocksRequest request;
  SetDump(dump, &request);
  AddRanges(runs, &request);
  std::vector<BlockKey> keys;
  auto reader = stub_->ListBlocks(context.get(), request);
  v1::ListBlocksResponse response;
  while (reader->Read(&response)) {
    for (const v1::Block& block : response.blocks()) {
      const absl::StatusOr<BlockKey> key = KeyOfBlock(block);
      if (!key.ok()) {
        context.get()->TryCancel();
        return key.status();
      }
      keys.push_back(*key);
    }
  }
  const grpc::Status s = reader->Finish();
  if (!s.ok()) return FromGrpcStatus(s);
  return keys;
}

absl::Status Peer::FetchBlocks(
    const DumpKey& dump, const std::vector<BlockRun>& runs, const std::vector<BlockKey>& keys,
    const std::function<bool(const BlockKey&, std::string encoded)>& visit, bool* cut_short) const {
  *cut_short = false;
  RegisteredContext context(calls_, timeout_);
  v1::FetchBlocksRequest request;
  SetDump(dump, &request);
  AddRanges(runs, &request);
  for (const BlockKey& key : keys) {
    v1::Block* block = request.add_keys();
    block->set_block_class(key.block_class);
    block->set_number(key.number);
    block->set_digest(key.digest);
  }
  auto reader = stub_->FetchBlocks(context.get(), request);
  v1::FetchBlocksResponse response;
  while (reader->Read(&response)) {
    for (v1::Block& block : *response.mutable_blocks()) {
      const absl::StatusOr<BlockKey> key = KeyOfBlock(block);
      if (!key.ok() || !visit(*key, std::move(*block.mutable_encoded()))) {
        *cut_short = true;
        context.get()->TryCancel();
        // The cut itself is no failure.
        const grpc::Status ignored = reader->Finish();
        return key.ok() ? absl::OkStatus() : key.status();
      }
    }
  }
  return FromGrpcStatus(reader->Finish());
}

void FillSymbols(const BlockSymbols& from, v1::Symbols* to) {
  to->set_block_class(from.key.block_class);
  to->set_number(from.key.number);
  to->set_digest(from.key.digest);
  to->set_symbol_size(from.symbol_size);
  to->set_mask(from.mask);
  to->set_count(from.count);
  to->set_data(from.bytes);
}

BlockSymbols SymbolsOf(const v1::Symbols& from) {
  return {{static_cast<uint8_t>(from.block_class()), from.number(), from.digest()},
          static_cast<uint16_t>(from.symbol_size()),
          from.mask(),
          from.count(),
          from.data()};
}

absl::StatusOr<std::vector<BlockSymbols>> Peer::FetchSymbols(
    const DumpKey& dump, const std::vector<BlockSymbols>& wanted) const {
  RegisteredContext context(calls_, timeout_);
  v1::FetchSymbolsRequest request;
  SetDump(dump, &request);
  absl::flat_hash_map<BlockKey, const BlockSymbols*> asked;
  for (const BlockSymbols& one : wanted) {
    FillSymbols(one, request.add_symbols());
    asked[one.key] = &one;
  }
  v1::FetchSymbolsResponse response;
  const grpc::Status s = stub_->FetchSymbols(context.get(), request, &response);
  if (!s.ok()) return FromGrpcStatus(s);
  std::vector<BlockSymbols> came;
  for (const v1::Symbols& symbols : response.symbols()) {
    BlockSymbols one = SymbolsOf(symbols);
    const auto it = asked.find(one.key);
    if (symbols.block_class() >= DCAST_CLASSES || it == asked.end() ||
        symbols.symbol_size() != it->second->symbol_size || (one.mask & ~it->second->mask) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("a peer sent symbols of block ",
                                                     symbols.block_class(), "/", symbols.number(),
                                                     " that were not asked for"));
    }
    asked.erase(it);
    came.push_back(std::move(one));
  }
  return came;
}

}  // namespace dumpcast
