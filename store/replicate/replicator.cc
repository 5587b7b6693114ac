// SPDX-License-Identifier: Apache-2.0
#include "store/replicate/replicator.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace dumpcast {
namespace {

constexpr size_t kBucketsPerRequest = 256;  // of which digests are compared
// A pause, however long, is made up for by so much reading at once at most.
constexpr std::chrono::seconds kScrubAtMost(30);

}  // namespace

Replicator::Replicator(ReplicatorOptions options)
    : options_([&] {
        if (!options.now_unix_ns) options.now_unix_ns = [] { return absl::GetCurrentTimeNanos(); };
        if (!options.receiving) options.receiving = [](const DumpKey&) { return false; };
        return std::move(options);
      }()) {}

Replicator::~Replicator() {
  Stop();
}

void Replicator::Start() {
  threads_.emplace_back([this] { RoundLoop(); });
  for (int i = 0; i < 2; i++) threads_.emplace_back([this] { FetchLoop(); });
}

void Replicator::Stop() {
  std::deque<Fetch> left;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    left.swap(fetches_);
  }
  Trigger();
  calls_.CancelAll();
  for (Fetch& fetch : left) fetch.done(FetchResult());
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Replicator::Trigger() {
  const std::lock_guard<std::mutex> lock(wake_mu_);
  wake_ = true;
  wake_cv_.notify_one();
}

void Replicator::Log(const DumpKey& about, const std::string& line) const {
  if (options_.log) options_.log(about, line);
}

void Replicator::RoundLoop() {
  for (;;) {
    // What a peer fails with is logged there; the next round tries again.
    RunOnce().IgnoreError();
    {
      std::unique_lock<std::mutex> lock(wake_mu_);
      wake_cv_.wait_for(lock, absl::ToChronoNanoseconds(options_.period), [this] { return wake_; });
      wake_ = false;
    }
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
  }
}

std::vector<std::shared_ptr<Peer>> Replicator::CurrentPeers() {
  const std::vector<std::string> targets =
      options_.peers ? options_.peers() : std::vector<std::string>();
  std::vector<std::shared_ptr<Peer>> current;
  absl::MutexLock lock(&mu_);
  std::map<std::string, std::shared_ptr<Peer>> kept;
  for (const std::string& target : targets) {
    if (kept.contains(target)) continue;
    const auto known = peers_.find(target);
    std::shared_ptr<Peer> peer = known != peers_.end()
                                     ? known->second
                                     : std::make_shared<Peer>(target, options_.channel(target),
                                                              &calls_, options_.rpc_timeout);
    kept[target] = peer;
    if (!self_targets_.contains(target)) current.push_back(std::move(peer));
  }
  peers_ = std::move(kept);
  return current;
}

absl::Status Replicator::RunOnce() {
  absl::MutexLock round(&round_mu_);
  absl::Status first_error;
  for (const std::shared_ptr<Peer>& peer : CurrentPeers()) {
    if (calls_.cancelled()) return absl::CancelledError("the replicator is stopping");
    absl::Status s = RunWith(*peer);
    if (s.ok()) continue;
    Log({}, absl::StrCat("peer ", peer->target(), ": ", s.ToString()));
    first_error.Update(s);
    absl::MutexLock lock(&mu_);
    stats_.peer_failures++;
  }
  Scrub();
  for (const DamagedDump& damaged : options_.store->Damaged()) first_error.Update(Heal(damaged));
  absl::MutexLock lock(&mu_);
  stats_.rounds++;
  return first_error;
}

void Replicator::Scrub() {
  const auto now = std::chrono::steady_clock::now();
  const auto since = std::min<std::chrono::duration<double>>(now - scrubbed_, kScrubAtMost);
  scrubbed_ = now;
  const auto bytes =
      static_cast<uint64_t>(static_cast<double>(options_.scrub_bytes_per_second) * since.count());
  if (bytes == 0) return;
  if (absl::Status s = options_.store->Scrub(bytes); !s.ok()) Log({}, s.ToString());
}

absl::Status Replicator::Heal(const DamagedDump& damaged) {
  const DumpKey& dump = damaged.dump;
  const absl::StatusOr<v1::DumpRecord> record = options_.store->GetDump(dump);
  if (!record.ok() || record->deleted()) return record.status();
  std::vector<BlockKey> keys = damaged.keys;
  // One block was read, and more of it are likely to be lost.
  if (verified_.insert(dump).second) {
    if (absl::Status s = options_.store->Verify(dump); !s.ok()) return s;
    for (DamagedDump& all : options_.store->Damaged())
      if (all.dump == dump) keys = std::move(all.keys);
  }
  const size_t lost = keys.size();
  for (const std::shared_ptr<Peer>& peer : CurrentPeers()) {
    if (keys.empty() || calls_.cancelled()) break;
    if (IsSelf(*peer)) continue;
    std::vector<BlockKey> left;
    for (size_t at = 0; at < keys.size(); at += options_.batch_blocks) {
      const std::vector<BlockKey> asked(
          keys.begin() + static_cast<ptrdiff_t>(at),
          keys.begin() + static_cast<ptrdiff_t>(std::min(at + options_.batch_blocks, keys.size())));
      std::vector<std::pair<BlockKey, std::string>> blocks;
      absl::flat_hash_set<BlockKey> wanted(asked.begin(), asked.end());
      bool cut_short = false;
      // What a peer fails with is what the next one, or the next round, is for.
      peer->FetchBlocks(
              dump, {}, asked,
              [&](const BlockKey& key, std::string encoded) {
                if (!wanted.contains(key) || !Verified(dump, record->key_epoch(), key, encoded))
                  return true;
                wanted.erase(key);
                blocks.emplace_back(key, std::move(encoded));
                return true;
              },
              &cut_short)
          .IgnoreError();
      left.insert(left.end(), wanted.begin(), wanted.end());
      if (blocks.empty()) continue;
      if (absl::Status s = options_.store->ReplaceBlocks(dump, blocks); !s.ok()) return s;
      absl::MutexLock lock(&mu_);
      stats_.blocks_healed += blocks.size();
    }
    if (left.size() < keys.size())
      Log(dump,
          absl::StrCat("healed ", keys.size() - left.size(), " of ", lost,
                       " blocks that the disk of this relay had changed, from ", peer->target()));
    keys = std::move(left);
  }
  if (keys.empty()) verified_.erase(dump);
  return absl::OkStatus();
}

absl::StatusOr<v1::GetInventoryResponse> Replicator::Greet(const Peer& peer) {
  absl::StatusOr<v1::GetInventoryResponse> inventory =
      peer.GetInventory(options_.store->relay_id(), options_.relay_name);
  if (!inventory.ok()) return inventory.status();
  absl::MutexLock lock(&mu_);
  (inventory->relay_id() == options_.store->relay_id() ? self_targets_ : other_targets_)
      .insert(peer.target());
  return inventory;
}

bool Replicator::IsSelf(const Peer& peer) {
  {
    absl::MutexLock lock(&mu_);
    if (self_targets_.contains(peer.target())) return true;
    if (other_targets_.contains(peer.target())) return false;
  }
  const absl::StatusOr<v1::GetInventoryResponse> inventory = Greet(peer);
  return inventory.ok() && inventory->relay_id() == options_.store->relay_id();
}

absl::Status Replicator::RunWith(const Peer& peer) {
  const absl::StatusOr<v1::GetInventoryResponse> inventory = Greet(peer);
  if (!inventory.ok()) return inventory.status();
  if (inventory->relay_id() == options_.store->relay_id()) return absl::OkStatus();
  absl::Status first_error;
  for (const v1::DumpSummary& theirs : inventory->dumps()) {
    const absl::StatusOr<Id16> host = Id16FromBytes(theirs.host_id());
    const absl::StatusOr<Id16> id = Id16FromBytes(theirs.dump_id());
    if (!host.ok() || !id.ok()) {
      first_error.Update(absl::InvalidArgumentError("the inventory names a malformed id"));
      continue;
    }
    NoteHolder({*host, *id}, *inventory, theirs);
    absl::Status s = MergeDump(peer, theirs);
    // A full disk or a dump deleted under our hands says nothing of the other dumps.
    if (!s.ok()) first_error.Update(s);
    if (calls_.cancelled()) break;
  }
  return first_error;
}

void Replicator::NoteHolder(const DumpKey& dump, const v1::GetInventoryResponse& peer,
                            const v1::DumpSummary& summary) {
  absl::MutexLock lock(&mu_);
  if (summary.deleted()) {
    holders_.erase(dump);
    return;
  }
  HolderInfo& info = holders_[dump][peer.relay_id()];
  info.relay_id = peer.relay_id();
  info.relay_name = peer.relay_name();
  info.blocks = summary.blocks();
  info.complete = summary.complete();
  info.update_unix_ns = options_.now_unix_ns();
}

std::vector<HolderInfo> Replicator::Holders(const DumpKey& dump) const {
  std::vector<HolderInfo> holders;
  absl::MutexLock lock(&mu_);
  const auto it = holders_.find(dump);
  if (it == holders_.end()) return holders;
  for (const auto& [id, info] : it->second) holders.push_back(info);
  return holders;
}

ReplicatorStats Replicator::stats() const {
  absl::MutexLock lock(&mu_);
  return stats_;
}

absl::StatusOr<BlockMap> Replicator::OwnMap(const DumpKey& dump) const {
  BlockMap map;
  absl::Status s = options_.store->ReadBlockSets(
      dump, [&](const DumpBlocks& blocks) { map = BlockMap::FromSet(blocks.held); });
  if (!s.ok()) return s;
  return map;
}

absl::Status Replicator::MergeDump(const Peer& peer, const v1::DumpSummary& theirs) {
  const DumpKey dump{*Id16FromBytes(theirs.host_id()), *Id16FromBytes(theirs.dump_id())};
  absl::StatusOr<v1::DumpRecord> ours = options_.store->GetDump(dump);
  if (!ours.ok() && !absl::IsNotFound(ours.status())) return ours.status();
  if (ours.ok() && ours->deleted()) return absl::OkStatus();  // they learn it from us
  if (theirs.deleted()) {
    absl::Status s = options_.store->DeleteDump(dump, options_.now_unix_ns());
    if (s.ok()) {
      Log(dump, absl::StrCat("deleted, as on ", peer.target()));
      if (options_.on_delete) options_.on_delete(dump);
    }
    return s;
  }
  if (options_.receiving(dump)) return absl::OkStatus();
  if (!ours.ok()) {
    absl::Status s = options_.store->UpdateDump(dump, [&](v1::DumpRecord* record) {
      if (record->receive_unix_ns() != 0) return false;  // its receiver was faster
      record->set_receive_unix_ns(options_.now_unix_ns());
      record->set_key_epoch(theirs.key_epoch());
      return true;
    });
    if (!s.ok()) return s;
  }
  bool equal = false;
  absl::Status s = options_.store->ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    equal = blocks.held.keys() == theirs.keys() && blocks.held.key_sum() == theirs.key_sum();
  });
  if (!s.ok()) return s;
  if (!equal) {
    const uint32_t epoch =
        ours.ok() && ours->key_epoch() != 0 ? ours->key_epoch() : theirs.key_epoch();
    const absl::StatusOr<v1::GetBlockMapResponse> response = peer.GetBlockMap(dump);
    if (!response.ok()) return response.status();
    const absl::StatusOr<BlockMap> map = BlockMap::FromProto(*response);
    if (!map.ok()) return map.status();
    absl::StatusOr<BlockMap> own = OwnMap(dump);
    if (!own.ok()) return own.status();
    // Numbers first; each pass takes as many runs as one request names.
    for (;;) {
      const std::vector<BlockRun> missing = own->MissingFrom(*map, kRunsPerRequest);
      if (missing.empty()) break;
      if (s = FetchRuns(peer, dump, epoch, missing); !s.ok()) return s;
      if (missing.size() < kRunsPerRequest) break;
      own = OwnMap(dump);
      if (!own.ok()) return own.status();
      // The peer could give none of these: the rest can wait for another round, or peer.
      if (own->MissingFrom(*map, kRunsPerRequest) == missing) break;
    }
    if (s = FetchDigests(peer, dump, epoch, *map); !s.ok()) return s;
  }
  return SealIfDone(dump, theirs.sealed());
}

bool Replicator::Verified(const DumpKey& dump, uint32_t key_epoch, const BlockKey& key,
                          std::string_view encoded) {
  absl::Status s;
  if ((key.digest == 0) != encoded.empty()) {
    s = absl::InvalidArgumentError("digest 0 stands for no bytes, and only that");
  } else if (key.digest != 0 && options_.verify) {
    s = options_.verify(dump, key_epoch, key, encoded);
  }
  bool first = false;
  {
    absl::MutexLock lock(&mu_);
    if (s.ok()) {
      stats_.blocks_fetched++;
      return true;
    }
    first = stats_.blocks_refused++ % 1000 == 0;
  }
  // One line for the first of a thousand is enough.
  if (first) {
    Log(dump, absl::StrCat("refused block ", key.block_class, "/", key.number,
                           " from a peer: ", s.ToString()));
  }
  return false;
}

absl::Status Replicator::PutBatch(const DumpKey& dump, std::vector<FetchedBlock>* batch) {
  if (batch->empty()) return absl::OkStatus();
  for (const FetchedBlock& block : *batch) {
    absl::Status s = options_.store->PutBlock(dump, block.key, block.encoded);
    if (!s.ok()) return s;
  }
  if (absl::Status s = options_.store->Flush(); !s.ok()) return s;
  if (options_.on_blocks) options_.on_blocks(dump, *batch);
  batch->clear();
  return absl::OkStatus();
}

absl::Status Replicator::FetchRuns(const Peer& peer, const DumpKey& dump, uint32_t key_epoch,
                                   const std::vector<BlockRun>& runs) {
  std::vector<FetchedBlock> batch;
  size_t bytes = 0;
  absl::Status put;
  // Each call has one deadline: go on where it was cut off for as long as blocks come.
  std::array<NumberSet, DCAST_CLASSES> left = NumbersOf(runs);
  for (bool progress = true; progress;) {
    progress = false;
    std::vector<BlockRun> wanted;
    for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
      for (const NumberRun& run : left[c].Runs()) wanted.push_back({c, run.first, run.count});
    }
    if (wanted.empty()) return absl::OkStatus();
    std::array<NumberSet, DCAST_CLASSES> got;
    bool cut_short = false;
    absl::Status s = peer.FetchBlocks(
        dump, wanted, {},
        [&](const BlockKey& key, std::string encoded) {
          if (!left[key.block_class].Contains(key.number)) return true;  // not asked for
          if (!Verified(dump, key_epoch, key, encoded)) return true;
          progress |= got[key.block_class].Add(key.number);
          bytes += encoded.size();
          batch.push_back({key, std::move(encoded)});
          if (batch.size() < options_.batch_blocks && bytes < options_.batch_bytes) return true;
          bytes = 0;
          put = PutBatch(dump, &batch);
          return put.ok();
        },
        &cut_short);
    if (put.ok()) put = PutBatch(dump, &batch);
    if (!put.ok()) return put;
    if (s.ok()) return s;
    if (!absl::IsDeadlineExceeded(s) || !progress) return s;
    for (uint8_t c = 0; c < DCAST_CLASSES; c++) left[c] = left[c].Minus(got[c]);
  }
  return absl::DeadlineExceededError(
      absl::StrCat(peer.target(), " sends no blocks of ", dump.ResourceName()));
}

absl::Status Replicator::FetchDigests(const Peer& peer, const DumpKey& dump, uint32_t key_epoch,
                                      const BlockMap& theirs) {
  const absl::StatusOr<BlockMap> own = OwnMap(dump);
  if (!own.ok()) return own.status();
  const std::vector<BlockRun> buckets =
      own->DifferingBuckets(theirs, std::numeric_limits<size_t>::max());
  for (size_t at = 0; at < buckets.size(); at += kBucketsPerRequest) {
    const std::vector<BlockRun> part(
        buckets.begin() + static_cast<ptrdiff_t>(at),
        buckets.begin() +
            static_cast<ptrdiff_t>(std::min(at + kBucketsPerRequest, buckets.size())));
    const absl::StatusOr<std::vector<BlockKey>> listed = peer.ListBlocks(dump, part);
    if (!listed.ok()) return listed.status();
    absl::flat_hash_set<BlockKey> held;
    for (const BlockRun& run : part) {
      absl::Status s =
          options_.store->ScanBlocks(dump, run.block_class, run.first, run.first + run.count - 1,
                                     false, [&](const BlockKey& key, std::string_view) {
                                       held.insert(key);
                                       return true;
                                     });
      if (!s.ok()) return s;
    }
    std::vector<BlockKey> wanted;
    for (const BlockKey& key : *listed) {
      // Numbers that are not held at all were asked for already, and did not come.
      if (own->numbers(key.block_class).Contains(key.number) && !held.contains(key)) {
        wanted.push_back(key);
      }
    }
    for (size_t i = 0; i < wanted.size(); i += options_.batch_blocks) {
      const std::vector<BlockKey> keys(
          wanted.begin() + static_cast<ptrdiff_t>(i),
          wanted.begin() +
              static_cast<ptrdiff_t>(std::min(i + options_.batch_blocks, wanted.size())));
      const absl::flat_hash_set<BlockKey> asked(keys.begin(), keys.end());
      std::vector<FetchedBlock> batch;
      bool cut_short = false;
      absl::Status s = peer.FetchBlocks(
          dump, {}, keys,
          [&](const BlockKey& key, std::string encoded) {
            if (asked.contains(key) && Verified(dump, key_epoch, key, encoded)) {
              batch.push_back({key, std::move(encoded)});
            }
            return true;
          },
          &cut_short);
      if (absl::Status put = PutBatch(dump, &batch); !put.ok()) return put;
      if (!s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

absl::Status Replicator::SealIfDone(const DumpKey& dump, bool peer_sealed) {
  // Blocks that a receiver has put and nobody flushed yet are no ground for a seal.
  if (absl::Status s = options_.store->Flush(); !s.ok()) return s;
  bool complete = false;
  uint64_t expected = 0;
  uint64_t held = 0;
  bool known = false;
  absl::Status s = options_.store->ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    complete = IsComplete(blocks.expected, blocks.durable);
    known = blocks.expected.known();
    expected = blocks.expected.blocks();
    held = CountExpectedHeld(blocks.expected, blocks.durable);
  });
  if (!s.ok()) return s;
  bool sealed = false;
  s = options_.store->UpdateDump(dump, [&](v1::DumpRecord* record) {
    if (record->complete()) return false;
    if (complete) {
      record->set_complete(true);
      record->clear_incomplete_reason();
    } else if (record->seal_unix_ns() == 0 && peer_sealed) {
      record->set_incomplete_reason(
          known ? absl::StrCat(expected - held, " of ", expected,
                               " blocks are missing here and on the peers that were asked")
                : "the list of blocks (META, PRESENCE) has not arrived whole here or on the peers "
                  "that were asked");
    } else {
      return false;
    }
    if (record->seal_unix_ns() == 0 || complete) record->set_seal_unix_ns(options_.now_unix_ns());
    sealed = true;
    return true;
  });
  if (!s.ok()) return s;
  if (sealed) {
    Log(dump, absl::StrCat("sealed ", complete ? "complete" : "incomplete", " after replication, ",
                           held, " of ", expected, " blocks"));
    if (options_.on_seal) options_.on_seal(dump, complete);
  }
  return absl::OkStatus();
}

}  // namespace dumpcast
