// SPDX-License-Identifier: Apache-2.0
#include "relay/pace.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dumpcast {
namespace {

constexpr TimeNs kPeriodNs = 200 * kMillisecond;
constexpr TimeNs kRepeatNs = kSecond;      // a relay silent for longer has no say (WIRE.md, PACE)
constexpr uint64_t kBusyBytes = 64 << 10;  // more than heartbeats
constexpr TimeNs kLeastBusyNs = 10 * kMillisecond;
constexpr double kFloor = 256 * 1024;  // bytes per second: never told to stop altogether
constexpr double kOnDrops = 0.7;       // of what came when the sockets dropped
constexpr double kOnQueue = 0.8;       // of what the store took when its queue was long
constexpr double kRise = 1.1;          // per period without pressure
constexpr double kRiseFar = 2;         // of a limit far below the rate that hurt
constexpr double kForget = 8;          // times the rate that hurt: no limit any more
constexpr double kLossy = 0.1;         // of the packets; parity makes up for less
constexpr double kMostLost = 0.5;      // one period is enough to tell
constexpr double kSlight = 0.03;       // the queue on the way is full
constexpr double kRiseCarefully = 1.02;
constexpr TimeNs kCareful = 2 * kSecond;   // since the network set the limit
constexpr double kAsTold = 0.8;            // of the limit: the sender sends as much as it may
constexpr TimeNs kIgnoreNs = 5 * kSecond;  // loss that does not come of the rate, doubled each time
constexpr TimeNs kMaxIgnoreNs = 80 * kSecond;

}  // namespace

void Pace::NoteReceived(TimeNs now, uint64_t bytes) {
  received_ += bytes;
  if (busy_ns_ == 0 && received_ >= kBusyBytes) busy_ns_ = now;
}

bool Pace::Losing(TimeNs now, TimeNs busy, uint64_t hurt) {
  const double lost = std::max(std::exchange(lost_, 0), 0.0);
  const double came = static_cast<double>(std::exchange(came_, 0));
  loss_ = lost > 0 ? lost / (lost + came) : 0;
  const bool lossy = loss_ > kLossy && hurt > std::exchange(hurt_, hurt);
  const bool before = std::exchange(lossy_, lossy);
  const bool sure = before || (loss_ > kMostLost && busy >= kPeriodNs / 2);
  return lossy && sure && now >= ignore_until_ns_;
}

// A queue on the way that overflows lets through what it can, whatever is sent: sending less costs
// nothing. When less comes of it, packets are lost by another cause, and slowing down is no use.
void Pace::LimitToNetwork(TimeNs now, double received) {
  const double sent = received / (1 - loss_);
  if (network_ns_ == 0) {
    if (now > ignore_until_ns_ + kMaxIgnoreNs) ignore_ns_ = 0;
    network_ns_ = now;
    network_came_ = received;
    network_sent_ = sent;
  } else if (now < network_ns_ + 2 * kPeriodNs || sent < limit_ * kAsTold) {
    return;  // the sender has just been told, or has less to send than it may
  } else if (received < network_came_ * (1 + limit_ / network_sent_) / 2) {
    // A relay that was held up for a period looks alike.
    if (!std::exchange(less_came_, true)) return;
    network_ns_ = 0;
    limit_ = 0;
    ignore_ns_ = std::clamp(2 * ignore_ns_, kIgnoreNs, kMaxIgnoreNs);
    ignore_until_ns_ = now + ignore_ns_;
    return;
  }
  if (limit_ == 0) top_ = std::max(received, kFloor);
  less_came_ = false;
  limit_ = std::max(received, kFloor);
  careful_until_ns_ = now + kCareful;
}

bool Pace::Update(TimeNs now, uint64_t pending_store_bytes, uint64_t hurt) {
  if (now < next_ns_) return false;
  next_ns_ = now + kPeriodNs;
  const TimeNs period = now - last_ns_;
  const bool usable = last_ns_ != 0 && period < 5 * kPeriodNs;
  last_ns_ = now;
  // A dump that began within the period has not had all of it.
  const TimeNs busy = was_busy_ || busy_ns_ == 0 ? period : std::max(now - busy_ns_, kLeastBusyNs);
  was_busy_ = std::exchange(busy_ns_, 0) != 0;
  const double seconds = static_cast<double>(std::max<TimeNs>(busy, 1)) / kSecond;
  const double received = static_cast<double>(received_) / seconds;
  const double stored = static_cast<double>(stored_) / seconds;
  const bool drops = drops_ != 0;
  const bool queue = pending_store_bytes > config_.store_queue_bytes / 2;
  const bool losing = Losing(now, busy, hurt);
  received_ = stored_ = drops_ = 0;
  if (!usable) return false;

  const double before = limit_;
  if (drops || queue) {
    double limit = drops ? received * kOnDrops : stored * kOnQueue;
    if (drops && queue) limit = std::min(limit, stored * kOnQueue);
    if (limit_ != 0) limit = std::min(limit, limit_);
    limit_ = std::max(limit, kFloor);
    if (before == 0) top_ = std::max(received, kFloor);
    network_ns_ = 0;
  } else if (losing) {
    LimitToNetwork(now, received);
  } else if (network_ns_ != 0 && now < careful_until_ns_) {
    if (loss_ < kSlight) limit_ *= kRiseCarefully;
  } else if (limit_ != 0) {
    limit_ *= limit_ < top_ / 2 ? kRiseFar : kRise;
    if (limit_ > top_ * kForget) limit_ = 0;
    if (limit_ == 0) network_ns_ = 0;
  }
  const bool changed = std::abs(limit_ - before) > before / 4;
  if (!changed && now < told_ns_ + kRepeatNs) return false;
  told_ns_ = now;
  return true;
}

uint32_t Pace::KibPerSecond(size_t dumps) const {
  if (limit_ == 0) return 0;
  const double share = limit_ / 1024 / static_cast<double>(std::max<size_t>(dumps, 1));
  return static_cast<uint32_t>(std::clamp(share, 1.0, 4e9));
}

}  // namespace dumpcast
