// SPDX-License-Identifier: Apache-2.0
// Sets of block numbers, compressed (CRoaring).
#ifndef DUMPCAST_STORE_NUMBER_SET_H_
#define DUMPCAST_STORE_NUMBER_SET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <roaring/roaring.hh>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace dumpcast {

// A run of block numbers.
struct NumberRun {
  uint64_t first = 0;
  uint64_t count = 0;
  bool operator==(const NumberRun&) const = default;
};

// A set of 64-bit numbers: one 32-bit bitmap for each 2^32 of them that is not empty.
//
// Thread safety: as a standard container.
class NumberSet {
 public:
  // Whether the number was new.
  bool Add(uint64_t number);
  void AddRange(uint64_t first, uint64_t count);
  bool Contains(uint64_t number) const;
  uint64_t Count() const;
  bool empty() const { return chunks_.empty(); }
  // How many numbers lie in [first, first + count).
  uint64_t CountIn(uint64_t first, uint64_t count) const;

  void UnionWith(const NumberSet& other);
  // This set without the numbers of `other`.
  NumberSet Minus(const NumberSet& other) const;
  uint64_t CountMinus(const NumberSet& other) const;
  bool operator==(const NumberSet& other) const;

  // Calls visit(first, count) for each maximal run, ascending, until it returns false.
  void ForEachRun(const std::function<bool(uint64_t first, uint64_t count)>& visit) const;
  std::vector<NumberRun> Runs() const;

  // Chunk i (numbers i << 32 ..) in CRoaring's portable format; empty when it has none.
  std::string SerializeChunk(uint32_t index) const;
  // One past the highest chunk that is not empty; 0 for the empty set.
  uint32_t chunk_end() const;
  // Adds the numbers of a serialized chunk. INVALID_ARGUMENT when it is malformed.
  absl::Status AddSerializedChunk(uint32_t index, std::string_view bytes);

  // The numbers of [first, first + count), less `first`; used to cut a stream out of class 0.
  NumberSet Slice(uint64_t first, uint64_t count) const;

 private:
  std::map<uint32_t, ::Roaring> chunks_;  // none is empty
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_NUMBER_SET_H_
