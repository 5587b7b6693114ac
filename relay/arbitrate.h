// SPDX-License-Identifier: Apache-2.0
// Sequence numbers: which packets came twice, and how many of each path never came.
#ifndef DUMPCAST_RELAY_ARBITRATE_H_
#define DUMPCAST_RELAY_ARBITRATE_H_

#include <bitset>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "relay/packets.h"

namespace dumpcast {

enum class SeqVerdict {
  kNew,
  kSeen,  // this very packet came before
  kOld,   // too old to tell
};

// The numbers of one (origin, path, lane).
class SeqWindow {
 public:
  static constexpr uint64_t kBits = 1024;

  SeqVerdict Note(uint64_t seq);
  // Numbers between the first and the highest that have not come.
  uint64_t lost() const { return any_ ? highest_ - first_ + 1 - came_ : 0; }
  uint64_t came() const { return came_; }

 private:
  bool any_ = false;
  uint64_t first_ = 0;
  uint64_t highest_ = 0;
  uint64_t came_ = 0;
  std::bitset<kBits> seen_;  // bit seq % kBits, for (highest - kBits, highest]
};

// All windows of one host's senders, bounded: beyond kMaxWindows the one unheard for longest goes.
class SeqTable {
 public:
  static constexpr size_t kMaxWindows = 1100;  // two senders with all paths and lanes

  SeqVerdict Note(TimeNs now, uint64_t origin, uint8_t path, uint8_t lane, uint64_t seq);
  // Whether an ANNOUNCE or END is newer than all of its (origin, path, lane) before; after Note().
  bool Rising(uint64_t origin, uint8_t path, uint8_t lane, uint64_t seq);
  // Of all windows there ever were; falls when a number comes late.
  uint64_t lost() const { return lost_; }
  // Over all lanes.
  uint64_t Lost(uint64_t origin, uint8_t path) const;

 private:
  struct Key {
    uint64_t origin;
    uint8_t path, lane;
    bool operator==(const Key&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Key& key) {
      return H::combine(std::move(h), key.origin, key.path, key.lane);
    }
  };
  struct Entry {
    SeqWindow window;
    TimeNs heard_ns = 0;
    uint64_t state_seq = 0;
  };
  absl::flat_hash_map<Key, Entry> windows_;
  uint64_t lost_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ARBITRATE_H_
