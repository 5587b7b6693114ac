// SPDX-License-Identifier: Apache-2.0
#include "store/rocks_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/rocks_format.h"
#include "store/rocks_store.h"

namespace dumpcast {
namespace {

// Up to so many keys further on, stepping is cheaper than searching.
constexpr int kMaxSteps = 4;

std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

}  // namespace

absl::StatusOr<OpenedBlocks> RocksStore::OpenBlocks(const DumpKey& dump) const {
  OpenedBlocks opened;
  absl::Status status = ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    // No block of this dump is put while its sets are locked: all three speak of one moment.
    opened.keys = blocks.held.keys();
    opened.key_sum = blocks.held.key_sum();
    std::array<NumberSet, DCAST_CLASSES> held;
    for (uint8_t c = 0; c < DCAST_CLASSES; c++) held[c] = blocks.held.numbers(c);
    opened.source = std::make_shared<RocksSource>(db_.get(), blocks_, index_, db_->GetSnapshot(),
                                                  dump, std::move(held));
  });
  if (!status.ok()) return status;
  return opened;
}

RocksSource::RocksSource(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* blocks,
                         rocksdb::ColumnFamilyHandle* index, const rocksdb::Snapshot* snapshot,
                         const DumpKey& dump, std::array<NumberSet, DCAST_CLASSES> held)
    : db_(db),
      blocks_(blocks),
      index_(index),
      snapshot_(snapshot),
      dump_(dump),
      held_(std::move(held)) {}

RocksSource::~RocksSource() {
  for (auto* cursors : {&block_cursors_, &index_cursors_}) {
    for (Cursor& cursor : *cursors) {
      absl::MutexLock lock(&cursor.mu);
      cursor.it.reset();
    }
  }
  db_->ReleaseSnapshot(snapshot_);
}

absl::StatusOr<BlockState> RocksSource::ReadBlock(uint8_t block_class, uint64_t number,
                                                  std::string* encoded) const {
  return Read(&block_cursors_[block_class % DCAST_CLASSES], blocks_, block_class, number, false,
              encoded);
}

absl::StatusOr<BlockState> RocksSource::ReadBlockHeader(uint8_t block_class, uint64_t number,
                                                        std::string* header) const {
  return Read(&index_cursors_[block_class % DCAST_CLASSES], index_, block_class, number, true,
              header);
}

absl::StatusOr<BlockState> RocksSource::Read(Cursor* cursor, rocksdb::ColumnFamilyHandle* family,
                                             uint8_t block_class, uint64_t number, bool index,
                                             std::string* out) const {
  out->clear();
  if (block_class >= DCAST_CLASSES || !held_[block_class].Contains(number)) {
    return BlockState::kMissing;
  }
  const std::string first = rocks::EncodeBlockKey(dump_, {block_class, number, 0});
  absl::MutexLock lock(&cursor->mu);
  if (cursor->it == nullptr) {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot_;
    read.fill_cache = false;
    cursor->it.reset(db_->NewIterator(read, family));
  }
  rocksdb::Iterator& it = *cursor->it;
  int steps = 0;
  if (it.Valid() && it.key().compare(first) <= 0) {
    while (it.Valid() && it.key().compare(first) < 0 && steps++ < kMaxSteps) it.Next();
  } else {
    steps = kMaxSteps + 1;
  }
  if (steps > kMaxSteps || !it.Valid()) it.Seek(first);
  bool empty = false;
  for (; it.Valid(); it.Next()) {
    const std::string_view bytes = ToView(it.key());
    const std::optional<BlockKey> key = rocks::DecodeBlockKey(bytes);
    if (!key || bytes.compare(0, rocks::kDumpBytes, first, 0, rocks::kDumpBytes) != 0 ||
        key->block_class != block_class || key->number != number) {
      break;
    }
    if (key->digest == 0) {
      empty = true;
      continue;
    }
    if (!index) {
      out->assign(it.value().data(), it.value().size());
      return BlockState::kHeld;
    }
    const std::optional<rocks::IndexValue> value = rocks::DecodeIndexValue(ToView(it.value()));
    if (!value) return absl::DataLossError("the store has an index entry that is none");
    out->assign(value->head);
    return BlockState::kHeld;
  }
  const std::string name =
      absl::StrCat("block ", block_class, "/", number, " of ", dump_.ResourceName());
  if (rocksdb::Status s = it.status(); !s.ok()) {
    cursor->it.reset();  // an iterator that has failed stays so
    return rocks::ToAbsl(s, name);
  }
  if (empty) return BlockState::kEmpty;
  return absl::DataLossError(absl::StrCat(name, " was held and is gone: deleted meanwhile?"));
}

absl::StatusOr<std::vector<HeldRun>> RocksSource::HeldRuns(uint8_t block_class, uint64_t first,
                                                           uint64_t last) const {
  std::vector<HeldRun> runs;
  if (block_class >= DCAST_CLASSES) return runs;
  held_[block_class].ForEachRun([&](uint64_t run_first, uint64_t run_count) {
    const uint64_t run_last = run_first + run_count - 1;
    if (run_first > last) return false;
    if (run_last < first) return true;
    const uint64_t from = std::max(run_first, first);
    runs.push_back({from, std::min(run_last, last) - from + 1});
    return true;
  });
  return runs;
}

}  // namespace dumpcast
