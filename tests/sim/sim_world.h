// SPDX-License-Identifier: Apache-2.0
// Hosts, relays and the network between them, and the checks that hold whatever happened.
#ifndef DUMPCAST_TESTS_SIM_SIM_WORLD_H_
#define DUMPCAST_TESTS_SIM_SIM_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/sim_link.h"
#include "tests/sim/sim_relay.h"

namespace dumpcast {

struct WorldOptions {
  uint64_t seed = 1;
  unsigned relays = 3;
  unsigned hosts = 1;  // senders of one dump
  uint64_t windows = 40;
  uint64_t high_slice = 0;
  bool changes = true;  // some pages change at each read
  SimHostOptions host;
  EngineConfig engine;
  Faults to_relay, to_host;
  bool peers = true;
  bool way_back = true;
  bool replicate = true;  // rounds of replication every few seconds
};

class World {
 public:
  explicit World(const WorldOptions& options);

  // Arms, panics after a while, and runs until `done` or the limit.
  void Arm();
  void Panic();
  bool RunUntil(const std::function<bool()>& done, TimeNs limit_ns = 300 * kSecond);
  // The usual end: the hosts are done and all relays that are up hold everything.
  bool RunToEnd(TimeNs limit_ns = 300 * kSecond);
  bool AllComplete() const;

  // Fails the test when a block is wrong, missing (when `complete`) or there twice, when the
  // counters' sums do not close, or a promise was broken.
  void CheckRelay(const SimRelay& relay, bool complete);
  void CheckAll(bool complete = true);
  // All relays that are up hold equal keys.
  void CheckEqual();
  // What happened, for a failure's message.
  std::string Story() const;

  SimClock clock;
  WorldOptions options;
  SimMemory memory;
  std::vector<std::unique_ptr<SimHost>> hosts;
  std::vector<std::unique_ptr<SimRelay>> relays;
  // links[host][path][relay].
  std::vector<std::vector<std::vector<std::unique_ptr<SimLink>>>> down, up;
  // Every symbol that left, once, for those who replay it.
  std::vector<std::string> recorded;
  bool record = false;

 private:
  void Replicate();
  std::vector<std::unique_ptr<SimLink>> between_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_WORLD_H_
