// SPDX-License-Identifier: Apache-2.0
#include "store/number_set.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

uint32_t High(uint64_t number) {
  return static_cast<uint32_t>(number >> 32);
}
uint32_t Low(uint64_t number) {
  return static_cast<uint32_t>(number);
}

// Last number of a range; ranges that would pass 2^64 are cut there.
uint64_t LastOf(uint64_t first, uint64_t count) {
  return count - 1 > std::numeric_limits<uint64_t>::max() - first
             ? std::numeric_limits<uint64_t>::max()
             : first + count - 1;
}

}  // namespace

bool NumberSet::Add(uint64_t number) {
  return chunks_[High(number)].addChecked(Low(number));
}

void NumberSet::AddRange(uint64_t first, uint64_t count) {
  if (count == 0) return;
  const uint64_t last = LastOf(first, count);
  for (uint64_t high = High(first); high <= High(last); high++) {
    const uint64_t from = high == High(first) ? Low(first) : 0;
    const uint64_t to = high == High(last) ? Low(last) : std::numeric_limits<uint32_t>::max();
    chunks_[static_cast<uint32_t>(high)].addRange(from, to + 1);
  }
}

bool NumberSet::Contains(uint64_t number) const {
  const auto it = chunks_.find(High(number));
  return it != chunks_.end() && it->second.contains(Low(number));
}

uint64_t NumberSet::Count() const {
  uint64_t count = 0;
  for (const auto& [high, chunk] : chunks_) count += chunk.cardinality();
  return count;
}

uint64_t NumberSet::CountIn(uint64_t first, uint64_t count) const {
  if (count == 0) return 0;
  const uint64_t last = LastOf(first, count);
  uint64_t found = 0;
  for (auto it = chunks_.lower_bound(High(first)); it != chunks_.end() && it->first <= High(last);
       ++it) {
    uint64_t up_to = it->second.cardinality();
    if (it->first == High(last)) up_to = it->second.rank(Low(last));
    uint64_t before = 0;
    if (it->first == High(first) && Low(first) != 0) before = it->second.rank(Low(first) - 1);
    found += up_to - before;
  }
  return found;
}

void NumberSet::UnionWith(const NumberSet& other) {
  for (const auto& [high, chunk] : other.chunks_) chunks_[high] |= chunk;
}

NumberSet NumberSet::Minus(const NumberSet& other) const {
  NumberSet result;
  for (const auto& [high, chunk] : chunks_) {
    const auto it = other.chunks_.find(high);
    ::Roaring rest = it == other.chunks_.end() ? chunk : chunk - it->second;
    if (!rest.isEmpty()) result.chunks_.emplace(high, std::move(rest));
  }
  return result;
}

uint64_t NumberSet::CountMinus(const NumberSet& other) const {
  uint64_t count = 0;
  for (const auto& [high, chunk] : chunks_) {
    const auto it = other.chunks_.find(high);
    count += it == other.chunks_.end() ? chunk.cardinality() : chunk.andnot_cardinality(it->second);
  }
  return count;
}

bool NumberSet::operator==(const NumberSet& other) const {
  return std::equal(
      chunks_.begin(), chunks_.end(), other.chunks_.begin(), other.chunks_.end(),
      [](const auto& a, const auto& b) { return a.first == b.first && a.second == b.second; });
}

void NumberSet::ForEachRun(const std::function<bool(uint64_t, uint64_t)>& visit) const {
  uint64_t first = 0;
  uint64_t count = 0;
  for (const auto& [high, chunk] : chunks_) {
    // The C iterator in batches: one call for each 1024 numbers, not for each.
    roaring_uint32_iterator_t it;
    roaring_init_iterator(&chunk.roaring, &it);
    uint32_t batch[1024];
    for (uint32_t got; (got = roaring_read_uint32_iterator(&it, batch, 1024)) != 0;) {
      for (uint32_t i = 0; i < got; i++) {
        const uint64_t number = static_cast<uint64_t>(high) << 32 | batch[i];
        if (count != 0 && first + count == number) {
          count++;
          continue;
        }
        if (count != 0 && !visit(first, count)) return;
        first = number;
        count = 1;
      }
    }
  }
  if (count != 0) visit(first, count);
}

std::vector<NumberRun> NumberSet::Runs() const {
  std::vector<NumberRun> runs;
  ForEachRun([&](uint64_t first, uint64_t count) {
    runs.push_back({first, count});
    return true;
  });
  return runs;
}

std::string NumberSet::SerializeChunk(uint32_t index) const {
  const auto it = chunks_.find(index);
  if (it == chunks_.end()) return "";
  ::Roaring copy = it->second;
  copy.runOptimize();
  std::string bytes(copy.getSizeInBytes(), '\0');
  copy.write(bytes.data());
  return bytes;
}

uint32_t NumberSet::chunk_end() const {
  return chunks_.empty() ? 0 : chunks_.rbegin()->first + 1;
}

absl::Status NumberSet::AddSerializedChunk(uint32_t index, std::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  roaring_bitmap_t* raw = roaring_bitmap_portable_deserialize_safe(bytes.data(), bytes.size());
  if (raw == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a block map is a CRoaring bitmap in portable format; ", bytes.size(), " bytes are none"));
  }
  ::Roaring chunk(raw);
  if (!chunk.isEmpty()) chunks_[index] |= chunk;
  return absl::OkStatus();
}

NumberSet NumberSet::Slice(uint64_t first, uint64_t count) const {
  NumberSet result;
  if (count == 0) return result;
  const uint64_t last = LastOf(first, count);
  ForEachRun([&](uint64_t run_first, uint64_t run_count) {
    const uint64_t run_last = run_first + run_count - 1;
    if (run_first > last) return false;
    if (run_last < first) return true;
    const uint64_t from = std::max(run_first, first);
    result.AddRange(from - first, std::min(run_last, last) - from + 1);
    return true;
  });
  return result;
}

}  // namespace dumpcast
