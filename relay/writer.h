// SPDX-License-Identifier: Apache-2.0
// Does the engine's store work against the Store: puts, flushes and records, in order.
#ifndef DUMPCAST_RELAY_WRITER_H_
#define DUMPCAST_RELAY_WRITER_H_

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "relay/engine.h"
#include "relay/packets.h"
#include "store/store.h"

namespace dumpcast {

// Thread safety: one caller at a time.
class Writer {
 public:
  // The store outlives it. `now_unix_ns` is the wall clock of records.
  Writer(Store* store, std::function<int64_t()> now_unix_ns);

  // What to report to Engine::StoreDone().
  absl::Status Do(StoreOp op);

 private:
  absl::Status OpenDump(const StoreOp& op);
  absl::Status Seal(const StoreOp& op);
  absl::Status PutHost(const StoreOp& op);

  Store* store_;
  std::function<int64_t()> now_unix_ns_;
  // Dumps whose record could not be made: their blocks must not be stored without one.
  absl::flat_hash_map<DumpKey, absl::Status> unopened_;
};

// Tells the engine what the store holds of one dump; of all, before the engine sees a packet.
absl::Status RestoreRecord(const Store& store, const v1::DumpRecord& record, TimeNs now,
                           int64_t now_unix_ns, Engine* engine);
absl::Status RestoreFromStore(const Store& store, TimeNs now, int64_t now_unix_ns, Engine* engine);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_WRITER_H_
