// SPDX-License-Identifier: Apache-2.0
#include "store/replicate/block_map.h"

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

// More would be a dump of 2^52 bytes; a peer that says so is wrong.
constexpr uint64_t kMaxBuckets = 1ull << 24;
constexpr int kMaxChunks = 1 << 16;

uint64_t StreamStart(uint64_t stream) {
  return stream << DCAST_STREAM_SHIFT;
}

void AddClass(uint8_t block_class, uint32_t stream, const NumberSet& numbers, uint64_t bucket_base,
              const std::map<uint64_t, uint64_t>& sums, v1::GetBlockMapResponse* proto) {
  v1::ClassMap* map = proto->add_classes();
  map->set_block_class(block_class);
  map->set_stream(stream);
  for (uint32_t i = 0; i < numbers.chunk_end(); i++) map->add_roaring(numbers.SerializeChunk(i));
  for (const auto& [bucket, sum] : sums) {
    const auto index = static_cast<int>(bucket - bucket_base);
    while (map->bucket_sums_size() < index) map->add_bucket_sums(0);
    map->add_bucket_sums(sum);
  }
}

}  // namespace

BlockMap BlockMap::FromSet(const BlockSet& set) {
  BlockMap map;
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
    map.numbers_[c] = set.numbers(c);
    map.bucket_sums_[c] = set.bucket_sums(c);
  }
  return map;
}

void BlockMap::ToProto(v1::GetBlockMapResponse* proto) const {
  // Class 0 is many short streams far apart: one map for each, so that the lists stay dense.
  const std::map<uint64_t, uint64_t>& sums = bucket_sums_[0];
  for (uint32_t stream = 0; stream < DCAST_STREAMS; stream++) {
    const uint64_t start = StreamStart(stream);
    const NumberSet chunks = numbers_[0].Slice(start, StreamStart(1));
    if (chunks.empty()) continue;
    const uint64_t base = start >> BlockSet::kBucketShift;
    const std::map<uint64_t, uint64_t> part(
        sums.lower_bound(base),
        sums.lower_bound(StreamStart(stream + 1) >> BlockSet::kBucketShift));
    AddClass(0, stream, chunks, base, part, proto);
  }
  for (uint8_t c = 1; c < DCAST_CLASSES; c++) {
    if (!numbers_[c].empty()) AddClass(c, 0, numbers_[c], 0, bucket_sums_[c], proto);
  }
}

absl::StatusOr<BlockMap> BlockMap::FromProto(const v1::GetBlockMapResponse& proto) {
  BlockMap map;
  for (const v1::ClassMap& part : proto.classes()) {
    if (part.block_class() >= DCAST_CLASSES || part.stream() >= DCAST_STREAMS ||
        (part.block_class() != 0 && part.stream() != 0) || part.roaring_size() > kMaxChunks ||
        static_cast<uint64_t>(part.bucket_sums_size()) > kMaxBuckets) {
      return absl::InvalidArgumentError(absl::StrCat(
          "block map: wanted class 0 to 3, stream 0 to ", DCAST_STREAMS - 1,
          " in class 0 only; got class ", part.block_class(), ", stream ", part.stream(), ", ",
          part.roaring_size(), " bitmaps, ", part.bucket_sums_size(), " sums"));
    }
    NumberSet numbers;
    for (int i = 0; i < part.roaring_size(); i++) {
      absl::Status s = numbers.AddSerializedChunk(static_cast<uint32_t>(i), part.roaring(i));
      if (!s.ok()) return s;
    }
    const uint64_t start = StreamStart(part.stream());
    numbers.ForEachRun([&](uint64_t first, uint64_t count) {
      map.numbers_[part.block_class()].AddRange(start + first, count);
      return true;
    });
    for (int i = 0; i < part.bucket_sums_size(); i++) {
      if (part.bucket_sums(i) == 0) continue;
      map.bucket_sums_[part.block_class()][(start >> BlockSet::kBucketShift) +
                                           static_cast<uint64_t>(i)] = part.bucket_sums(i);
    }
  }
  return map;
}

std::vector<BlockRun> BlockMap::MissingFrom(const BlockMap& theirs, size_t max_runs) const {
  std::vector<BlockRun> runs;
  for (uint8_t c = 0; c < DCAST_CLASSES && runs.size() < max_runs; c++) {
    theirs.numbers_[c].Minus(numbers_[c]).ForEachRun([&](uint64_t first, uint64_t count) {
      runs.push_back({c, first, count});
      return runs.size() < max_runs;
    });
  }
  return runs;
}

std::vector<BlockRun> BlockMap::DifferingBuckets(const BlockMap& theirs, size_t max_runs) const {
  std::vector<BlockRun> runs;
  constexpr uint64_t kBucket = 1ull << BlockSet::kBucketShift;
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) {
    for (const auto& [bucket, sum] : theirs.bucket_sums_[c]) {
      const auto ours = bucket_sums_[c].find(bucket);
      if (ours == bucket_sums_[c].end() || ours->second == sum) continue;
      if (runs.size() >= max_runs) return runs;
      runs.push_back({c, bucket * kBucket, kBucket});
    }
  }
  return runs;
}

absl::StatusOr<v1::DumpSummary> Summarize(const Store& store, const v1::DumpRecord& record) {
  v1::DumpSummary summary;
  summary.set_host_id(record.host_id());
  summary.set_dump_id(record.dump_id());
  if (record.deleted()) {
    summary.set_deleted(true);
    return summary;
  }
  summary.set_key_epoch(record.key_epoch());
  summary.set_sealed(record.seal_unix_ns() != 0);
  absl::Status s = store.ReadBlockSets(KeyOf(record), [&](const DumpBlocks& blocks) {
    summary.set_keys(blocks.durable.keys());
    summary.set_key_sum(blocks.durable.key_sum());
    summary.set_blocks(blocks.durable.blocks());
    summary.set_complete(IsComplete(blocks.expected, blocks.durable));
  });
  if (!s.ok()) return s;
  return summary;
}

}  // namespace dumpcast
