// SPDX-License-Identifier: Apache-2.0
// Makes this relay's dumps equal to its peers', by set union (docs/store.md).
//
// Pull only: each relay takes from its peers what it has not. Tombstones win for ever. What is
// stored never changes, so rounds may run at any time, in any order, and be cut off anywhere.
#ifndef DUMPCAST_STORE_REPLICATE_REPLICATOR_H_
#define DUMPCAST_STORE_REPLICATE_REPLICATOR_H_

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/holder_source.h"
#include "store/replicate/block_map.h"
#include "store/replicate/peer.h"
#include "store/store.h"

namespace dumpcast {

struct FetchedBlock {
  BlockKey key;
  std::string encoded;
};

struct FetchResult {
  std::vector<FetchedBlock> blocks;   // verified, each key once; not put into the store
  std::vector<BlockSymbols> symbols;  // of those asked for; not verified
  uint32_t peers_asked = 0;           // that answered
  bool more = false;                  // the bounds cut it short: ask again for the rest
};

struct ReplicatorOptions {
  Store* store = nullptr;  // must outlive the replicator
  std::string relay_name;
  // Targets of the peers now; asked at each round. The own address may be among them.
  std::function<std::vector<std::string>()> peers;
  // A channel to a target; asked once for each target that comes up.
  std::function<std::shared_ptr<grpc::ChannelInterface>(const std::string& target)> channel;
  // Whether an encoding is what its digest says, under the host's key of this epoch. Called for
  // every block but EMPTY ones, which have nothing to check. [Threading] From the replicator's
  // threads.
  std::function<absl::Status(const DumpKey&, uint32_t key_epoch, const BlockKey&,
                             std::string_view encoded)>
      verify;
  // Whether packets of the dump arrive here now: its receiver fills the gaps and seals it then, and
  // replication keeps away. Default: never.
  std::function<bool(const DumpKey&)> receiving;
  // The replicator has put and flushed these keys; has deleted, or sealed a dump. From its thread.
  std::function<void(const DumpKey&, const std::vector<FetchedBlock>&)> on_blocks;
  std::function<void(const DumpKey&)> on_delete;
  std::function<void(const DumpKey&, bool complete)> on_seal;
  // What a person may want to read; ids are zero when it is about no dump.
  std::function<void(const DumpKey& about, const std::string& line)> log;
  std::function<int64_t()> now_unix_ns;  // default: the system's clock
  // Between two rounds; infinite: only Trigger() starts one.
  absl::Duration period = absl::Seconds(10);
  absl::Duration rpc_timeout = absl::Seconds(30);
  // Blocks and bytes that are fetched before they are put and flushed, or handed back.
  size_t batch_blocks = 1024;
  size_t batch_bytes = 32u << 20;
  // What is read of the own store to find blocks that the disk has changed; 0: those that somebody
  // else reads.
  uint64_t scrub_bytes_per_second = 0;
  // FetchFromPeers() calls that wait; one more is answered at once with nothing.
  size_t max_fetches = 64;
};

struct ReplicatorStats {
  uint64_t rounds = 0;
  uint64_t blocks_fetched = 0;
  uint64_t blocks_refused = 0;  // failed verification
  uint64_t peer_failures = 0;   // calls that ended in an error
  uint64_t blocks_healed = 0;   // that the disk had changed, and peers gave again
};

// Thread safety: all methods may be called from any thread. Callbacks run on the replicator's
// threads and may call everything but Stop().
class Replicator final : public HolderSource {
 public:
  explicit Replicator(ReplicatorOptions options);
  ~Replicator() override;

  // Starts the threads. FetchFromPeers() and Trigger() work from then on.
  void Start();
  // Cuts off calls under way, answers waiting fetches with nothing, joins the threads. Idempotent.
  void Stop();
  // Starts a round now, or right after the one under way.
  void Trigger();
  // One round in the caller's thread: asks each peer once. The first error of a peer, after all
  // others were asked all the same.
  absl::Status RunOnce();

  // Asks peers, one after another, for blocks of these runs and for symbols of these blocks until
  // all came, the bounds of a batch are met, or no peer is left; an older peer is asked for
  // the whole block. `done` is called exactly once, from a replicator's thread or, when too many
  // fetches wait, from the caller's.
  void FetchFromPeers(const DumpKey& dump, uint32_t key_epoch, std::vector<BlockRun> runs,
                      std::vector<BlockSymbols> symbols, std::function<void(FetchResult)> done);

  std::vector<HolderInfo> Holders(const DumpKey& dump) const override;
  ReplicatorStats stats() const;

 private:
  static constexpr size_t kRunsPerRequest = 4096;

  struct Fetch {
    DumpKey dump;
    uint32_t key_epoch = 0;
    std::vector<BlockRun> runs;
    std::vector<BlockSymbols> symbols;
    std::function<void(FetchResult)> done;
  };

  std::vector<std::shared_ptr<Peer>> CurrentPeers();
  // Asks for the inventory, and learns by the way whether the peer is this relay itself.
  absl::StatusOr<v1::GetInventoryResponse> Greet(const Peer& peer);
  bool IsSelf(const Peer& peer);
  absl::Status RunWith(const Peer& peer);
  absl::Status MergeDump(const Peer& peer, const v1::DumpSummary& theirs);
  absl::Status FetchRuns(const Peer& peer, const DumpKey& dump, uint32_t key_epoch,
                         const std::vector<BlockRun>& runs);
  absl::Status FetchDigests(const Peer& peer, const DumpKey& dump, uint32_t key_epoch,
                            const BlockMap& theirs);
  absl::Status PutBatch(const DumpKey& dump, std::vector<FetchedBlock>* batch);
  absl::Status SealIfDone(const DumpKey& dump, bool peer_sealed);
  void Scrub() ABSL_EXCLUSIVE_LOCKS_REQUIRED(round_mu_);
  // Takes from peers what the disk has changed of a dump.
  absl::Status Heal(const DamagedDump& damaged) ABSL_EXCLUSIVE_LOCKS_REQUIRED(round_mu_);
  absl::StatusOr<BlockMap> OwnMap(const DumpKey& dump) const;
  bool Verified(const DumpKey& dump, uint32_t key_epoch, const BlockKey& key,
                std::string_view encoded);
  FetchResult RunFetch(const Fetch& fetch);
  // Asks one peer for the symbols that are left, and takes those that came out of them; those that
  // only a whole block can bring go to `blocks`.
  absl::Status FetchSymbols(const Peer& peer, const DumpKey& dump, std::vector<BlockSymbols>* left,
                            std::array<NumberSet, DCAST_CLASSES>* blocks, FetchResult* result);
  void NoteHolder(const DumpKey& dump, const v1::GetInventoryResponse& peer,
                  const v1::DumpSummary& summary);
  void Log(const DumpKey& about, const std::string& line) const;
  void RoundLoop();
  void FetchLoop();

  const ReplicatorOptions options_;
  CallRegistry calls_;
  absl::Mutex round_mu_;  // one round at a time
  std::chrono::steady_clock::time_point scrubbed_ ABSL_GUARDED_BY(round_mu_) =
      std::chrono::steady_clock::now();
  // Damaged dumps that have been read whole.
  absl::flat_hash_set<DumpKey> verified_ ABSL_GUARDED_BY(round_mu_);
  // Between rounds. Abseil's timed waits go by the wall clock, which may be set back.
  std::mutex wake_mu_;
  std::condition_variable wake_cv_;
  bool wake_ = false;  // under wake_mu_

  mutable absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Fetch> fetches_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<Peer>> peers_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> self_targets_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> other_targets_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<DumpKey, std::map<uint64_t, HolderInfo>> holders_ ABSL_GUARDED_BY(mu_);
  ReplicatorStats stats_ ABSL_GUARDED_BY(mu_);
  uint64_t fetch_turn_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::thread> threads_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_REPLICATE_REPLICATOR_H_
