// SPDX-License-Identifier: Apache-2.0
// What this relay can take: from the store's back-pressure and the sockets' drops to the number
// that HELLO and PACE tell the senders.
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

  // Looks at the last period; true when the limit has changed, or is to be told again.
  bool Update(TimeNs now, uint64_t pending_store_bytes);
  TimeNs WakeNs() const { return next_ns_; }

  // KiB/s of UDP payload for one of `dumps` senders; 0: no limit.
  uint32_t KibPerSecond(size_t dumps) const;

 private:
  const EngineConfig& config_;
  TimeNs next_ns_ = 0;
  TimeNs last_ns_ = 0;
  TimeNs told_ns_ = 0;
  uint64_t received_ = 0, stored_ = 0, drops_ = 0;  // since last_ns_
  TimeNs busy_ns_ = 0;     // when a dump's worth of it had come, 0: not yet
  bool was_busy_ = false;  // in the period before
  double limit_ = 0;       // bytes per second, 0: none
  double top_ = 0;         // rate at which the limit was set
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_PACE_H_
