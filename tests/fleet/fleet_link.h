// SPDX-License-Identifier: Apache-2.0
// A port of a switch or a card: so many bytes a second, and a queue that drops what it cannot hold.
#ifndef DUMPCAST_TESTS_FLEET_FLEET_LINK_H_
#define DUMPCAST_TESTS_FLEET_FLEET_LINK_H_

#include <algorithm>
#include <cstdint>

#include "relay/packets.h"

namespace dumpcast {

// Ethernet, IPv4 and UDP headers, checksum, preamble and gap of one frame.
inline constexpr uint64_t kFrameBytes = 66;

class FleetLink {
 public:
  FleetLink(double bytes_per_second, double queue_bytes)
      : ns_per_byte_(1e9 / bytes_per_second),
        queue_ns_(static_cast<TimeNs>(queue_bytes * ns_per_byte_)) {}

  // When a frame that comes now has passed; kNever when it is dropped.
  TimeNs Send(TimeNs now, uint64_t bytes) {
    if (Backlog(now) > queue_ns_) {
      ++drops_;
      return kNever;
    }
    return Take(now, bytes);
  }
  // The same for who waits until there is room.
  TimeNs Take(TimeNs now, uint64_t bytes) {
    bytes_ += bytes;
    busy_until_ns_ = std::max(busy_until_ns_, now) +
                     static_cast<TimeNs>(static_cast<double>(bytes) * ns_per_byte_);
    return busy_until_ns_;
  }
  // How long what is queued will take.
  TimeNs Backlog(TimeNs now) const { return busy_until_ns_ > now ? busy_until_ns_ - now : 0; }
  TimeNs queue_ns() const { return queue_ns_; }

  uint64_t bytes() const { return bytes_; }
  uint64_t drops() const { return drops_; }

 private:
  double ns_per_byte_;
  TimeNs queue_ns_;
  TimeNs busy_until_ns_ = 0;
  uint64_t bytes_ = 0;
  uint64_t drops_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FLEET_FLEET_LINK_H_
