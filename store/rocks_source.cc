// SPDX-License-Identifier: Apache-2.0
#include "store/rocks_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/rocks_format.h"
#include "store/rocks_store.h"

namespace dumpcast {
namespace {

std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

}  // namespace

absl::StatusOr<OpenedBlocks> RocksStore::OpenBlocks(const DumpKey& dump) const {
  OpenedBlocks opened;
  std::shared_ptr<DumpEntry> entry = EntryOf(dump);
  // No block of this dump is put while its entry is locked: all of these speak of one moment.
  absl::MutexLock lock(&entry->mu);
  if (absl::Status s = Load(dump, entry.get()); !s.ok()) return s;
  const BlockSet& set = entry->blocks.held;
  opened.keys = set.keys();
  opened.key_sum = set.key_sum();
  std::array<NumberSet, DCAST_CLASSES> held;
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) held[c] = set.numbers(c);
  opened.source = std::make_shared<RocksSource>(
      this, db_.get(), blocks_, index_, db_->GetSnapshot(), dump, std::move(held), entry->buffered);
  return opened;
}

RocksSource::RocksSource(const RocksStore* store, rocksdb::DB* db,
                         rocksdb::ColumnFamilyHandle* blocks, rocksdb::ColumnFamilyHandle* index,
                         const rocksdb::Snapshot* snapshot, const DumpKey& dump,
                         std::array<NumberSet, DCAST_CLASSES> held, rocks::BufferedKeys buffered)
    : store_(store),
      db_(db),
      blocks_(blocks),
      index_(index),
      snapshot_(snapshot),
      dump_(dump),
      held_(std::move(held)),
      buffered_(std::move(buffered)) {}

RocksSource::~RocksSource() {
  for (Cursor& cursor : cursors_) {
    absl::MutexLock lock(&cursor.mu);
    cursor.keys.reset();
    cursor.blocks.reset();
  }
  db_->ReleaseSnapshot(snapshot_);
}

absl::StatusOr<BlockState> RocksSource::ReadBlock(uint8_t block_class, uint64_t number,
                                                  std::string* encoded) const {
  return Read(&cursors_[block_class % DCAST_CLASSES], block_class, number, false, encoded);
}

absl::StatusOr<BlockState> RocksSource::ReadBlockHeader(uint8_t block_class, uint64_t number,
                                                        std::string* header) const {
  return Read(&cursors_[block_class % DCAST_CLASSES], block_class, number, true, header);
}

absl::StatusOr<BlockState> RocksSource::Read(Cursor* cursor, uint8_t block_class, uint64_t number,
                                             bool header_only, std::string* out) const {
  out->clear();
  if (block_class >= DCAST_CLASSES || !held_[block_class].Contains(number)) {
    return BlockState::kMissing;
  }
  absl::MutexLock lock(&cursor->mu);
  if (cursor->keys == nullptr) {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot_;
    read.fill_cache = false;
    cursor->keys = std::make_unique<rocks::KeyScan>(
        std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(read, index_)), dump_, &buffered_);
    cursor->blocks.reset(db_->NewIterator(read, blocks_));
  }
  rocks::KeyScan& keys = *cursor->keys;
  keys.SeekTo({block_class, number, 0});
  BlockKey key{block_class, number, 0};
  bool empty = false;
  if (keys.Valid() && keys.key() == key) {
    empty = true;  // EMPTY; an encoding after it counts more
    keys.Next();
  }
  if (!keys.Valid() || keys.key().block_class != block_class || keys.key().number != number) {
    if (empty) return BlockState::kEmpty;
    absl::Status status = keys.status();
    cursor->keys.reset();
    if (status.ok()) status = rocks::Vanished(rocksdb::Status::OK(), dump_, key);
    return status;
  }
  key = keys.key();
  if (header_only) {
    out->assign(rocks::DecodeIndexValue(keys.value())->head);
    return BlockState::kHeld;
  }
  const std::string bytes = rocks::EncodeBlockKey(dump_, key);
  const bool buffered = buffered_.contains(key);
  if (!buffered) rocks::Advance(cursor->blocks.get(), bytes);
  if (buffered || !cursor->blocks->Valid() || ToView(cursor->blocks->key()) != bytes) {
    const absl::Status status = store_->ReadAgain(dump_, key, out);
    if (!buffered) cursor->keys.reset();  // an iterator that has failed stays so
    if (!status.ok()) return status;
    return BlockState::kHeld;
  }
  out->assign(cursor->blocks->value().data(), cursor->blocks->value().size());
  return BlockState::kHeld;
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
