// SPDX-License-Identifier: Apache-2.0
// One direction between two machines on one path, with everything that goes wrong there.
#ifndef DUMPCAST_TESTS_SIM_SIM_LINK_H_
#define DUMPCAST_TESTS_SIM_SIM_LINK_H_

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "tests/sim/sim_clock.h"

namespace dumpcast {

// Chances are per packet.
struct Faults {
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;  // comes up to reorder_ns later
  double corrupt = 0;  // a few bits flipped, or cut off
  double burst = 0;    // this packet and the next burst_packets - 1 are lost
  unsigned burst_packets = 100;
  TimeNs latency_ns = 100'000;
  TimeNs reorder_ns = 3 * kMillisecond;
  double bytes_per_second = 0;  // of the slowest part of the way; 0: as fast as can be
  double queue_bytes = 64e3;    // before it; what does not fit is lost
};

class SimLink {
 public:
  using Deliver = std::function<void(std::string)>;
  SimLink(SimClock* clock, const Faults& faults, Deliver deliver)
      : faults(faults), clock_(clock), deliver_(std::move(deliver)) {}

  void Send(const std::string& packet) {
    if (cut) return;
    if (burst_left_ == 0 && clock_->Chance(faults.burst)) burst_left_ = faults.burst_packets;
    if (burst_left_ > 0) {
      --burst_left_;
      return;
    }
    if (clock_->Chance(faults.loss)) return;
    TimeNs queued = 0;
    if (faults.bytes_per_second != 0) {
      const TimeNs now = clock_->now();
      idle_at_ = std::max(idle_at_, now);
      const auto bytes = static_cast<double>(packet.size());
      if (static_cast<double>(idle_at_ - now) / kSecond * faults.bytes_per_second + bytes >
          faults.queue_bytes)
        return;
      idle_at_ += static_cast<TimeNs>(bytes / faults.bytes_per_second * kSecond);
      queued = idle_at_ - now;
    }
    const int copies = clock_->Chance(faults.duplicate) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      TimeNs delay = faults.latency_ns + queued;
      if (clock_->Chance(faults.reorder)) delay += clock_->Below(faults.reorder_ns);
      std::string copy = packet;
      if (clock_->Chance(faults.corrupt)) Damage(&copy);
      clock_->After(delay, [this, copy = std::move(copy)]() mutable {
        if (!cut) deliver_(std::move(copy));
      });
    }
  }

  bool cut = false;
  Faults faults;

 private:
  void Damage(std::string* packet) {
    if (clock_->Chance(0.3)) {
      packet->resize(clock_->Below(packet->size()));
      return;
    }
    for (uint64_t bits = 1 + clock_->Below(8); bits > 0; --bits)
      (*packet)[clock_->Below(packet->size())] ^= static_cast<char>(1 << clock_->Below(8));
  }

  SimClock* clock_;
  Deliver deliver_;
  unsigned burst_left_ = 0;
  TimeNs idle_at_ = 0;  // when the queue will be empty
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_LINK_H_
