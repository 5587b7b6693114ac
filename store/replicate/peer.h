// SPDX-License-Identifier: Apache-2.0
// One peer's Replication service, with deadlines, bounds, and a way to stop.
#ifndef DUMPCAST_STORE_REPLICATE_PEER_H_
#define DUMPCAST_STORE_REPLICATE_PEER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "dumpcast/v1/replication.grpc.pb.h"
#include "store/block_set.h"
#include "store/block_symbols.h"

namespace dumpcast {

// Calls under way, so that all of them can be cut off at once.
//
// Thread safety: all methods may be called from any thread.
class CallRegistry {
 public:
  // Cuts off the calls under way and every later one.
  void CancelAll();
  bool cancelled() const;

 private:
  friend class RegisteredContext;
  mutable absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mu_);
};

// A client context with a deadline that is cut off with its registry.
class RegisteredContext {
 public:
  RegisteredContext(CallRegistry* registry, absl::Duration timeout);
  ~RegisteredContext();
  RegisteredContext(const RegisteredContext&) = delete;
  RegisteredContext& operator=(const RegisteredContext&) = delete;
  grpc::ClientContext* get() { return &context_; }

 private:
  CallRegistry* const registry_;
  grpc::ClientContext context_;
};

// Thread safety: all methods may be called from any thread.
class Peer {
 public:
  Peer(std::string target, const std::shared_ptr<grpc::ChannelInterface>& channel,
       CallRegistry* calls, absl::Duration timeout)
      : target_(std::move(target)),
        stub_(v1::Replication::NewStub(channel)),
        calls_(calls),
        timeout_(timeout) {}

  const std::string& target() const { return target_; }

  // Errors of all three: the peer's own, UNAVAILABLE when it is not up, DEADLINE_EXCEEDED.
  absl::StatusOr<v1::GetInventoryResponse> GetInventory(uint64_t own_id,
                                                        const std::string& own_name) const;
  absl::StatusOr<v1::GetBlockMapResponse> GetBlockMap(const DumpKey& dump) const;
  absl::StatusOr<std::vector<BlockKey>> ListBlocks(const DumpKey& dump,
                                                   const std::vector<BlockRun>& runs) const;

  // Streams blocks of ranges and single keys to visit until it returns false (then OK, with
  // *cut_short set). Malformed blocks are INVALID_ARGUMENT.
  absl::Status FetchBlocks(const DumpKey& dump, const std::vector<BlockRun>& runs,
                           const std::vector<BlockKey>& keys,
                           const std::function<bool(const BlockKey&, std::string encoded)>& visit,
                           bool* cut_short) const;

  // Symbols that the peer has, some or all of each of `wanted`, which keys tell apart; the rest is
  // left out. UNIMPLEMENTED from an older peer.
  absl::StatusOr<std::vector<BlockSymbols>> FetchSymbols(
      const DumpKey& dump, const std::vector<BlockSymbols>& wanted) const;

 private:
  const std::string target_;
  const std::unique_ptr<v1::Replication::Stub> stub_;
  CallRegistry* const calls_;
  const absl::Duration timeout_;
};

// Symbols as they are told to a peer, and as a peer tells them: block_class is 0..3 and symbol_size
// at most DCAST_MAX_SYMBOL_BYTES.
void FillSymbols(const BlockSymbols& from, v1::Symbols* to);
BlockSymbols SymbolsOf(const v1::Symbols& from);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_REPLICATE_PEER_H_
