// SPDX-License-Identifier: Apache-2.0
#include "relay/store_queue.h"

#include <algorithm>
#include <bit>

namespace dumpcast {
namespace {

constexpr TimeNs kFlushRetryNs = kSecond;
// Class 0 comes in handfuls: one flush for each.
constexpr TimeNs kUrgentFlushNs = 100 * kMillisecond;

}  // namespace

uint64_t StoreQueue::Put(TimeNs now, const DumpKey& dump, const BlockKey& key, std::string encoded,
                         std::optional<Gathered> gathered) {
  StoreOp op;
  op.kind = StoreOp::Kind::kPut;
  op.dump = dump;
  op.key = key;
  op.encoded = std::move(encoded);
  op.gathered = std::move(gathered);
  unflushed_bytes_ += op.encoded.size();
  unflushed_ = true;
  oldest_unflushed_ns_ = std::min(oldest_unflushed_ns_, now);
  if (key.block_class == 0)
    urgent_ns_ = std::min(urgent_ns_, std::max(now, last_flush_ns_ + kUrgentFlushNs));
  return Add(std::move(op));
}

uint64_t StoreQueue::Add(StoreOp op) {
  op.id = next_id_++;
  pending_bytes_ += op.encoded.size();
  ready_.push_back(std::move(op));
  return ready_.back().id;
}

void StoreQueue::WantFlush() {
  if (unflushed_ && retry_flush_ns_ == kNever) AddFlush();
}

void StoreQueue::AddFlush() {
  unflushed_ = false;
  unflushed_bytes_ = 0;
  oldest_unflushed_ns_ = urgent_ns_ = retry_flush_ns_ = kNever;
  StoreOp op;
  op.kind = StoreOp::Kind::kFlush;
  Add(std::move(op));
}

std::vector<StoreOp> StoreQueue::Take(TimeNs now) {
  if (unflushed_ && now >= WakeNs()) AddFlush();
  for (const StoreOp& op : ready_)
    if (op.kind == StoreOp::Kind::kFlush) last_flush_ns_ = now;
  for (const StoreOp& op : ready_) {
    const unsigned symbols = op.gathered ? std::popcount(op.gathered->have) : 0;
    taken_.push_back({op.kind, op.id, op.dump, op.key, op.encoded.size(), symbols,
                      op.gathered && !op.gathered->parity.empty(), op.committed_lanes,
                      op.complete});
  }
  return std::exchange(ready_, {});
}

std::optional<StoreQueue::Done> StoreQueue::Report(TimeNs now, uint64_t id,
                                                   const absl::Status& status) {
  const auto it = std::find_if(taken_.begin(), taken_.end(), [id](const Done& done) {
    return done.id == id || done.kind != StoreOp::Kind::kFlush;
  });
  if (it == taken_.end() || it->id != id) return std::nullopt;
  Done done = *it;
  taken_.erase(it);
  pending_bytes_ -= done.bytes;
  if (done.kind == StoreOp::Kind::kFlush) {
    if (status.ok()) {
      durable_ = id;
    } else {
      // What it should have covered is still not durable: try again before long.
      unflushed_ = true;
      retry_flush_ns_ = now + kFlushRetryNs;
    }
  }
  return done;
}

TimeNs StoreQueue::WakeNs() const {
  if (!unflushed_) return kNever;
  if (retry_flush_ns_ != kNever) return retry_flush_ns_;
  if (unflushed_bytes_ >= config_.flush_bytes) return 0;
  const TimeNs aged =
      oldest_unflushed_ns_ == kNever ? kNever : oldest_unflushed_ns_ + config_.flush_ns;
  return std::min(aged, urgent_ns_);
}

}  // namespace dumpcast
