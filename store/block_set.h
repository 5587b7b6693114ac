// SPDX-License-Identifier: Apache-2.0
// What a relay holds of one dump, and what it should hold: kept in memory, so that counting and
// finding gaps reads no disk.
#ifndef DUMPCAST_STORE_BLOCK_SET_H_
#define DUMPCAST_STORE_BLOCK_SET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "protos/wire/dumpcast_wire.h"
#include "store/ids.h"
#include "store/number_set.h"

namespace dumpcast {

// Blocks first..first+count-1 of a class.
struct BlockRun {
  uint8_t block_class = 0;
  uint64_t first = 0;
  uint64_t count = 0;
  bool operator==(const BlockRun&) const = default;
};

// The numbers of runs, by class. Runs of a class that does not exist are left out.
std::array<NumberSet, DCAST_CLASSES> NumbersOf(const std::vector<BlockRun>& runs);

// A set of keys of one dump: numbers exactly, digests by sums (see MixBlockKey()).
//
// Thread safety: as a standard container.
class BlockSet {
 public:
  // log2 of the block numbers that share a bucket of key sums.
  static constexpr unsigned kBucketShift = 12;

  // Adds a key that is not in the set yet; `encoded_bytes` is the length of its encoding.
  void Add(const BlockKey& key, uint64_t encoded_bytes);

  bool HoldsNumber(uint8_t block_class, uint64_t number) const {
    return numbers_[block_class].Contains(number);
  }
  const NumberSet& numbers(uint8_t block_class) const { return numbers_[block_class]; }
  // Keys, and the sum mod 2^64 of their mixes: equal counts and sums mean equal sets.
  uint64_t keys() const { return keys_; }
  uint64_t key_sum() const { return key_sum_; }
  // Blocks, each (class, number) counted once.
  uint64_t blocks() const;
  uint64_t encoded_bytes() const { return encoded_bytes_; }
  // Sums of the mixes by bucket (number >> kBucketShift); buckets without keys are absent.
  const std::map<uint64_t, uint64_t>& bucket_sums(uint8_t block_class) const {
    return bucket_sums_[block_class];
  }

 private:
  std::array<NumberSet, DCAST_CLASSES> numbers_;
  std::array<std::map<uint64_t, uint64_t>, DCAST_CLASSES> bucket_sums_;
  uint64_t keys_ = 0;
  uint64_t key_sum_ = 0;
  uint64_t encoded_bytes_ = 0;
};

// Which blocks a dump consists of, as META and the PRESENCE slices that have arrived say. When one
// slice came in two encodings, their union is expected.
//
// Thread safety: as a standard container.
class Expectation {
 public:
  // Takes note of a decoded chunk of class 0; chunks of other streams change nothing. False when
  // the chunk is malformed: too short, or naming more than a dump can have.
  bool AddChunk(uint64_t number, std::string_view raw);

  bool has_meta() const { return has_meta_; }
  // Whether META and every slice of PRESENCE are here, so that `numbers` is all there is.
  bool known() const;
  const NumberSet& numbers(uint8_t block_class) const { return numbers_[block_class]; }
  // Blocks named so far.
  uint64_t blocks() const;
  // PRESENCE slices of META that have not arrived, ascending. Empty while META is missing.
  std::vector<NumberRun> missing_slices() const;

 private:
  std::array<NumberSet, DCAST_CLASSES> numbers_;
  NumberSet slices_;
  uint64_t slice_count_ = 0;
  bool has_meta_ = false;
};

// Both, for one dump. `durable` is what a restart would find, a subset of `held`.
struct DumpBlocks {
  BlockSet held;
  BlockSet durable;
  Expectation expected;
};

// Whether every block of a known expectation is in the set.
bool IsComplete(const Expectation& expected, const BlockSet& set);

// Expected blocks held, for progress.
uint64_t CountExpectedHeld(const Expectation& expected, const BlockSet& set);

// Expected blocks that are not in the set: class 0 first, ascending, at most max_runs runs. While
// META is missing this is META alone; missing slices come as runs of class 0.
std::vector<BlockRun> MissingBlocks(const Expectation& expected, const BlockSet& set,
                                    size_t max_runs);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_BLOCK_SET_H_
