// SPDX-License-Identifier: Apache-2.0
#include "store/rocks_format.h"

#include <fcntl.h>
#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast::rocks {
namespace {

void AppendBigEndian64(std::string* out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint64_t ReadBigEndian64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; i++) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// RocksDB's own log file would be one more writer to a full disk, and RocksDB 7.8 as Debian builds
// it ends the process by an assertion at the first line after one that found no room.
class Warnings final : public rocksdb::Logger {
 public:
  explicit Warnings(std::function<void(const std::string&)> log)
      : Logger(rocksdb::WARN_LEVEL), log_(std::move(log)) {}
  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    if (!log_) return;
    std::array<char, 1024> line;
    vsnprintf(line.data(), line.size(), format, arguments);
    log_(absl::StrCat("rocksdb: ", line.data()));
  }

 private:
  const std::function<void(const std::string&)> log_;
};

class Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(std::function<void()> merge_failed) : merge_failed_(std::move(merge_failed)) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    if (reason != rocksdb::BackgroundErrorReason::kCompaction || !error->IsCorruption()) return;
    *error = rocksdb::Status::OK();
    merge_failed_();
  }

 private:
  const std::function<void()> merge_failed_;
};

rocksdb::BlockBasedTableOptions TableOptions(size_t block_size, size_t cache_bytes) {
  rocksdb::BlockBasedTableOptions table;
  table.block_size = block_size;
  table.block_cache = rocksdb::NewLRUCache(cache_bytes);
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  return table;
}

}  // namespace

std::string DumpPrefix(const DumpKey& dump) {
  std::string prefix;
  prefix.reserve(kBlockKeyBytes);
  prefix.append(reinterpret_cast<const char*>(dump.host_id.data()), dump.host_id.size());
  prefix.append(reinterpret_cast<const char*>(dump.dump_id.data()), dump.dump_id.size());
  return prefix;
}

std::string EncodeBlockKey(const DumpKey& dump, const BlockKey& key) {
  std::string bytes = DumpPrefix(dump);
  bytes.push_back(static_cast<char>(key.block_class));
  AppendBigEndian64(&bytes, key.number);
  AppendBigEndian64(&bytes, key.digest);
  return bytes;
}

std::optional<DumpKey> DecodeDump(std::string_view bytes) {
  if (bytes.size() != kBlockKeyBytes) return std::nullopt;
  DumpKey dump;
  std::copy_n(bytes.begin(), dump.host_id.size(), dump.host_id.begin());
  std::copy_n(bytes.begin() + 16, dump.dump_id.size(), dump.dump_id.begin());
  return dump;
}

std::optional<BlockKey> DecodeBlockKey(std::string_view bytes) {
  if (bytes.size() != kBlockKeyBytes) return std::nullopt;
  BlockKey key;
  key.block_class = static_cast<uint8_t>(bytes[kDumpBytes]);
  key.number = ReadBigEndian64(bytes.substr(kDumpBytes + 1));
  key.digest = ReadBigEndian64(bytes.substr(kDumpBytes + 9));
  return key;
}

std::string EndOfDump(const DumpKey& dump) {
  std::string end = DumpPrefix(dump);
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

std::string EncodeIndexValue(std::string_view encoded) {
  constexpr size_t kCipherAt = offsetof(dcast_block_hdr, cipher);
  const bool encrypted = encoded.size() >= kHeaderBytes && encoded[kCipherAt] != DCAST_CIPHER_NONE;
  const std::string_view head = encoded.substr(0, encrypted ? kEncryptedHeaderBytes : kHeaderBytes);
  std::string value(4, '\0');
  for (int i = 0; i < 4; i++) value[i] = static_cast<char>(encoded.size() >> (8 * i));
  value.append(head);
  return value;
}

std::optional<IndexValue> DecodeIndexValue(std::string_view bytes) {
  if (bytes.size() < 4) return std::nullopt;
  IndexValue value;
  for (int i = 3; i >= 0; i--) {
    value.encoded_len = value.encoded_len << 8 | static_cast<uint8_t>(bytes[i]);
  }
  value.head = bytes.substr(4);
  return value;
}

// Half of the files that this process may have open: the others are sockets and logs.
int MaxOpenTables() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return -1;
  return static_cast<int>(std::clamp<rlim_t>(files.rlim_cur / 2, 32, 1 << 20));
}

rocksdb::DBOptions DatabaseOptions(bool direct_io, std::function<void(const std::string&)> log,
                                   std::function<void()> merge_failed) {
  rocksdb::DBOptions db;
  db.create_if_missing = true;
  db.create_missing_column_families = true;
  db.paranoid_checks = true;
  db.use_direct_reads = direct_io;
  db.use_direct_io_for_flush_and_compaction = direct_io;
  db.max_background_jobs = 3;
  db.max_open_files = MaxOpenTables();
  // Records and the index; small, so that recovery is quick.
  db.max_total_wal_size = 16ull << 20;
  db.bytes_per_sync = 4ull << 20;
  // Room taken ahead of need is room that others do not find, just when there is little left.
  db.allow_fallocate = false;
  db.info_log = std::make_shared<Warnings>(std::move(log));
  db.listeners.push_back(std::make_shared<Listener>(std::move(merge_failed)));
  db.stats_dump_period_sec = 0;
  // Flush() has made durable what was promised; what is not in the index would be of no use.
  db.avoid_flush_during_shutdown = true;
  return db;
}

rocksdb::ColumnFamilyOptions RecordFamilyOptions() {
  rocksdb::ColumnFamilyOptions family;
  family.compression = rocksdb::kNoCompression;
  family.write_buffer_size = 4ull << 20;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(TableOptions(4096, 4ull << 20)));
  return family;
}

rocksdb::ColumnFamilyOptions BlockFamilyOptions() {
  rocksdb::ColumnFamilyOptions family;
  family.compression = rocksdb::kNoCompression;  // blocks are compressed already
  // Marks of deletions, and blocks when a table is damaged.
  family.write_buffer_size = 32ull << 20;
  // Ingest is nearly in key order, so most new tables touch no other and are moved, not rewritten.
  // One level below 0, and many tables before anything is merged at all.
  family.level_compaction_dynamic_level_bytes = true;
  family.max_bytes_for_level_base = 1ull << 50;
  family.target_file_size_base = 256ull << 20;
  family.level0_file_num_compaction_trigger = 64;
  family.level0_slowdown_writes_trigger = 1 << 20;
  family.level0_stop_writes_trigger = 1 << 20;
  family.soft_pending_compaction_bytes_limit = 0;
  family.hard_pending_compaction_bytes_limit = 0;
  // A value of 64 KiB fills a table block of its own; the small ones share.
  family.table_factory.reset(
      rocksdb::NewBlockBasedTableFactory(TableOptions(64 << 10, 32ull << 20)));
  return family;
}

rocksdb::ColumnFamilyOptions IndexFamilyOptions() {
  rocksdb::ColumnFamilyOptions family;
  family.compression = rocksdb::kNoCompression;
  family.write_buffer_size = 8ull << 20;
  family.level0_file_num_compaction_trigger = 8;
  family.level0_slowdown_writes_trigger = 1 << 20;
  family.level0_stop_writes_trigger = 1 << 20;
  rocksdb::BlockBasedTableOptions table = TableOptions(32 << 10, 32ull << 20);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family;
}

bool SupportsDirectIo(const std::string& directory) {
  const std::string probe = absl::StrCat(directory, "/direct-io-probe");
  const int fd = open(probe.c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
  unlink(probe.c_str());
  return fd >= 0;
}

absl::Status ToAbsl(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string text =
      absl::StrCat(absl::string_view(doing.data(), doing.size()), ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(text);
  if (status.IsCorruption()) return absl::DataLossError(text);
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kNoSpace) {
    return absl::ResourceExhaustedError(text);
  }
  return absl::InternalError(text);
}

absl::Status Vanished(const rocksdb::Status& status, const DumpKey& dump, const BlockKey& key) {
  const std::string name =
      absl::StrCat("block ", key.block_class, "/", key.number, " of ", dump.ResourceName());
  if (!status.ok()) return ToAbsl(status, name);
  return absl::DataLossError(absl::StrCat(name, " was held and is gone: deleted meanwhile?"));
}

}  // namespace dumpcast::rocks
