// SPDX-License-Identifier: Apache-2.0
// One host of many: the real sender engine, and nothing beside it that another host could share.
//
// One sender runs at a time, so all of them use one scratch. A sender that runs again after another
// makes anew what it had in there; it can, since a block's number says what is in it.
#ifndef DUMPCAST_TESTS_FLEET_FLEET_HOST_H_
#define DUMPCAST_TESTS_FLEET_FLEET_HOST_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kmod/core/dcast_sender.h"
#include "relay/admission.h"
#include "relay/packets.h"
#include "tests/fleet/fleet_memory.h"
#include "tests/sim/sim_clock.h"

namespace dumpcast {

// One packet on its way, however many receive it.
using Packet = std::shared_ptr<const std::string>;

// What a dump's key says: one dump a host, and who it is.
DumpKey FleetDump(uint32_t host);
uint32_t FleetHostOf(const DumpKey& dump);
dcast_keys FleetKeys(uint32_t host);
inline constexpr uint16_t kFleetEpoch = 7;

class FleetHost;

// What the hosts share.
struct FleetSenders {
  // A packet has passed the host's card.
  using OnDeparture = std::function<void(uint32_t host, const Packet& packet)>;
  FleetSenders(SimClock* clock, const FleetMemory* memory, double nic_bytes_per_second,
               OnDeparture on_departure);

  SimClock* const clock;
  const FleetMemory* const memory;
  const double nic_bytes_per_second;
  const OnDeparture on_departure;
  dcast_config config = {};      // but for the ids
  FleetHost* running = nullptr;  // whose scratch it is
  std::vector<uint8_t> scratch_room;
  void* scratch = nullptr;
  std::vector<uint64_t> tx;                            // one packet
  std::vector<uint8_t> slot_room;                      // one encoding, for Encode()
  std::map<FleetMemory::Name, std::string> encodings;  // all but META's, which differs by host
};

class FleetHost {
 public:
  FleetHost(FleetSenders* senders, uint32_t index) : senders_(senders), index_(index) {}

  // Heartbeats from now on; the dump when Panic() is called.
  void Arm();
  void Panic(const Admission::Signature& signature);
  void Receive(const std::string& packet);

  bool panicked() const { return panic_ns_ != 0; }
  bool ended() const { return dcast_sender_phase(&sender_) == DCAST_PHASE_DONE; }
  bool committed() const { return dcast_sender_committed(&sender_) != 0; }
  bool log_only() const { return sender_.verdict == DCAST_ADMIT_LOG_ONLY; }
  TimeNs panic_ns() const { return panic_ns_; }
  const Admission::Signature& signature() const { return signature_; }
  const dcast_stats& stats() const { return *dcast_sender_stats(&sender_); }

  // The encoding of one block of the dump, made again. After Panic().
  std::string Encode(const FleetMemory::Name& name);

 private:
  friend struct FleetRim;
  void Step();
  void Wake(TimeNs when);
  void Resume();

  FleetSenders* senders_;
  uint32_t index_;
  Admission::Signature signature_{};
  dcast_sender sender_ = {};
  dcast_secrets secrets_ = {};
  TimeNs panic_ns_ = 0;
  TimeNs busy_until_ns_ = 0;
  TimeNs wake_ns_ = kNever;  // of the event that is queued
  uint64_t wake_number_ = 0;
};

// All that a sender costs.
inline constexpr size_t kMaxSenderBytes = 64 << 10;
static_assert(sizeof(FleetHost) < kMaxSenderBytes);

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FLEET_FLEET_HOST_H_
