// SPDX-License-Identifier: Apache-2.0
// The Store over RocksDB. Only store.cc's Store::Open() and tests include this.
#ifndef DUMPCAST_STORE_ROCKS_STORE_H_
#define DUMPCAST_STORE_ROCKS_STORE_H_

#include <rocksdb/cache.h>
#include <rocksdb/db.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "store/rocks_index.h"
#include "store/store.h"

namespace dumpcast {

// Lock order: flush_mu_, gate_, records_mu_, DumpEntry::mu, pending_mu_, entries_mu_, health_mu_,
// damage_mu_.
class RocksStore final : public Store {
 public:
  static absl::StatusOr<std::unique_ptr<RocksStore>> Open(const StoreOptions& options);
  ~RocksStore() override;

  absl::Status PutBlock(const DumpKey& dump, const BlockKey& key, std::string encoded) override;
  absl::Status Flush() override;
  absl::StatusOr<std::string> GetBlock(const DumpKey& dump, const BlockKey& key) const override;
  absl::StatusOr<std::string> GetBestBlock(const DumpKey& dump, uint8_t block_class,
                                           uint64_t number, BlockKey* key) const override;
  absl::Status ScanBlocks(
      const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last, bool with_bytes,
      const std::function<bool(const BlockKey&, std::string_view)>& visit) const override;
  absl::Status ScanHeaders(
      const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last,
      const std::function<bool(const BlockKey&, std::string_view header)>& visit) const override;
  absl::Status ReadBlockSets(const DumpKey& dump,
                             const std::function<void(const DumpBlocks&)>& read) const override;
  absl::StatusOr<OpenedBlocks> OpenBlocks(const DumpKey& dump) const override;
  std::vector<DamagedDump> Damaged() const override;
  absl::Status Verify(const DumpKey& dump) const override;
  absl::Status Scrub(uint64_t bytes) override;
  absl::Status ReplaceBlocks(const DumpKey& dump,
                             const std::vector<std::pair<BlockKey, std::string>>& blocks) override;
  absl::Status PutDump(const v1::DumpRecord& record) override;
  absl::Status UpdateDump(const DumpKey& dump,
                          const std::function<bool(v1::DumpRecord*)>& change) override;
  absl::StatusOr<v1::DumpRecord> GetDump(const DumpKey& dump) const override;
  std::vector<v1::DumpRecord> ListDumps() const override;
  absl::Status DeleteDump(const DumpKey& dump, int64_t now_unix_ns) override;
  absl::Status PutHost(const v1::HostRecord& record) override;
  std::vector<v1::HostRecord> ListHosts() const override;
  uint64_t relay_id() const override { return relay_id_; }
  bool accepting(std::string* why) const override;

  // A block that a walk over the tables has failed to read, by a search for it alone: it may wait
  // for a flush, and what was written again is found before what is damaged. DATA_LOSS when there
  // is nothing else.
  absl::Status ReadAgain(const DumpKey& dump, const BlockKey& key, std::string* encoded) const;

 private:
  // What is known of one dump.
  struct DumpEntry {
    absl::Mutex mu;
    bool loaded ABSL_GUARDED_BY(mu) = false;
    DumpBlocks blocks ABSL_GUARDED_BY(mu);
    // Held, not durable: an entry that has some must stay in memory.
    rocks::BufferedKeys buffered ABSL_GUARDED_BY(mu);
    absl::flat_hash_map<BlockKey, std::shared_ptr<const std::string>> bytes ABSL_GUARDED_BY(mu);
    std::atomic<uint64_t> pending{0};
    std::atomic<uint64_t> last_use{0};
  };
  struct PendingBlock {
    std::shared_ptr<DumpEntry> entry;
    DumpKey dump;
    BlockKey key;
    std::shared_ptr<const std::string> encoded;
    bool in_tables = false;  // what is left is the index
  };
  // The keys of a dump at one moment.
  struct KeyView {
    rocks::BufferedKeys buffered;
    std::unique_ptr<rocks::KeyScan> scan;
    std::unique_ptr<rocksdb::Iterator> blocks;  // when bytes are wanted
  };

  struct Deleted {
    DumpKey dump;
    rocksdb::SequenceNumber sequence = 0;  // of the database when it was
  };

  explicit RocksStore(StoreOptions options) : options_(std::move(options)) {}
  absl::Status OpenDatabase();
  absl::Status CheckFormat();
  absl::Status LoadTombstones();
  absl::Status PutRecord(std::string_view key, const google::protobuf::MessageLite& record);
  std::shared_ptr<DumpEntry> EntryOf(const DumpKey& dump) const;
  absl::Status Load(const DumpKey& dump, DumpEntry* entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->mu);
  void ExpectFrom(const BlockKey& key, std::string_view encoded, DumpEntry* entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->mu);
  // Numbers first to last of a class. `bulk`: a long walk, which should not push others from the
  // cache.
  absl::StatusOr<std::unique_ptr<KeyView>> ViewKeys(const DumpKey& dump, uint8_t block_class,
                                                    uint64_t first, uint64_t last, bool with_bytes,
                                                    bool bulk) const;
  // The encoding of a block that waits for a flush; nothing for any other. Takes DumpEntry::mu.
  std::shared_ptr<const std::string> FindBuffered(const DumpKey& dump, const BlockKey& key) const;
  // The encoding of one that is in the tables.
  absl::StatusOr<std::string> ReadTables(const DumpKey& dump, const BlockKey& key) const;
  using TableRow = std::pair<std::string, std::string_view>;  // by its key
  absl::Status WriteBlocks(std::vector<PendingBlock>* blocks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(flush_mu_);
  // Writes tables of these and has the database take them in: durable on
  // return. Of keys that are there already this is what is found.
  absl::Status WriteTables(std::vector<TableRow> rows) ABSL_EXCLUSIVE_LOCKS_REQUIRED(flush_mu_);
  rocksdb::Status BuildTable(const std::string& path, std::span<const TableRow> rows) const;
  // The same where a damaged table does not let the database take others in.
  absl::Status WriteByMemtable(std::span<const TableRow> rows);
  // Where a table is until the database has taken it in: not a name that it gives. Never written
  // over: what a flush has left that was cut short may be a second name of a table in use.
  std::string NewTable(size_t part) const;
  absl::Status RemoveNewTables();
  absl::Status FlushMemtable();
  // Until no full memtable waits. After it has recovered from a full disk, RocksDB 7.8 returns from
  // Flush() with OK before it has written anything (the error of its first try to recover stays
  // behind, and ends every wait).
  absl::Status AwaitFlushed();
  absl::Status WriteIndex(const std::vector<PendingBlock>& blocks);
  void NoteDamage(const DumpKey& dump, const BlockKey& key) const;
  void ForgetDamage(const DumpKey& dump);
  // Reads what keys of the index from *at on, with this prefix, name; *at is where it stopped,
  // empty at the end.
  struct BlockTables {
    rocksdb::DB* db;
    rocksdb::ColumnFamilyHandle* family;
  };
  absl::Status ReadThrough(const BlockTables& tables, std::string* at, std::string_view prefix,
                           uint64_t bytes) const;
  void StopMerging() const;
  absl::Status DropBlocks(const DumpKey& dump);
  absl::Status Admit(uint64_t bytes);
  // Looks at the file system when `force` or the last look is old. Tries to leave a failed state.
  void RefreshHealth(bool force) const;
  void NoteWriteFailure(const absl::Status& status) const;
  void RunReclaimer();
  // Gives back what a deleted dump still takes of a family; false: not now, try again.
  bool Reclaim(const Deleted& deleted, rocksdb::ColumnFamilyHandle* family);
  // Bytes of the tables that hold other keys besides those from begin to before end.
  uint64_t BytesBeside(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                       std::string_view end) const;

  const StoreOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  rocksdb::ColumnFamilyHandle* records_ = nullptr;
  rocksdb::ColumnFamilyHandle* blocks_ = nullptr;
  rocksdb::ColumnFamilyHandle* index_ = nullptr;
  std::shared_ptr<rocksdb::Cache> block_cache_;  // of blocks_
  rocksdb::Options table_options_;               // of blocks_
  bool direct_io_ = false;
  uint64_t relay_id_ = 0;

  absl::Mutex flush_mu_;  // one table is written at a time

  // Held shared by puts, exclusively while a tombstone is set: after that no put is under way.
  mutable absl::Mutex gate_;
  absl::flat_hash_set<DumpKey> tombstones_ ABSL_GUARDED_BY(gate_);

  absl::Mutex records_mu_;  // one change of dump records at a time

  mutable absl::Mutex damage_mu_;
  mutable absl::flat_hash_map<DumpKey, absl::btree_set<BlockKey>> damaged_
      ABSL_GUARDED_BY(damage_mu_);
  absl::Mutex scrub_mu_;
  std::string scrub_at_ ABSL_GUARDED_BY(scrub_mu_);
  // A merge has met a damaged table. Set by the database's threads.
  mutable std::atomic<bool> merge_failed_{false};

  mutable absl::Mutex pending_mu_;
  std::vector<PendingBlock> pending_ ABSL_GUARDED_BY(pending_mu_);

  mutable absl::Mutex entries_mu_;
  mutable absl::flat_hash_map<DumpKey, std::shared_ptr<DumpEntry>> entries_
      ABSL_GUARDED_BY(entries_mu_);
  mutable uint64_t use_clock_ ABSL_GUARDED_BY(entries_mu_) = 0;

  mutable absl::Mutex health_mu_;
  mutable std::string refuse_reason_ ABSL_GUARDED_BY(health_mu_);  // empty: accepting
  mutable bool write_failed_ ABSL_GUARDED_BY(health_mu_) = false;
  mutable uint64_t free_bytes_ ABSL_GUARDED_BY(health_mu_) = 0;  // of the file system
  mutable std::chrono::steady_clock::time_point checked_ ABSL_GUARDED_BY(health_mu_);
  mutable std::chrono::steady_clock::time_point resumed_ ABSL_GUARDED_BY(health_mu_);
  mutable std::atomic<bool> refusing_{false};
  mutable std::atomic<uint64_t> bytes_since_check_{0};
  mutable std::atomic<uint64_t> check_at_bytes_{0};  // of the former: look at the disk again
  std::atomic<uint64_t> unflushed_bytes_{0};         // encoded bytes of pending_

  // Deleted dumps whose space is to be given back, by a thread of their own.
  // Abseil's timed waits go by the wall clock, which may be set back.
  std::mutex reclaim_mu_;
  std::condition_variable reclaim_cv_;
  std::deque<Deleted> reclaim_;  // under reclaim_mu_
  bool stopping_ = false;        // under reclaim_mu_
  std::thread reclaimer_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_ROCKS_STORE_H_
