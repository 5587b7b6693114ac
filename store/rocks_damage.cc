// SPDX-License-Identifier: Apache-2.0
// RocksStore: blocks whose bytes the disk has changed. Tables stay as they are; what a peer gives
// again is written anew, and a search for one key finds the newer copy before the damaged one.
#include <rocksdb/table.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/rocks_format.h"
#include "store/rocks_store.h"

namespace dumpcast {
namespace {

using rocks::ToAbsl;

constexpr int kOpenTries = 10;
constexpr absl::Duration kOpenAgain = absl::Milliseconds(50);

std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

}  // namespace

absl::Status RocksStore::ReadAgain(const DumpKey& dump, const BlockKey& key,
                                   std::string* encoded) const {
  if (const auto buffered = FindBuffered(dump, key)) {
    *encoded = *buffered;
    return absl::OkStatus();
  }
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  const rocksdb::Status s = db_->Get(read, blocks_, rocks::EncodeBlockKey(dump, key), encoded);
  if (s.ok()) return absl::OkStatus();
  if (s.IsCorruption()) NoteDamage(dump, key);
  return rocks::Vanished(s.IsNotFound() ? rocksdb::Status::OK() : s, dump, key);
}

void RocksStore::NoteDamage(const DumpKey& dump, const BlockKey& key) const {
  absl::MutexLock lock(&damage_mu_);
  const auto [it, first] = damaged_.try_emplace(dump);
  it->second.insert(key);
  if (first && options_.log)
    options_.log(absl::StrCat("the disk of ", options_.path, " has changed blocks of ",
                              dump.ResourceName(),
                              ": peers are asked for them; look at the disk, and replace it"));
}

std::vector<DamagedDump> RocksStore::Damaged() const {
  std::vector<DamagedDump> damaged;
  absl::MutexLock lock(&damage_mu_);
  for (const auto& [dump, keys] : damaged_)
    damaged.push_back({dump, std::vector<BlockKey>(keys.begin(), keys.end())});
  return damaged;
}

void RocksStore::ForgetDamage(const DumpKey& dump) {
  absl::MutexLock lock(&damage_mu_);
  damaged_.erase(dump);
}

absl::Status RocksStore::ReplaceBlocks(
    const DumpKey& dump, const std::vector<std::pair<BlockKey, std::string>>& blocks) {
  if (blocks.empty()) return absl::OkStatus();
  {
    absl::MutexLock one_at_a_time(&flush_mu_);
    absl::ReaderMutexLock gate(&gate_);
    if (tombstones_.contains(dump)) return absl::OkStatus();
    std::vector<TableRow> rows;
    for (const auto& [key, encoded] : blocks) {
      if (absl::Status s = Admit(encoded.size()); !s.ok()) return s;
      rows.emplace_back(rocks::EncodeBlockKey(dump, key), encoded);
    }
    if (absl::Status s = WriteTables(std::move(rows)); !s.ok()) {
      NoteWriteFailure(s);
      return s;
    }
    // META or PRESENCE may be among them: what is expected is read anew.
    std::shared_ptr<DumpEntry> entry = EntryOf(dump);
    absl::MutexLock lock(&entry->mu);
    if (entry->buffered.empty()) entry->loaded = false;
  }
  absl::MutexLock lock(&damage_mu_);
  const auto it = damaged_.find(dump);
  if (it == damaged_.end()) return absl::OkStatus();
  for (const auto& [key, encoded] : blocks) it->second.erase(key);
  if (it->second.empty()) damaged_.erase(it);
  return absl::OkStatus();
}

absl::Status RocksStore::ReadThrough(const BlockTables& tables, std::string* at,
                                     std::string_view prefix, uint64_t bytes) const {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 1 << 20;
  const std::unique_ptr<rocksdb::Iterator> index(db_->NewIterator(read, index_));
  std::unique_ptr<rocksdb::Iterator> blocks(tables.db->NewIterator(read, tables.family));
  uint64_t seen = 0;
  for (index->Seek(*at);
       index->Valid() && index->key().starts_with(rocksdb::Slice(prefix.data(), prefix.size()));
       index->Next()) {
    *at = index->key().ToString();
    if (seen >= bytes) return absl::OkStatus();
    rocks::Advance(blocks.get(), *at);
    if (blocks->Valid() && ToView(blocks->key()) == *at) {
      seen += blocks->value().size();
      continue;
    }
    // Gone with a deleted dump, or damaged.
    const std::optional<DumpKey> dump = rocks::DecodeDump(*at);
    const std::optional<BlockKey> key = rocks::DecodeBlockKey(*at);
    if (!blocks->status().ok()) blocks.reset(tables.db->NewIterator(read, tables.family));
    std::string encoded;
    const rocksdb::Status s = tables.db->Get(read, tables.family, *at, &encoded);
    if (dump && key && s.IsCorruption()) NoteDamage(*dump, *key);
    seen += encoded.size();
  }
  at->clear();
  return ToAbsl(index->status(), "cannot read the store's index");
}

absl::Status RocksStore::Scrub(uint64_t bytes) {
  absl::MutexLock lock(&scrub_mu_);
  if (scrub_at_.empty()) block_cache_->EraseUnRefEntries();
  return ReadThrough({db_.get(), blocks_}, &scrub_at_, "", bytes);
}

absl::Status RocksStore::Verify(const DumpKey& dump) const {
  // What a cache has says nothing of the disk: the same tables, opened once more without one.
  rocksdb::BlockBasedTableOptions uncached;
  uncached.no_block_cache = true;
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(uncached));
  rocksdb::DBOptions read_only = db_->GetDBOptions();
  read_only.listeners.clear();
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  rocksdb::DB* opened = nullptr;
  rocksdb::Status s;
  // Files that the database drops meanwhile may be missed.
  for (int i = 0; i < kOpenTries; ++i) {
    s = rocksdb::DB::OpenForReadOnly(
        read_only, options_.path,
        {{rocksdb::kDefaultColumnFamilyName, family}, {std::string(rocks::kBlocksFamily), family}},
        &families, &opened);
    if (s.ok()) break;
    absl::SleepFor(kOpenAgain);
  }
  if (!s.ok()) return ToAbsl(s, "cannot open the tables once more");
  const std::unique_ptr<rocksdb::DB> db(opened);
  std::string at = rocks::DumpPrefix(dump);
  absl::Status status =
      ReadThrough({opened, families[1]}, &at, rocks::DumpPrefix(dump), ~uint64_t{0});
  for (rocksdb::ColumnFamilyHandle* handle : families)
    db->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  return status;
}

void RocksStore::StopMerging() const {
  // Merges would meet the damaged table again and again. Without them searches take longer, and
  // that is all: nothing is refused for it.
  if (!merge_failed_.exchange(false)) return;
  const rocksdb::Status s = db_->SetOptions(blocks_, {{"disable_auto_compactions", "true"}});
  if (options_.log)
    options_.log(absl::StrCat("a table of ", options_.path,
                              " is damaged: tables are merged no more until the next start (",
                              s.ToString(), ")"));
}

}  // namespace dumpcast
