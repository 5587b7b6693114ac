// SPDX-License-Identifier: Apache-2.0
// What a dump that arrives here lacks, asked of peers at once; rounds are in replicator.cc.
#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "store/replicate/replicator.h"

namespace dumpcast {

void Replicator::FetchFromPeers(const DumpKey& dump, uint32_t key_epoch, std::vector<BlockRun> runs,
                                std::vector<BlockSymbols> symbols,
                                std::function<void(FetchResult)> done) {
  {
    absl::MutexLock lock(&mu_);
    if (!stopping_ && fetches_.size() < options_.max_fetches) {
      fetches_.push_back({dump, key_epoch, std::move(runs), std::move(symbols), std::move(done)});
      return;
    }
  }
  done(FetchResult());
}

void Replicator::FetchLoop() {
  for (;;) {
    Fetch fetch;
    {
      absl::MutexLock lock(&mu_);
      const auto due = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return stopping_ || !fetches_.empty();
      };
      mu_.Await(absl::Condition(&due));
      if (stopping_) return;
      fetch = std::move(fetches_.front());
      fetches_.pop_front();
    }
    fetch.done(RunFetch(fetch));
  }
}

absl::Status Replicator::FetchSymbols(const Peer& peer, const DumpKey& dump,
                                      std::vector<BlockSymbols>* left,
                                      std::array<NumberSet, DCAST_CLASSES>* blocks,
                                      FetchResult* result) {
  if (left->empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<BlockSymbols>> came = peer.FetchSymbols(dump, *left);
  if (absl::IsUnimplemented(came.status())) {
    for (const BlockSymbols& one : *left) (*blocks)[one.key.block_class].Add(one.key.number);
    left->clear();
    return absl::OkStatus();
  }
  if (!came.ok()) return came.status();
  absl::flat_hash_map<BlockKey, uint64_t> given;
  for (BlockSymbols& one : *came) {
    given[one.key] = one.mask;
    result->symbols.push_back(std::move(one));
  }
  // What it had too few of another peer may add to.
  std::erase_if(*left, [&given](BlockSymbols& one) {
    const auto it = given.find(one.key);
    if (it == given.end()) return false;
    one.mask &= ~it->second;
    one.count -= std::min(one.count, static_cast<uint32_t>(std::popcount(it->second)));
    return one.count == 0;
  });
  return absl::OkStatus();
}

FetchResult Replicator::RunFetch(const Fetch& fetch) {
  FetchResult result;
  std::array<NumberSet, DCAST_CLASSES> left = NumbersOf(fetch.runs);
  std::vector<BlockSymbols> symbols = fetch.symbols;
  std::vector<std::shared_ptr<Peer>> peers = CurrentPeers();
  // Begin with another peer each time, so that one does not carry all the repair.
  if (!peers.empty()) {
    uint64_t turn = 0;
    {
      absl::MutexLock lock(&mu_);
      turn = fetch_turn_++;
    }
    std::rotate(peers.begin(), peers.begin() + static_cast<ptrdiff_t>(turn % peers.size()),
                peers.end());
  }
  size_t bytes = 0;
  for (const std::shared_ptr<Peer>& peer : peers) {
    if (IsSelf(*peer)) continue;
    absl::Status s = FetchSymbols(*peer, fetch.dump, &symbols, &left, &result);
    std::vector<BlockRun> wanted;
    for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
      for (const NumberRun& run : left[c].Runs()) {
        if (wanted.size() < kRunsPerRequest) {
          wanted.push_back({c, run.first, run.count});
        } else {
          result.more = true;
        }
      }
    }
    bool cut_short = false;
    absl::flat_hash_set<BlockKey> got;
    std::array<NumberSet, DCAST_CLASSES> came;
    if (s.ok() && !wanted.empty()) {
      s = peer->FetchBlocks(
          fetch.dump, wanted, {},
          [&](const BlockKey& key, std::string encoded) {
            if (!left[key.block_class].Contains(key.number)) return true;
            if (!Verified(fetch.dump, fetch.key_epoch, key, encoded)) return true;
            if (!got.insert(key).second) return true;
            came[key.block_class].Add(key.number);
            bytes += encoded.size();
            result.blocks.push_back({key, std::move(encoded)});
            return result.blocks.size() < options_.batch_blocks && bytes < options_.batch_bytes;
          },
          &cut_short);
    }
    // A peer that has never heard of the dump has answered, too.
    if (s.ok() || absl::IsNotFound(s)) {
      result.peers_asked++;
    } else {
      absl::MutexLock lock(&mu_);
      stats_.peer_failures++;
    }
    if (cut_short) {
      result.more = true;
      break;
    }
    bool whole = symbols.empty();
    for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
      left[c] = left[c].Minus(came[c]);
      whole = whole && left[c].empty();
    }
    if (whole || calls_.cancelled()) break;
  }
  return result;
}

}  // namespace dumpcast
