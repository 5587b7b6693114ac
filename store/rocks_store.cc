// SPDX-License-Identifier: Apache-2.0
#include "store/rocks_store.h"

#include <rocksdb/convenience.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/rocks_format.h"
#include "store/rocks_index.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

using rocks::ToAbsl;

rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}
std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

rocksdb::WriteOptions Synced() {
  rocksdb::WriteOptions write;
  write.sync = true;
  return write;
}

bool TellsExpectation(const BlockKey& key) {
  if (key.block_class != 0 || key.digest == 0) return false;
  const uint64_t stream = key.number >> DCAST_STREAM_SHIFT;
  return stream == DCAST_STREAM_META || stream == DCAST_STREAM_PRESENCE;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  absl::StatusOr<std::unique_ptr<RocksStore>> store = RocksStore::Open(options);
  if (!store.ok()) return store.status();
  return std::unique_ptr<Store>(std::move(*store));
}

absl::StatusOr<std::unique_ptr<RocksStore>> RocksStore::Open(const StoreOptions& options) {
  auto store = std::unique_ptr<RocksStore>(new RocksStore(options));
  if (absl::Status s = store->OpenDatabase(); !s.ok()) return s;
  if (absl::Status s = store->CheckFormat(); !s.ok()) return s;
  if (absl::Status s = store->LoadTombstones(); !s.ok()) return s;
  store->RefreshHealth(/*force=*/true);
  store->reclaimer_ = std::thread([raw = store.get()] { raw->RunReclaimer(); });
  return store;
}

RocksStore::~RocksStore() {
  {
    const std::lock_guard<std::mutex> lock(reclaim_mu_);
    stopping_ = true;
    reclaim_cv_.notify_one();
  }
  if (db_ == nullptr) return;
  // A clean end loses nothing; nothing was promised of it should the disk have failed.
  Flush().IgnoreError();
  rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/false);
  if (reclaimer_.joinable()) reclaimer_.join();
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

absl::Status RocksStore::OpenDatabase() {
  std::error_code error;
  std::filesystem::create_directories(options_.path, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot create the store's folder ", options_.path, ": ", error.message(),
                     "; choose a folder that this user may write"));
  }
  direct_io_ = options_.direct_io && rocks::SupportsDirectIo(options_.path);
  const rocksdb::DBOptions db_options =
      rocks::DatabaseOptions(direct_io_, options_.log, [this] { merge_failed_ = true; });

  std::vector<std::string> existing;
  if (rocksdb::DB::ListColumnFamilies(db_options, options_.path, &existing).ok()) {
    for (const std::string& name : existing) {
      if (name != rocksdb::kDefaultColumnFamilyName && name != rocks::kBlocksFamily &&
          name != rocks::kIndexFamily) {
        return absl::FailedPreconditionError(absl::StrCat(
            "the store at ", options_.path, " has a part named \"", name,
            "\", which this version does not know: it was written by a newer dumpcast-relay"));
      }
    }
  }
  const std::vector<rocksdb::ColumnFamilyDescriptor> descriptors = {
      {rocksdb::kDefaultColumnFamilyName, rocks::RecordFamilyOptions()},
      {std::string(rocks::kBlocksFamily), rocks::BlockFamilyOptions()},
      {std::string(rocks::kIndexFamily), rocks::IndexFamilyOptions()}};
  block_cache_ = descriptors[1]
                     .options.table_factory->GetOptions<rocksdb::BlockBasedTableOptions>()
                     ->block_cache;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status s =
      rocksdb::DB::Open(db_options, options_.path, descriptors, &families_, &db);
  if (!s.ok()) {
    if (absl::StrContains(s.ToString(), "lock ")) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the store at ", options_.path,
          " is open in another process: stop that relay, or give this one another folder (",
          s.ToString(), ")"));
    }
    return ToAbsl(s, absl::StrCat("cannot open the store at ", options_.path));
  }
  db_.reset(db);
  records_ = families_[0];
  blocks_ = families_[1];
  index_ = families_[2];
  table_options_ = db_->GetOptions(blocks_);
  return RemoveNewTables();
}

absl::Status RocksStore::CheckFormat() {
  std::string version;
  rocksdb::Status s = db_->Get({}, records_, ToSlice(rocks::kFormatKey), &version);
  if (s.IsNotFound()) {
    std::random_device random;
    std::string id(8, '\0');
    for (char& c : id) c = static_cast<char>(random());
    id[0] = static_cast<char>(id[0] | 1);  // never 0
    rocksdb::WriteBatch batch;
    batch.Put(records_, ToSlice(rocks::kFormatKey), ToSlice(rocks::kFormatVersion));
    batch.Put(records_, ToSlice(rocks::kRelayIdKey), id);
    s = db_->Write(Synced(), &batch);
    if (!s.ok()) return ToAbsl(s, "cannot write the store's format record");
    version = rocks::kFormatVersion;
  } else if (!s.ok()) {
    return ToAbsl(s, "cannot read the store's format record");
  }
  if (version != rocks::kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the store at ", options_.path, " has format \"", version, "\", wanted \"",
                     std::string(rocks::kFormatVersion),
                     "\": use the dumpcast-relay that wrote it, or another folder"));
  }
  std::string id;
  s = db_->Get({}, records_, ToSlice(rocks::kRelayIdKey), &id);
  if (!s.ok() || id.size() != 8) {
    return absl::DataLossError(
        absl::StrCat("the store at ", options_.path, " has lost its relay id: ", s.ToString()));
  }
  memcpy(&relay_id_, id.data(), sizeof(relay_id_));
  return absl::OkStatus();
}

absl::Status RocksStore::LoadTombstones() {
  for (const v1::DumpRecord& record : ListDumps()) {
    if (!record.deleted()) continue;
    const DumpKey dump = KeyOf(record);
    {
      absl::MutexLock lock(&gate_);
      tombstones_.insert(dump);
    }
    // A crash between the tombstone and the drop leaves blocks behind.
    const std::string prefix = rocks::DumpPrefix(dump);
    for (rocksdb::ColumnFamilyHandle* family : {blocks_, index_}) {
      std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}, family));
      it->Seek(prefix);
      if (!it->Valid() || !it->key().starts_with(prefix)) continue;
      if (absl::Status s = DropBlocks(dump); !s.ok()) return s;
      break;
    }
  }
  return absl::OkStatus();
}

std::shared_ptr<RocksStore::DumpEntry> RocksStore::EntryOf(const DumpKey& dump) const {
  absl::MutexLock lock(&entries_mu_);
  std::shared_ptr<DumpEntry>& entry = entries_[dump];
  if (entry == nullptr) {
    entry = std::make_shared<DumpEntry>();
    if (entries_.size() > options_.loaded_dumps) {
      // Forget the one used longest ago that nobody uses now and no flush owes anything.
      auto oldest = entries_.end();
      for (auto it = entries_.begin(); it != entries_.end(); ++it) {
        if (it->second.use_count() != 1 || it->second->pending != 0 || it->first == dump) continue;
        if (oldest == entries_.end() || it->second->last_use < oldest->second->last_use) {
          oldest = it;
        }
      }
      std::shared_ptr<DumpEntry> kept = entry;
      if (oldest != entries_.end()) entries_.erase(oldest);
      kept->last_use = ++use_clock_;
      return kept;
    }
  }
  entry->last_use = ++use_clock_;
  return entry;
}

void RocksStore::ExpectFrom(const BlockKey& key, std::string_view encoded, DumpEntry* entry) const {
  const absl::StatusOr<DecodedBlock> block = DecodeBlock(0, /*page_shift=*/0, encoded);
  // A chunk that does not decode tells nothing; its absence shows in Expectation::known().
  if (block.ok()) (void)entry->blocks.expected.AddChunk(key.number, block->raw);
}

absl::Status RocksStore::Load(const DumpKey& dump, DumpEntry* entry) const {
  if (entry->loaded) return absl::OkStatus();
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 1 << 20;
  std::vector<BlockKey> telling;
  DumpBlocks blocks;
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(read, index_));
  const std::string prefix = rocks::DumpPrefix(dump);
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    const std::optional<BlockKey> key = rocks::DecodeBlockKey(ToView(it->key()));
    const std::optional<rocks::IndexValue> value = rocks::DecodeIndexValue(ToView(it->value()));
    if (!key || key->block_class >= DCAST_CLASSES || !value) {
      return absl::DataLossError(
          absl::StrCat("the store's index of ", dump.ResourceName(), " has an entry that is none"));
    }
    // What the index has is durable, and an entry with buffered keys is never loaded anew.
    blocks.held.Add(*key, value->encoded_len);
    blocks.durable.Add(*key, value->encoded_len);
    if (TellsExpectation(*key)) telling.push_back(*key);
  }
  if (!it->status().ok()) return ToAbsl(it->status(), "cannot read the store's index");
  entry->blocks = std::move(blocks);
  for (const BlockKey& key : telling) {
    const absl::StatusOr<std::string> encoded = ReadTables(dump, key);
    if (encoded.ok()) ExpectFrom(key, *encoded, entry);
  }
  entry->loaded = true;
  return absl::OkStatus();
}

absl::Status RocksStore::PutBlock(const DumpKey& dump, const BlockKey& key, std::string encoded) {
  if (key.block_class >= DCAST_CLASSES || encoded.size() > DCAST_MAX_ENCODED_BYTES ||
      (key.digest == 0) != encoded.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a block has class 0 to 3, at most ", DCAST_MAX_ENCODED_BYTES,
                     " bytes, and digest 0 exactly when it has none; got class ", key.block_class,
                     ", ", encoded.size(), " bytes, digest ", absl::Hex(key.digest)));
  }
  if (unflushed_bytes_ + encoded.size() > options_.write_buffer_bytes && !refusing_) {
    if (absl::Status s = Flush(); !s.ok()) return s;
  }
  absl::ReaderMutexLock gate(&gate_);
  if (tombstones_.contains(dump)) {
    return absl::FailedPreconditionError(
        absl::StrCat(dump.ResourceName(), " was deleted; its blocks are declined"));
  }
  if (absl::Status s = Admit(encoded.size()); !s.ok()) return s;
  std::shared_ptr<DumpEntry> entry = EntryOf(dump);
  absl::MutexLock lock(&entry->mu);
  if (absl::Status s = Load(dump, entry.get()); !s.ok()) return s;

  if (entry->blocks.held.HoldsNumber(key.block_class, key.number)) {
    if (entry->buffered.contains(key)) return absl::OkStatus();
    std::string value;
    const rocksdb::Status s = db_->Get({}, index_, rocks::EncodeBlockKey(dump, key), &value);
    if (s.ok()) return absl::OkStatus();
    if (!s.IsNotFound()) return ToAbsl(s, "cannot read the store's index");
  }
  const auto bytes = std::make_shared<const std::string>(std::move(encoded));
  entry->buffered.emplace(key, rocks::EncodeIndexValue(*bytes));
  entry->bytes.emplace(key, bytes);
  entry->blocks.held.Add(key, bytes->size());
  if (TellsExpectation(key)) ExpectFrom(key, *bytes, entry.get());
  entry->pending++;
  unflushed_bytes_ += bytes->size();
  absl::MutexLock pending_lock(&pending_mu_);
  pending_.push_back({entry, dump, key, bytes});
  return absl::OkStatus();
}

std::shared_ptr<const std::string> RocksStore::FindBuffered(const DumpKey& dump,
                                                            const BlockKey& key) const {
  const std::shared_ptr<DumpEntry> entry = EntryOf(dump);
  absl::MutexLock lock(&entry->mu);
  const auto it = entry->bytes.find(key);
  return it == entry->bytes.end() ? nullptr : it->second;
}

absl::StatusOr<std::string> RocksStore::GetBlock(const DumpKey& dump, const BlockKey& key) const {
  if (const auto buffered = FindBuffered(dump, key)) return *buffered;
  return ReadTables(dump, key);
}

absl::StatusOr<std::string> RocksStore::ReadTables(const DumpKey& dump, const BlockKey& key) const {
  std::string encoded;
  const rocksdb::Status s = db_->Get({}, blocks_, rocks::EncodeBlockKey(dump, key), &encoded);
  if (s.IsCorruption()) NoteDamage(dump, key);
  if (!s.ok()) {
    return ToAbsl(
        s, absl::StrCat("block ", key.block_class, "/", key.number, " of ", dump.ResourceName()));
  }
  return encoded;
}

absl::StatusOr<std::string> RocksStore::GetBestBlock(const DumpKey& dump, uint8_t block_class,
                                                     uint64_t number, BlockKey* key) const {
  std::optional<BlockKey> best;
  absl::Status s = ScanBlocks(dump, block_class, number, number, /*with_bytes=*/false,
                              [&](const BlockKey& stored, std::string_view) {
                                best = stored;
                                return stored.digest == 0;  // an EMPTY one sorts first
                              });
  if (!s.ok()) return s;
  if (!best) {
    return absl::NotFoundError(absl::StrCat("no block ", block_class, "/", number, " of ",
                                            dump.ResourceName(), " is held"));
  }
  *key = *best;
  return GetBlock(dump, *best);
}

absl::StatusOr<std::unique_ptr<RocksStore::KeyView>> RocksStore::ViewKeys(
    const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last, bool with_bytes,
    bool bulk) const {
  auto view = std::make_unique<KeyView>();
  const BlockKey begin{block_class, first, 0};
  rocksdb::ReadOptions read;
  read.fill_cache = !bulk;
  std::shared_ptr<DumpEntry> entry = EntryOf(dump);
  {
    // A flush moves keys from `buffered` to the index under this lock at the latest: none is
    // missed.
    absl::MutexLock lock(&entry->mu);
    view->buffered.insert(entry->buffered.lower_bound(begin),
                          entry->buffered.upper_bound({block_class, last, ~0ull}));
    view->scan = std::make_unique<rocks::KeyScan>(
        std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(read, index_)), dump, &view->buffered);
    if (with_bytes) {
      if (bulk) read.readahead_size = 2 << 20;
      view->blocks.reset(db_->NewIterator(read, blocks_));
    }
  }
  view->scan->SeekTo(begin);
  return view;
}

absl::Status RocksStore::ScanBlocks(
    const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last, bool with_bytes,
    const std::function<bool(const BlockKey&, std::string_view)>& visit) const {
  const absl::StatusOr<std::unique_ptr<KeyView>> view =
      ViewKeys(dump, block_class, first, last, with_bytes, last - first >= 64);
  if (!view.ok()) return view.status();
  rocks::KeyScan& scan = *(*view)->scan;
  std::string again;
  for (; scan.Valid(); scan.Next()) {
    const BlockKey key = scan.key();
    if (key.block_class != block_class || key.number > last) break;
    std::string_view encoded;
    if (with_bytes) {
      rocksdb::Iterator* blocks = (*view)->blocks.get();
      const std::string bytes = rocks::EncodeBlockKey(dump, key);
      const bool buffered = (*view)->buffered.contains(key);
      if (!buffered) rocks::Advance(blocks, bytes);
      if (!buffered && blocks->Valid() && blocks->key() == bytes) {
        encoded = ToView(blocks->value());
      } else {
        if (absl::Status s = ReadAgain(dump, key, &again); !s.ok()) return s;
        // An iterator that has failed stays so.
        if (!blocks->status().ok()) (*view)->blocks.reset(db_->NewIterator({}, blocks_));
        encoded = again;
      }
    }
    if (!visit(key, encoded)) return absl::OkStatus();
  }
  return scan.status();
}

absl::Status RocksStore::ScanHeaders(
    const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last,
    const std::function<bool(const BlockKey&, std::string_view header)>& visit) const {
  const absl::StatusOr<std::unique_ptr<KeyView>> view =
      ViewKeys(dump, block_class, first, last, /*with_bytes=*/false, /*bulk=*/true);
  if (!view.ok()) return view.status();
  rocks::KeyScan& scan = *(*view)->scan;
  std::optional<BlockKey> shown;
  std::optional<BlockKey> empty;  // EMPTY, shown only when no encoding of its number follows
  for (; scan.Valid(); scan.Next()) {
    const BlockKey key = scan.key();
    if (key.block_class != block_class || key.number > last) break;
    if (empty && empty->number != key.number) {
      if (!visit(*empty, {})) return absl::OkStatus();
      empty.reset();
    }
    if (key.digest == 0) {
      empty = key;
      continue;
    }
    empty.reset();
    if (shown && shown->number == key.number) continue;  // a higher digest
    shown = key;
    const std::optional<rocks::IndexValue> value = rocks::DecodeIndexValue(scan.value());
    if (!value) return absl::DataLossError("the store's index has an entry that is none");
    if (!visit(key, value->head)) return absl::OkStatus();
  }
  if (empty) visit(*empty, {});
  return scan.status();
}

absl::Status RocksStore::ReadBlockSets(const DumpKey& dump,
                                       const std::function<void(const DumpBlocks&)>& read) const {
  {
    absl::ReaderMutexLock gate(&gate_);
    if (tombstones_.contains(dump)) {
      read(DumpBlocks());
      return absl::OkStatus();
    }
  }
  std::shared_ptr<DumpEntry> entry = EntryOf(dump);
  absl::MutexLock lock(&entry->mu);
  if (absl::Status s = Load(dump, entry.get()); !s.ok()) return s;
  read(entry->blocks);
  return absl::OkStatus();
}

}  // namespace dumpcast
