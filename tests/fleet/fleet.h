// SPDX-License-Identifier: Apache-2.0
// Thousands of hosts in racks, the switches between, and the relays; what happens to them, and the
// numbers and checks of the end.
//
//   host ─ card ─▶ rack's uplink ─▶ port of each relay of the host's group ─▶ relay ─▶ disk
//     ▲ replies: lost by chance as packets are, no capacity           │ ▲
//     └───────────────────────────────────────────────────────────────┘ └─ peers, through the port
#ifndef DUMPCAST_TESTS_FLEET_FLEET_H_
#define DUMPCAST_TESTS_FLEET_FLEET_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/fleet/fleet_host.h"
#include "tests/fleet/fleet_link.h"
#include "tests/fleet/fleet_memory.h"
#include "tests/fleet/fleet_relay.h"
#include "tests/sim/sim_clock.h"

namespace dumpcast {

struct FleetOptions {
  uint64_t seed = 1;
  uint32_t hosts = 10'000;
  uint32_t hosts_per_rack = 40;
  uint32_t relays = 30;
  // Racks send to one group of relays each, in turn. 1: every relay receives everything.
  uint32_t groups = 1;
  uint64_t memory_kib = 256;
  // Heartbeats do not get smaller with the rates: in a storm they would take a share of the ports
  // that they do not take of real ones.
  uint32_t heartbeat_ms = 60'000;

  // Every rate and every buffer below is divided by this: dumps are as much smaller than real ones.
  double scale = 1000;
  double nic_bytes_per_second = 10e9 / 8;
  double uplink_bytes_per_second = 100e9 / 8;
  double port_bytes_per_second = 25e9 / 8;
  double disk_bytes_per_second = 2e9;
  double switch_buffer_bytes = 16 << 20;  // of each port
  double store_queue_bytes = 128 << 20;
  double loss = 0;  // at each relay's port and on the way back, by chance
  TimeNs latency_ns = 100'000;

  uint32_t panics = 0;  // whole racks, within panic_window_ns
  TimeNs panic_window_ns = 60 * kSecond;
  bool one_signature = true;
  TimeNs time_limit_ns = 600 * kSecond;
  AdmissionConfig admission;
  uint32_t max_dumps = 256;

  uint32_t dying = 0;  // relays that die, and come back, so long after the first panic
  TimeNs die_ns = 20 * kSecond;
  TimeNs back_ns = 50 * kSecond;
};

struct FleetResult {
  uint32_t full = 0, log_only = 0;  // committed
  uint32_t not_committed = 0;
  // From the panic until two relays have said COMMIT, of committed dumps, seconds.
  double full_median_s = 0, full_99_s = 0, full_max_s = 0, log_99_s = 0;
  double host_wire_mib = 0;  // all hosts, all their packets, once
  double wire_per_dump = 0;  // of full dumps, to the encodings' bytes
  double naks_per_panic = 0, nak_blocks_per_panic = 0, repeats_percent = 0;
  uint64_t uplink_drops = 0, port_drops = 0, chance_losses = 0;  // ports, chance: copies
  double copies_lost_percent = 0;
  double port_mib = 0, port_peak_mib_s = 0, peer_mib = 0;  // mean of a relay; peak of any
  double packets_per_s = 0, replies_per_s = 0;             // mean of a relay, over the run
  double assembly_peak_mib = 0, queue_peak_mib = 0;        // of any relay
  uint64_t receiving_peak = 0;                             // dumps, of any relay
  double heap_mib_per_relay = 0;                           // peak of the process, shared out
  double copies_mean = 0;  // complete on so many relays, of dumps sent in full, at the end
  uint32_t copies_min = 0;
  double virtual_s = 0;
};

class Fleet {
 public:
  explicit Fleet(const FleetOptions& options);

  // Arms, panics, and goes on until all hosts have ended and the relays have sealed what they have.
  void Run();
  // With no panics: heartbeats for so long.
  void RunArmed(TimeNs duration);

  FleetResult Result() const;
  // What does not hold, one line each; empty when all is well.
  std::vector<std::string> Check() const;

  // A dump's encodings, all together.
  uint64_t EncodedBytes() const;
  size_t dump_blocks() const { return memory_.blocks().size(); }

 private:
  void Arm();
  void Deliver(const std::vector<Reply>& replies);
  void Depart(uint32_t host, const Packet& packet);
  void Sample();
  bool Over() const;
  uint32_t GroupOf(uint32_t host) const { return host / options_.hosts_per_rack % options_.groups; }

  const FleetOptions options_;
  SimClock clock_;
  FleetMemory memory_;
  FleetSenders senders_;
  FleetRelays shared_;
  std::deque<FleetHost> hosts_;
  std::vector<FleetLink> uplinks_;  // by rack
  std::vector<std::unique_ptr<FleetRelay>> relays_;
  std::vector<std::vector<FleetRelay*>> groups_;
  // By host: relays that have said COMMIT, a bit each, and when the second did.
  std::vector<uint64_t> promised_;
  std::vector<TimeNs> durable_ns_;
  uint64_t host_wire_bytes_ = 0, chance_losses_ = 0, copies_ = 0;
  uint64_t replies_ = 0;
  std::vector<uint64_t> port_bytes_;  // at the last sample
  uint64_t port_peak_bytes_s_ = 0, receiving_peak_ = 0;
  size_t heap_at_start_ = 0, heap_peak_ = 0;
  TimeNs begun_ns_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FLEET_FLEET_H_
