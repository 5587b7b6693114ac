// SPDX-License-Identifier: Apache-2.0
// What this relay can take: from the store's back-pressure, the sockets' drops and what is lost on
// the way to the number that HELLO and PACE tell the senders.
#ifndef DUMPCAST_RELAY_PACE_H_
#define DUMPCAST_RELAY_PACE_H_

#include <cstdint>

#include "relay/engine_config.h"
#include "relay/packets.h"

namespace dumpcast {

class Pace {
 public:
  explicit Pace(const EngineConfig& config) : config_(config) {}

  void NoteReceived(TimeNs now, uint64_t bytes);
  void NoteStored(uint64_t bytes) { stored_ += bytes; }
  void NoteSocketDrops(uint64_t datagrams) { drops_ += datagrams; }
  // A packet of a sender, after so many that have not come; negative when it is one of those.
  void NoteInSequence(int64_t lost) {
    ++came_;
    lost_ += static_cast<double>(lost);
  }

  // Looks at the last period; true when the limit has changed, or is to be told again.
  // hurt: blocks that lacked symbols when they were due, and answers that did, so far; what is lost
  // is of no account while it does not grow.
  bool Update(TimeNs now, uint64_t pending_store_bytes, uint64_t hurt);
  TimeNs WakeNs() const { return next_ns_; }

  // KiB/s of UDP payload for one of `dumps` senders; 0: no limit.
  uint32_t KibPerSecond(size_t dumps) const;

 private:
  // Whether the network has lost too much: most of the last period, or some of it and of the one
  // before.
  bool Losing(TimeNs now, TimeNs busy, uint64_t hurt);
  void LimitToNetwork(TimeNs now, double received);

  const EngineConfig& config_;
  TimeNs next_ns_ = 0;
  TimeNs last_ns_ = 0;
  TimeNs told_ns_ = 0;
  uint64_t received_ = 0, stored_ = 0, drops_ = 0;  // since last_ns_
  TimeNs busy_ns_ = 0;     // when a dump's worth of it had come, 0: not yet
  bool was_busy_ = false;  // in the period before
  double limit_ = 0;       // bytes per second, 0: none
  double top_ = 0;         // rate at which the limit was set
  uint64_t came_ = 0;      // since last_ns_
  double lost_ = 0;        // a sender may leave out any number
  double loss_ = 0;        // of the last period, 0..1
  bool lossy_ = false;
  uint64_t hurt_ = 0;
  TimeNs network_ns_ = 0;  // when the network's limit was first set, 0: it has none
  TimeNs careful_until_ns_ = 0;
  double network_came_ = 0;  // what came then, bytes per second
  double network_sent_ = 0;  // and what had been sent
  bool less_came_ = false;   // than then, though the sender was told
  TimeNs ignore_until_ns_ = 0;
  TimeNs ignore_ns_ = 0;  // how long, the last time
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_PACE_H_
