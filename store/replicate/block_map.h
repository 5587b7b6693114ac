// SPDX-License-Identifier: Apache-2.0
// A block set as relays tell each other of it (replication.proto, ClassMap): numbers exactly,
// digests by the sums of 4096 numbers each.
#ifndef DUMPCAST_STORE_REPLICATE_BLOCK_MAP_H_
#define DUMPCAST_STORE_REPLICATE_BLOCK_MAP_H_

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "dumpcast/v1/replication.pb.h"
#include "store/block_set.h"
#include "store/store.h"

namespace dumpcast {

// Thread safety: as a standard container.
class BlockMap {
 public:
  static BlockMap FromSet(const BlockSet& set);
  // INVALID_ARGUMENT names the malformed class.
  static absl::StatusOr<BlockMap> FromProto(const v1::GetBlockMapResponse& proto);
  void ToProto(v1::GetBlockMapResponse* proto) const;

  const NumberSet& numbers(uint8_t block_class) const { return numbers_[block_class]; }

  // Numbers that `theirs` has and this has not, at most max_runs runs.
  std::vector<BlockRun> MissingFrom(const BlockMap& theirs, size_t max_runs) const;
  // Buckets (as runs of 4096 numbers) where both have numbers and the sums differ: their digests
  // there are not all known here, or ours not all there. At most max_runs.
  std::vector<BlockRun> DifferingBuckets(const BlockMap& theirs, size_t max_runs) const;

 private:
  std::array<NumberSet, DCAST_CLASSES> numbers_;
  std::array<std::map<uint64_t, uint64_t>, DCAST_CLASSES> bucket_sums_;  // by number >> 12
};

// What GetInventory says of a dump: of its durable blocks, or of the tombstone.
absl::StatusOr<v1::DumpSummary> Summarize(const Store& store, const v1::DumpRecord& record);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_REPLICATE_BLOCK_MAP_H_
