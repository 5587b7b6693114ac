// SPDX-License-Identifier: Apache-2.0
// RocksStore: how blocks that were put become durable: tables of their own, then the index.
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <future>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/rocks_format.h"
#include "store/rocks_store.h"

namespace dumpcast {
namespace {

using rocks::ToAbsl;

rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}

constexpr size_t kParts = 2;  // tables that a flush writes at once
// At least, of each: tables that touch no other stay as they are.
constexpr uint64_t kPartBytes = 4 << 20;
constexpr absl::Duration kFlushPoll = absl::Milliseconds(1);
constexpr int kFlushPolls = 60000;

}  // namespace

std::string RocksStore::NewTable(size_t part) const {
  return absl::StrCat(options_.path, "/new-", part, ".sst");
}

absl::Status RocksStore::RemoveNewTables() {
  rocksdb::Env* env = table_options_.env;
  for (size_t part = 0; part < kParts; part++) {
    rocksdb::Status s = env->FileExists(NewTable(part));
    if (s.ok()) s = env->DeleteFile(NewTable(part));
    if (!s.ok() && !s.IsNotFound())
      return ToAbsl(s, "cannot remove what an earlier flush has left");
  }
  return absl::OkStatus();
}

rocksdb::Status RocksStore::BuildTable(const std::string& path,
                                       std::span<const TableRow> rows) const {
  rocksdb::EnvOptions files(table_options_);
  files.use_direct_writes = direct_io_;
  rocksdb::SstFileWriter writer(files, table_options_, blocks_);
  rocksdb::Status s = writer.Open(path);
  for (const auto& [key, encoded] : rows) {
    if (s.ok()) s = writer.Put(key, ToSlice(encoded));
  }
  if (s.ok()) s = writer.Finish();
  return s;
}

absl::Status RocksStore::WriteTables(std::vector<TableRow> rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end(),
                         [](const auto& a, const auto& b) { return a.first == b.first; }),
             rows.end());
  uint64_t bytes = 0;
  for (const auto& [key, encoded] : rows) bytes += encoded.size();
  const size_t parts = bytes < kParts * kPartBytes ? 1 : kParts;
  if (absl::Status s = RemoveNewTables(); !s.ok()) return s;
  // Two at once: one is put together while the other waits for the disk.
  const std::span<const TableRow> all(rows);
  std::vector<std::string> paths;
  std::vector<std::future<rocksdb::Status>> built;
  for (size_t part = 0; part < parts; part++) {
    const size_t first = rows.size() * part / parts;
    const size_t end = rows.size() * (part + 1) / parts;
    paths.push_back(NewTable(part));
    // Deferred where there is no thread to be had.
    built.push_back(
        std::async(part == 0 ? std::launch::deferred : std::launch::async | std::launch::deferred,
                   [this, path = paths.back(), of = all.subspan(first, end - first)] {
                     return BuildTable(path, of);
                   }));
  }
  rocksdb::Status s;
  for (std::future<rocksdb::Status>& part : built) {
    if (const rocksdb::Status of = part.get(); s.ok()) s = of;
  }
  if (s.ok()) {
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    ingest.write_global_seqno = false;
    s = db_->IngestExternalFile(blocks_, paths, ingest);
  }
  if (s.ok()) return absl::OkStatus();
  RemoveNewTables().IgnoreError();
  // To find their place it reads the tables in the way, and one of those is damaged.
  if (s.IsCorruption()) return WriteByMemtable(rows);
  return ToAbsl(s, "cannot make blocks durable");
}

absl::Status RocksStore::WriteByMemtable(std::span<const TableRow> rows) {
  rocksdb::WriteOptions write;
  write.disableWAL = true;
  for (const auto& [key, encoded] : rows) {
    const rocksdb::Status s = db_->Put(write, blocks_, key, ToSlice(encoded));
    if (!s.ok()) return ToAbsl(s, "cannot write a block");
  }
  return FlushMemtable();
}

absl::Status RocksStore::FlushMemtable() {
  rocksdb::FlushOptions flush;
  flush.allow_write_stall = true;
  const absl::Status status = ToAbsl(db_->Flush(flush, blocks_), "cannot make blocks durable");
  return status.ok() ? AwaitFlushed() : status;
}

absl::Status RocksStore::WriteBlocks(std::vector<PendingBlock>* blocks) {
  std::vector<TableRow> rows;
  for (const PendingBlock& block : *blocks) {
    if (!block.in_tables)
      rows.emplace_back(rocks::EncodeBlockKey(block.dump, block.key), *block.encoded);
  }
  if (!rows.empty()) {
    if (absl::Status s = WriteTables(std::move(rows)); !s.ok()) return s;
    for (PendingBlock& block : *blocks) block.in_tables = true;
  }
  // The index comes after what it points at; with it, the blocks are held for good.
  return WriteIndex(*blocks);
}

absl::Status RocksStore::WriteIndex(const std::vector<PendingBlock>& blocks) {
  constexpr size_t kBatchKeys = 8192;
  rocksdb::WriteBatch batch;
  for (size_t i = 0; i < blocks.size(); i++) {
    batch.Put(index_, rocks::EncodeBlockKey(blocks[i].dump, blocks[i].key),
              rocks::EncodeIndexValue(*blocks[i].encoded));
    if (batch.Count() < kBatchKeys && i + 1 < blocks.size()) continue;
    // Only the last sync counts: a log that has it has all before it.
    rocksdb::WriteOptions write;
    write.sync = i + 1 == blocks.size();
    const rocksdb::Status s = db_->Write(write, &batch);
    if (!s.ok()) return ToAbsl(s, "cannot write the index of durable blocks");
    batch.Clear();
  }
  return absl::OkStatus();
}

absl::Status RocksStore::AwaitFlushed() {
  uint64_t waiting = 0;
  for (int i = 0; i < kFlushPolls; i++) {
    db_->GetIntProperty(blocks_, rocksdb::DB::Properties::kNumImmutableMemTable, &waiting);
    if (waiting == 0) return absl::OkStatus();
    absl::SleepFor(kFlushPoll);
  }
  return absl::UnavailableError(
      absl::StrCat("cannot make blocks durable: ", waiting, " memtables still wait to be written"));
}

absl::Status RocksStore::Flush() {
  absl::MutexLock one_at_a_time(&flush_mu_);
  // Until the index is written, so that a dump that is deleted meanwhile gets no blocks again.
  absl::ReaderMutexLock gate(&gate_);
  std::vector<PendingBlock> put;
  {
    absl::MutexLock lock(&pending_mu_);
    put.swap(pending_);
  }
  std::vector<PendingBlock> covered;
  for (PendingBlock& block : put) {
    if (tombstones_.contains(block.dump)) {
      unflushed_bytes_ -= block.encoded->size();
    } else {
      covered.push_back(std::move(block));
    }
  }
  if (covered.empty()) return absl::OkStatus();
  if (absl::Status status = WriteBlocks(&covered); !status.ok()) {
    NoteWriteFailure(status);
    absl::MutexLock lock(&pending_mu_);
    covered.insert(covered.end(), std::make_move_iterator(pending_.begin()),
                   std::make_move_iterator(pending_.end()));
    pending_ = std::move(covered);
    return status;
  }
  for (PendingBlock& block : covered) {
    unflushed_bytes_ -= block.encoded->size();
    absl::MutexLock lock(&block.entry->mu);
    block.entry->blocks.durable.Add(block.key, block.encoded->size());
    block.entry->buffered.erase(block.key);
    block.entry->bytes.erase(block.key);
    block.entry->pending--;
  }
  return absl::OkStatus();
}

}  // namespace dumpcast
