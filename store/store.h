// SPDX-License-Identifier: Apache-2.0
// The blocks, dumps and hosts of one relay, in one RocksDB.
//
// Layout: column families "blocks" and "index", keys dump (32 bytes) | class (1) | number (8,
// big-endian) | digest (8, big-endian). "blocks" has the encodings: they wait in memory for a
// flush, which writes them as one sorted table, with direct I/O, that the database takes in.
// "index" has their lengths and headers, written with WAL and sync after the flush that made its
// blocks durable: what it names is held for good, and finding out what is held reads no encoding.
// Column family "default" has the records of store.proto, written with WAL and sync. docs/store.md
// says why.
#ifndef DUMPCAST_STORE_STORE_H_
#define DUMPCAST_STORE_STORE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dumpcast/v1/store.pb.h"
#include "store/block_set.h"
#include "store/block_sink.h"
#include "store/ids.h"
#include "store/number_set.h"

namespace dumpcast {

class BlockSource;  // store/vmcore/block_source.h

// The blocks of one dump as they were at one moment, buffered ones included.
struct OpenedBlocks {
  // Serves vmcore views. Blocks that vanish because the dump is deleted meanwhile are DATA_LOSS,
  // never zeros. Must be dropped before the Store is.
  std::shared_ptr<const BlockSource> source;
  // BlockSet::keys() and key_sum() of that moment.
  uint64_t keys = 0;
  uint64_t key_sum = 0;
};

struct StoreOptions {
  std::string path;  // created when missing
  // New blocks are refused while less than this is free on the file system. Default: 1 GiB.
  uint64_t min_free_bytes = 1ull << 30;
  // Encodings that may wait for a flush, bytes; a put beyond it flushes first. Default: 128 MiB.
  uint64_t write_buffer_bytes = 128ull << 20;
  bool direct_io = true;  // falls back when the file system has none
  // Dumps whose block sets are kept in memory once they were asked for. Default: 1024.
  size_t loaded_dumps = 1024;
  // Gets what the database warns of, a line each. [Threading] From any thread. Default: nobody.
  std::function<void(const std::string&)> log;
};

// A dump of which the disk has changed bytes: blocks that were read, and failed their checksums.
struct DamagedDump {
  DumpKey dump;
  std::vector<BlockKey> keys;
};

// Thread safety: all methods may be called from any thread.
class Store : public BlockSink {
 public:
  // FAILED_PRECONDITION when another process has it open, or it was written by a newer version.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);

  // BlockSink.
  [[nodiscard]] absl::Status PutBlock(const DumpKey& dump, const BlockKey& key,
                                      std::string encoded) override = 0;
  [[nodiscard]] absl::Status Flush() override = 0;

  // The encoding stored under exactly this key. NOT_FOUND, DATA_LOSS when its checksum fails.
  virtual absl::StatusOr<std::string> GetBlock(const DumpKey& dump, const BlockKey& key) const = 0;
  // The encoding that views use: lowest digest that is not EMPTY; an EMPTY one when it is the only
  // one. NOT_FOUND when none.
  virtual absl::StatusOr<std::string> GetBestBlock(const DumpKey& dump, uint8_t block_class,
                                                   uint64_t number, BlockKey* key) const = 0;
  // Calls visit for each stored key of a class with number in [first, last], ascending; stops when
  // it returns false. with_bytes false leaves `encoded` empty and reads keys only. visit may call
  // the store.
  virtual absl::Status ScanBlocks(
      const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last, bool with_bytes,
      const std::function<bool(const BlockKey&, std::string_view encoded)>& visit) const = 0;

  // Calls visit for the encoding that views use of each block of a class with number in [first,
  // last], ascending, with its header (of an encrypted one 72 bytes, which have the header within);
  // stops when visit returns false. EMPTY blocks come with a
  // header of zeros, as do blocks whose header does not parse (an encoding of a newer version).
  virtual absl::Status ScanHeaders(
      const DumpKey& dump, uint8_t block_class, uint64_t first, uint64_t last,
      const std::function<bool(const BlockKey&, std::string_view header)>& visit) const = 0;

  // Calls read with what is held and expected of a dump; empty sets for one that is not known.
  // Built at the first call (reads the keys and class 0's META and PRESENCE), then kept up to date.
  // [Locking] The dump's lock is held meanwhile: read must be short and must not call the store.
  virtual absl::Status ReadBlockSets(const DumpKey& dump,
                                     const std::function<void(const DumpBlocks&)>& read) const = 0;

  // Opens the blocks of a dump for reading; costs no walk over blocks. An unknown dump has none.
  virtual absl::StatusOr<OpenedBlocks> OpenBlocks(const DumpKey& dump) const = 0;

  // What reading has found damaged and ReplaceBlocks() has not replaced since this start.
  virtual std::vector<DamagedDump> Damaged() const = 0;
  // Reads all blocks of a dump for Damaged() to name those that the disk has changed.
  virtual absl::Status Verify(const DumpKey& dump) const = 0;
  // The same with about so many bytes of any dump, going on where the last call ended.
  [[nodiscard]] virtual absl::Status Scrub(uint64_t bytes) = 0;
  // Writes these again, durable on return. They must be what was stored under these keys, which are
  // held. A deleted dump gets none.
  [[nodiscard]] virtual absl::Status ReplaceBlocks(
      const DumpKey& dump, const std::vector<std::pair<BlockKey, std::string>>& blocks) = 0;

  // Records. A dump's record must exist before its blocks are listed; PutDump() creates or replaces
  // it synchronously (durable on return). FAILED_PRECONDITION for a deleted dump.
  [[nodiscard]] virtual absl::Status PutDump(const v1::DumpRecord& record) = 0;
  // Reads the record (ids only when there is none), lets `change` edit it and, when that returns
  // true, writes it back as PutDump() does; nobody else writes it in between. [Locking] `change`
  // must not call the store.
  [[nodiscard]] virtual absl::Status UpdateDump(
      const DumpKey& dump, const std::function<bool(v1::DumpRecord*)>& change) = 0;
  // Both return tombstones, too: records with `deleted` set. NOT_FOUND for an unknown dump.
  virtual absl::StatusOr<v1::DumpRecord> GetDump(const DumpKey& dump) const = 0;
  virtual std::vector<v1::DumpRecord> ListDumps() const = 0;
  // Replaces the record by a tombstone, durably, then drops the blocks. Idempotent; also for a dump
  // that was never seen, so that it never comes.
  [[nodiscard]] virtual absl::Status DeleteDump(const DumpKey& dump, int64_t now_unix_ns) = 0;

  [[nodiscard]] virtual absl::Status PutHost(const v1::HostRecord& record) = 0;
  virtual std::vector<v1::HostRecord> ListHosts() const = 0;

  // This relay's own random id, made at the first Open() and kept.
  virtual uint64_t relay_id() const = 0;
  // False while the disk is below min_free_bytes or a write has failed; PutBlock() refuses then.
  virtual bool accepting(std::string* why) const = 0;
};

inline DumpKey KeyOf(const v1::DumpRecord& record) {
  DumpKey key;
  std::copy_n(record.host_id().begin(), key.host_id.size(), key.host_id.begin());
  std::copy_n(record.dump_id().begin(), key.dump_id.size(), key.dump_id.begin());
  return key;
}

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_STORE_H_
