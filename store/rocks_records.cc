// SPDX-License-Identifier: Apache-2.0
// RocksStore: records, deletion, and whether the disk takes more.
#include <google/protobuf/message_lite.h>
#include <rocksdb/convenience.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "store/rocks_format.h"
#include "store/rocks_store.h"

namespace dumpcast {
namespace {

using rocks::ToAbsl;

constexpr uint64_t kCheckEveryBytes = 8ull << 20;
// Kept free whatever was configured: records, the index and RocksDB's own logs must still be
// written when blocks are refused, so that what is there can be sealed.
constexpr uint64_t kReserveBytes = 16ull << 20;
// And by merges that give space back. RocksDB 7.8 as Debian builds it ends the process by an
// assertion (CompactionJob::UpdateCompactionJobStats: the smallest key of a table that has none)
// when a merge that leaves nothing finds no room for as much as an empty table.
constexpr uint64_t kMergeReserveBytes = 8ull << 20;
constexpr std::chrono::seconds kCheckEvery{1};
constexpr std::chrono::seconds kReclaimEvery(1);
constexpr std::chrono::seconds kResumeEvery{5};

rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}

std::string DumpRecordKey(const DumpKey& dump) {
  return std::string(rocks::kDumpPrefix) + rocks::DumpPrefix(dump);
}

// The first key of a dump, and the first after it.
std::pair<std::string, std::string> RangeOf(const DumpKey& dump) {
  // A dump whose id has no successor ends where its longest possible key does.
  std::string end = rocks::EndOfDump(dump);
  if (end.empty()) end = std::string(rocks::kBlockKeyBytes + 1, '\xff');
  return {rocks::DumpPrefix(dump), std::move(end)};
}

template <typename Record>
std::vector<Record> ListRecords(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family,
                                std::string_view prefix) {
  std::vector<Record> records;
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator({}, family));
  for (it->Seek(ToSlice(prefix)); it->Valid() && it->key().starts_with(ToSlice(prefix));
       it->Next()) {
    Record record;
    if (record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size()))) {
      records.push_back(std::move(record));
    }
  }
  it->status().PermitUncheckedError();
  return records;
}

}  // namespace

absl::Status RocksStore::PutRecord(std::string_view key,
                                   const google::protobuf::MessageLite& record) {
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const rocksdb::Status s = db_->Put(synced, records_, ToSlice(key), record.SerializeAsString());
  if (s.ok()) return absl::OkStatus();
  absl::Status status = ToAbsl(s, "cannot write a record");
  NoteWriteFailure(status);
  return status;
}

absl::Status RocksStore::PutDump(const v1::DumpRecord& record) {
  const absl::StatusOr<Id16> host = Id16FromBytes(record.host_id());
  const absl::StatusOr<Id16> id = Id16FromBytes(record.dump_id());
  if (!host.ok()) return host.status();
  if (!id.ok()) return id.status();
  const DumpKey dump{*host, *id};
  if (record.deleted()) {
    return absl::InvalidArgumentError("a tombstone is written by DeleteDump() only");
  }
  absl::ReaderMutexLock gate(&gate_);
  if (tombstones_.contains(dump)) {
    return absl::FailedPreconditionError(
        absl::StrCat(dump.ResourceName(), " was deleted and stays so"));
  }
  absl::MutexLock lock(&records_mu_);
  return PutRecord(DumpRecordKey(dump), record);
}

absl::Status RocksStore::UpdateDump(const DumpKey& dump,
                                    const std::function<bool(v1::DumpRecord*)>& change) {
  absl::ReaderMutexLock gate(&gate_);
  if (tombstones_.contains(dump)) {
    return absl::FailedPreconditionError(
        absl::StrCat(dump.ResourceName(), " was deleted and stays so"));
  }
  absl::MutexLock lock(&records_mu_);
  absl::StatusOr<v1::DumpRecord> record = GetDump(dump);
  if (absl::IsNotFound(record.status())) {
    record.emplace();
    record->set_host_id(std::string(dump.host_id.begin(), dump.host_id.end()));
    record->set_dump_id(std::string(dump.dump_id.begin(), dump.dump_id.end()));
  }
  if (!record.ok()) return record.status();
  if (!change(&*record)) return absl::OkStatus();
  return PutRecord(DumpRecordKey(dump), *record);
}

absl::StatusOr<v1::DumpRecord> RocksStore::GetDump(const DumpKey& dump) const {
  std::string bytes;
  const rocksdb::Status s = db_->Get({}, records_, DumpRecordKey(dump), &bytes);
  if (s.IsNotFound()) {
    return absl::NotFoundError(absl::StrCat("no dump ", dump.ResourceName(), " is known here"));
  }
  if (!s.ok()) return ToAbsl(s, "cannot read a dump's record");
  v1::DumpRecord record;
  if (!record.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat("the record of ", dump.ResourceName(), " does not parse"));
  }
  return record;
}

std::vector<v1::DumpRecord> RocksStore::ListDumps() const {
  return ListRecords<v1::DumpRecord>(db_.get(), records_, rocks::kDumpPrefix);
}

absl::Status RocksStore::PutHost(const v1::HostRecord& record) {
  if (absl::StatusOr<Id16> id = Id16FromBytes(record.host_id()); !id.ok()) return id.status();
  return PutRecord(std::string(rocks::kHostPrefix) + record.host_id(), record);
}

std::vector<v1::HostRecord> RocksStore::ListHosts() const {
  return ListRecords<v1::HostRecord>(db_.get(), records_, rocks::kHostPrefix);
}

absl::Status RocksStore::DeleteDump(const DumpKey& dump, int64_t now_unix_ns) {
  {
    absl::MutexLock gate(&gate_);
    if (!tombstones_.contains(dump)) {
      v1::DumpRecord tombstone;
      tombstone.set_host_id(std::string(dump.host_id.begin(), dump.host_id.end()));
      tombstone.set_dump_id(std::string(dump.dump_id.begin(), dump.dump_id.end()));
      tombstone.set_deleted(true);
      tombstone.set_delete_unix_ns(now_unix_ns);
      if (absl::Status s = PutRecord(DumpRecordKey(dump), tombstone); !s.ok()) return s;
      tombstones_.insert(dump);
    }
    absl::MutexLock lock(&entries_mu_);
    entries_.erase(dump);
  }
  ForgetDamage(dump);
  // Writing may have failed before, and go on now.
  RefreshHealth(/*force=*/true);
  if (absl::Status s = DropBlocks(dump); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(reclaim_mu_);
  reclaim_.push_back({dump, db_->GetLatestSequenceNumber()});
  reclaim_cv_.notify_one();
  return absl::OkStatus();
}

absl::Status RocksStore::DropBlocks(const DumpKey& dump) {
  const auto [begin, end] = RangeOf(dump);
  const rocksdb::Slice from(begin);
  const rocksdb::Slice to(end);
  // Blocks before the index, so that a crash in between is seen at the next Open(). Whole tables
  // first, which costs nothing, then a mark over the rest.
  for (rocksdb::ColumnFamilyHandle* family : {blocks_, index_}) {
    rocksdb::Status s = rocksdb::DeleteFilesInRange(db_.get(), family, &from, &to, false);
    if (!s.ok()) return ToAbsl(s, "cannot drop tables of a deleted dump");
    rocksdb::WriteOptions write;
    write.disableWAL = family == blocks_;
    write.sync = family == index_;
    s = db_->DeleteRange(write, family, from, to);
    if (!s.ok()) return ToAbsl(s, "cannot drop blocks of a deleted dump");
    if (family != blocks_) continue;
    if (absl::Status flushed = FlushMemtable(); !flushed.ok()) return flushed;
  }
  return absl::OkStatus();
}

void RocksStore::RunReclaimer() {
  for (;;) {
    Deleted deleted;
    {
      std::unique_lock<std::mutex> lock(reclaim_mu_);
      reclaim_cv_.wait(lock, [this] { return stopping_ || !reclaim_.empty(); });
      if (stopping_) return;
      deleted = reclaim_.front();
      reclaim_.pop_front();
    }
    for (rocksdb::ColumnFamilyHandle* family : {blocks_, index_}) {
      while (!Reclaim(deleted, family)) {
        std::unique_lock<std::mutex> lock(reclaim_mu_);
        if (reclaim_cv_.wait_for(lock, kReclaimEvery, [this] { return stopping_; })) return;
      }
    }
  }
}

bool RocksStore::Reclaim(const Deleted& deleted, rocksdb::ColumnFamilyHandle* family) {
  const auto [begin, end] = RangeOf(deleted.dump);
  // Whoever began to read before the deletion still reads: a merge would write it all again.
  uint64_t oldest_reader = 0;
  db_->GetIntProperty(rocksdb::DB::Properties::kOldestSnapshotSequence, &oldest_reader);
  if (oldest_reader != 0 && oldest_reader < deleted.sequence) return false;
  RefreshHealth(/*force=*/true);
  {
    // The merge is written before what it replaces goes.
    absl::MutexLock lock(&health_mu_);
    if (free_bytes_ < BytesBeside(family, begin, end) + kMergeReserveBytes) return false;
  }
  const rocksdb::Slice from(begin);
  const rocksdb::Slice to(end);
  const rocksdb::Status done = db_->CompactRange({}, family, &from, &to);
  RefreshHealth(/*force=*/true);
  // The rest of a damaged table does not become less by trying again.
  return done.ok() || done.IsCorruption();
}

uint64_t RocksStore::BytesBeside(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                                 std::string_view end) const {
  rocksdb::ColumnFamilyMetaData tables;
  db_->GetColumnFamilyMetaData(family, &tables);
  uint64_t bytes = 0;
  for (const rocksdb::LevelMetaData& level : tables.levels) {
    for (const rocksdb::SstFileMetaData& table : level.files) {
      const bool apart = table.largestkey < begin || table.smallestkey >= end;
      const bool inside = table.smallestkey >= begin && table.largestkey <= end;
      if (!apart && !inside) bytes += table.size;
    }
  }
  return bytes;
}

absl::Status RocksStore::Admit(uint64_t bytes) {
  if (refusing_) {
    RefreshHealth(/*force=*/false);
  } else if (bytes_since_check_.fetch_add(bytes) + bytes >= check_at_bytes_) {
    RefreshHealth(/*force=*/true);
  }
  if (!refusing_) return absl::OkStatus();
  absl::MutexLock lock(&health_mu_);
  if (refuse_reason_.empty()) return absl::OkStatus();
  return absl::ResourceExhaustedError(refuse_reason_);
}

bool RocksStore::accepting(std::string* why) const {
  RefreshHealth(/*force=*/false);
  absl::MutexLock lock(&health_mu_);
  if (why != nullptr) *why = refuse_reason_;
  return refuse_reason_.empty();
}

void RocksStore::NoteWriteFailure(const absl::Status& status) const {
  absl::MutexLock lock(&health_mu_);
  write_failed_ = true;
  resumed_ = std::chrono::steady_clock::now();
  refuse_reason_ = absl::StrCat("writing to ", options_.path, " failed: ", status.message());
  refusing_ = true;
}

void RocksStore::RefreshHealth(bool force) const {
  StopMerging();
  absl::MutexLock lock(&health_mu_);
  const auto now = std::chrono::steady_clock::now();
  if (!force && now - checked_ < kCheckEvery) return;
  checked_ = now;
  struct statvfs fs {};
  if (statvfs(options_.path.c_str(), &fs) != 0) {
    refuse_reason_ = absl::StrCat("cannot look at ", options_.path, ": ", strerror(errno));
    refusing_ = true;
    return;
  }
  // What is buffered has its place on the disk already.
  free_bytes_ = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
  free_bytes_ -= std::min<uint64_t>(free_bytes_, unflushed_bytes_);
  const uint64_t kept_bytes = std::max(options_.min_free_bytes, kReserveBytes);
  bytes_since_check_ = 0;
  if (free_bytes_ < kept_bytes) {
    refuse_reason_ = absl::StrCat(
        "only ", free_bytes_ >> 20, " MiB are free on the file system of ", options_.path, ", ",
        kept_bytes >> 20, " MiB are kept free: delete dumps or add space");
    refusing_ = true;
    return;
  }
  check_at_bytes_ = std::min(kCheckEveryBytes, free_bytes_ - kept_bytes);
  if (write_failed_) {
    if (now - resumed_ < kResumeEvery) return;
    resumed_ = now;
    const rocksdb::Status s = db_->Resume();
    if (!s.ok()) {
      refuse_reason_ = absl::StrCat("writing to ", options_.path,
                                    " failed and does not recover: ", s.ToString());
      return;
    }
    write_failed_ = false;
  }
  refuse_reason_.clear();
  refusing_ = false;
}

}  // namespace dumpcast
