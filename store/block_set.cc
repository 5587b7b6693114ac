// SPDX-License-Identifier: Apache-2.0
#include "store/block_set.h"

#include <algorithm>
#include <cstring>

#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

// 4 PiB of windows, and class 0 streams of 16 GiB: beyond that META is not believed.
constexpr uint64_t kMaxSlices = 1ull << 21;
constexpr uint64_t kMaxStreamChunks = 1ull << 18;

}  // namespace

std::array<NumberSet, DCAST_CLASSES> NumbersOf(const std::vector<BlockRun>& runs) {
  std::array<NumberSet, DCAST_CLASSES> numbers;
  for (const BlockRun& run : runs) {
    if (run.block_class < DCAST_CLASSES) {
      numbers[run.block_class].AddRange(run.first, run.count);
    }
  }
  return numbers;
}

void BlockSet::Add(const BlockKey& key, uint64_t encoded_bytes) {
  const uint64_t mix = MixBlockKey(key);
  numbers_[key.block_class].Add(key.number);
  bucket_sums_[key.block_class][key.number >> kBucketShift] += mix;
  keys_++;
  key_sum_ += mix;
  encoded_bytes_ += encoded_bytes;
}

uint64_t BlockSet::blocks() const {
  uint64_t count = 0;
  for (const NumberSet& numbers : numbers_) count += numbers.Count();
  return count;
}

bool Expectation::AddChunk(uint64_t number, std::string_view raw) {
  const uint64_t stream = number >> DCAST_STREAM_SHIFT;
  const uint64_t chunk = number & ((1ull << DCAST_STREAM_SHIFT) - 1);
  if (stream == DCAST_STREAM_META && chunk == 0) {
    dcast_meta meta{};
    if (raw.size() < DCAST_META_LEAST_BYTES) return false;
    memcpy(&meta, raw.data(), std::min(sizeof(meta), raw.size()));
    std::array<uint64_t, DCAST_STREAMS> chunks{};
    for (unsigned s = 0; s < DCAST_STREAMS; s++) {
      const uint64_t bytes = dcast_le64(meta.stream_len[s]);
      const uint64_t unit =
          s == DCAST_STREAM_PRESENCE ? sizeof(dcast_presence) : uint64_t{DCAST_WINDOW_BYTES};
      chunks[s] = bytes / unit + (bytes % unit != 0);
      if (chunks[s] > (s == DCAST_STREAM_PRESENCE ? kMaxSlices : kMaxStreamChunks)) return false;
    }
    for (unsigned s = 0; s < DCAST_STREAMS; s++) {
      numbers_[0].AddRange(dcast_class0_number(s, 0), chunks[s]);
    }
    numbers_[0].Add(dcast_class0_number(DCAST_STREAM_META, 0));
    slice_count_ = std::max(slice_count_, chunks[DCAST_STREAM_PRESENCE]);
    has_meta_ = true;
    return true;
  }
  if (stream != DCAST_STREAM_PRESENCE) return true;
  if (raw.size() != sizeof(dcast_presence) || chunk >= kMaxSlices) return false;
  const auto* bits = reinterpret_cast<const uint8_t*>(raw.data());
  for (uint8_t block_class = 1; block_class < DCAST_CLASSES; block_class++) {
    uint64_t first = 0;
    uint64_t count = 0;
    for (uint64_t w = 0; w < DCAST_SLICE_WINDOWS; w++) {
      if ((bits[w / 8] >> (w % 8) & 1) != 0) {
        if (count++ == 0) first = w;
      } else if (count != 0) {
        numbers_[block_class].AddRange(chunk * DCAST_SLICE_WINDOWS + first, count);
        count = 0;
      }
    }
    if (count != 0) numbers_[block_class].AddRange(chunk * DCAST_SLICE_WINDOWS + first, count);
    bits += DCAST_SLICE_WINDOWS / 8;
  }
  slices_.Add(chunk);
  return true;
}

bool Expectation::known() const {
  return has_meta_ && slices_.CountIn(0, slice_count_) == slice_count_;
}

uint64_t Expectation::blocks() const {
  uint64_t count = 0;
  for (const NumberSet& numbers : numbers_) count += numbers.Count();
  return count;
}

std::vector<NumberRun> Expectation::missing_slices() const {
  NumberSet all;
  all.AddRange(0, slice_count_);
  return all.Minus(slices_).Runs();
}

bool IsComplete(const Expectation& expected, const BlockSet& set) {
  if (!expected.known()) return false;
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
    if (expected.numbers(c).CountMinus(set.numbers(c)) != 0) return false;
  }
  return true;
}

uint64_t CountExpectedHeld(const Expectation& expected, const BlockSet& set) {
  uint64_t held = 0;
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
    held += expected.numbers(c).Count() - expected.numbers(c).CountMinus(set.numbers(c));
  }
  return held;
}

std::vector<BlockRun> MissingBlocks(const Expectation& expected, const BlockSet& set,
                                    size_t max_runs) {
  std::vector<BlockRun> runs;
  if (max_runs == 0) return runs;
  if (!expected.has_meta()) {
    // Held and yet not known: the chunk does not decode. Another encoding may.
    runs.push_back({0, dcast_class0_number(DCAST_STREAM_META, 0), 1});
  }
  for (uint8_t c = 0; c < DCAST_CLASSES && runs.size() < max_runs; c++) {
    expected.numbers(c).Minus(set.numbers(c)).ForEachRun([&](uint64_t first, uint64_t count) {
      runs.push_back({c, first, count});
      return runs.size() < max_runs;
    });
  }
  return runs;
}

}  // namespace dumpcast
