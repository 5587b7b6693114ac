// SPDX-License-Identifier: Apache-2.0
// One dump's blocks for the vmcore views, as of a snapshot of the database.
#ifndef DUMPCAST_STORE_ROCKS_SOURCE_H_
#define DUMPCAST_STORE_ROCKS_SOURCE_H_

#include <rocksdb/db.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/block_set.h"
#include "store/rocks_index.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

class RocksStore;

// Thread safety: as BlockSource says. Readers of one class wait for each other: they share a
// cursor, so that reading ahead in address order costs no search.
class RocksSource final : public BlockSource {
 public:
  // held: the numbers of the dump at the snapshot, by class. The snapshot is released at the end;
  // store, which reads again what the cursors fail on, `db` and the families must outlive this.
  RocksSource(const RocksStore* store, rocksdb::DB* db, rocksdb::ColumnFamilyHandle* blocks,
              rocksdb::ColumnFamilyHandle* index, const rocksdb::Snapshot* snapshot,
              const DumpKey& dump, std::array<NumberSet, DCAST_CLASSES> held,
              rocks::BufferedKeys buffered);
  ~RocksSource() override;

  absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                       std::string* encoded) const override;
  absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                uint64_t last) const override;
  absl::StatusOr<BlockState> ReadBlockHeader(uint8_t block_class, uint64_t number,
                                             std::string* header) const override;

 private:
  struct Cursor {
    absl::Mutex mu;
    std::unique_ptr<rocks::KeyScan> keys ABSL_GUARDED_BY(mu);
    std::unique_ptr<rocksdb::Iterator> blocks ABSL_GUARDED_BY(mu);
  };

  absl::StatusOr<BlockState> Read(Cursor* cursor, uint8_t block_class, uint64_t number,
                                  bool header_only, std::string* out) const;

  const RocksStore* const store_;
  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle* const blocks_;
  rocksdb::ColumnFamilyHandle* const index_;
  const rocksdb::Snapshot* const snapshot_;
  const DumpKey dump_;
  const std::array<NumberSet, DCAST_CLASSES> held_;
  const rocks::BufferedKeys buffered_;
  mutable std::array<Cursor, DCAST_CLASSES> cursors_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_ROCKS_SOURCE_H_
