// SPDX-License-Identifier: Apache-2.0
// A peer's block map, as it comes off the wire, compared with a small one of our own.
#include <cstddef>
#include <cstdint>

#include "store/replicate/block_map.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dumpcast::v1::GetBlockMapResponse proto;
  if (!proto.ParseFromArray(data, static_cast<int>(size))) return 0;
  const auto theirs = dumpcast::BlockMap::FromProto(proto);
  if (!theirs.ok()) return 0;
  dumpcast::BlockSet set;
  for (uint64_t n = 0; n < 100; n++) set.Add({1, n * 3, n + 1}, 1);
  const dumpcast::BlockMap ours = dumpcast::BlockMap::FromSet(set);
  (void)ours.MissingFrom(*theirs, 100);
  (void)ours.DifferingBuckets(*theirs, 100);
  return 0;
}
