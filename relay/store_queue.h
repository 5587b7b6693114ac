// SPDX-License-Identifier: Apache-2.0
// The order of work for the store, and what is durable. A flush covers every put before it: once
// it is reported OK, so are they.
#ifndef DUMPCAST_RELAY_STORE_QUEUE_H_
#define DUMPCAST_RELAY_STORE_QUEUE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "relay/engine_config.h"
#include "relay/packets.h"

namespace dumpcast {

class StoreQueue {
 public:
  explicit StoreQueue(const EngineConfig& config) : config_(config) {}

  // Adds work; returns its id.
  uint64_t Put(TimeNs now, const DumpKey& dump, const BlockKey& key, std::string encoded,
               std::optional<Gathered> gathered = std::nullopt);
  uint64_t Add(StoreOp op);
  // Asks for a flush before anything that is added later; once, however often it is called. After
  // one that failed only time brings the next.
  void WantFlush();

  // A flush is added when it is wanted, when enough is unflushed, or when the oldest unflushed
  // block has waited long enough; soon after a block of class 0.
  std::vector<StoreOp> Take(TimeNs now);

  // What was reported, with enough of the op to act on it.
  struct Done {
    StoreOp::Kind kind = StoreOp::Kind::kPut;
    uint64_t id = 0;
    DumpKey dump;
    BlockKey key;
    uint64_t bytes = 0;
    unsigned symbols = 0;  // that it was to be decoded from
    bool parity = false;   // some of them
    uint64_t committed_lanes = 0;
    bool complete = false;
  };
  // Ops are reported in order, but flushes may be after what follows them: nothing for any other
  // id.
  std::optional<Done> Report(TimeNs now, uint64_t id, const absl::Status& status);

  // Every op up to this id is durable.
  uint64_t durable() const { return durable_; }
  // Encoded bytes added and not yet reported.
  uint64_t pending_bytes() const { return pending_bytes_; }
  TimeNs WakeNs() const;

 private:
  void AddFlush();

  const EngineConfig& config_;
  uint64_t next_id_ = 1;
  uint64_t durable_ = 0;
  uint64_t pending_bytes_ = 0;
  uint64_t unflushed_bytes_ = 0;
  bool unflushed_ = false;
  TimeNs oldest_unflushed_ns_ = kNever;
  TimeNs urgent_ns_ = kNever;  // class 0 waits: flush then
  TimeNs last_flush_ns_ = 0;
  TimeNs retry_flush_ns_ = kNever;
  std::vector<StoreOp> ready_;
  std::deque<Done> taken_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_STORE_QUEUE_H_
