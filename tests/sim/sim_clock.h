// SPDX-License-Identifier: Apache-2.0
// Virtual time: events in order of time, then of being asked for.
#ifndef DUMPCAST_TESTS_SIM_SIM_CLOCK_H_
#define DUMPCAST_TESTS_SIM_SIM_CLOCK_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <utility>
#include <vector>

#include "relay/packets.h"

namespace dumpcast {

class SimClock {
 public:
  explicit SimClock(uint64_t seed) : random(seed) {}

  TimeNs now() const { return now_ns_; }
  void At(TimeNs when, std::function<void()> what) {
    events_.push({std::max(when, now_ns_), order_++, std::move(what)});
  }
  void After(TimeNs delay, std::function<void()> what) { At(now_ns_ + delay, std::move(what)); }

  // Runs events until `done`, or `limit_ns` on the clock. False at the limit, or with nothing left.
  bool Run(const std::function<bool()>& done, TimeNs limit_ns) {
    while (!done()) {
      if (events_.empty() || events_.top().when > limit_ns) return false;
      const Event event = std::move(const_cast<Event&>(events_.top()));
      events_.pop();
      now_ns_ = event.when;
      event.what();
    }
    return true;
  }

  // The one source of chance in a simulation.
  bool Chance(double p) { return p > 0 && std::uniform_real_distribution<>(0, 1)(random) < p; }
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random() % n; }
  std::mt19937_64 random;

 private:
  struct Event {
    TimeNs when;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return when != other.when ? when > other.when : order > other.order;
    }
  };
  TimeNs now_ns_ = 10 * kSecond;
  uint64_t order_ = 0;
  std::priority_queue<Event> events_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_CLOCK_H_
