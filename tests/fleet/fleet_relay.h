// SPDX-License-Identifier: Apache-2.0
// One relay of a fleet: the real engine, a port of the switch before it, and a disk that keeps the
// keys of blocks. Their bytes are made again by the host when a peer wants them.
#ifndef DUMPCAST_TESTS_FLEET_FLEET_RELAY_H_
#define DUMPCAST_TESTS_FLEET_FLEET_RELAY_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/engine.h"
#include "tests/fleet/fleet_host.h"
#include "tests/fleet/fleet_link.h"

namespace dumpcast {

// An address names a host or a relay; the engine only hands it back.
Address HostAddress(uint32_t host);
Address RelayAddress(uint32_t relay);
std::optional<uint32_t> HostAt(const Address& address);
uint32_t RelayAt(const Address& address);

// What the relays share.
struct FleetRelays {
  SimClock* clock = nullptr;
  const FleetMemory* memory = nullptr;
  double port_bytes_per_second = 0;
  double port_queue_bytes = 0;
  double disk_bytes_per_second = 0;
  std::function<std::string(uint32_t host, const FleetMemory::Name& name)> encode;
  std::function<void(std::vector<Reply> replies)> send;
  // A COMMIT has left.
  std::function<void(uint32_t host, uint32_t relay)> on_commit;
};

class FleetRelay {
 public:
  FleetRelay(FleetRelays* relays, uint32_t index, const EngineConfig& config);

  void SetPeers(std::vector<FleetRelay*> peers);
  void Start();
  void Kill();  // SIGKILL: what was not durable is gone
  bool up() const { return engine_ != nullptr; }

  // A packet has come to the switch's port.
  void Arrive(const Packet& packet, const Address& from);

  uint32_t index() const { return index_; }
  const Engine& engine() const { return *engine_; }
  const FleetLink& port() const { return port_; }

  // A dump as the disk has it.
  struct Stored {
    bool open = false, sealed = false, complete = false;
    uint16_t key_epoch = 0;
    uint64_t lanes = 0;
    Admission::Signature signature{};
    TimeNs opened_ns = 0;
    std::vector<BlockKey> blocks;
    size_t durable = 0;  // of blocks, from the first
  };
  const Stored* Find(uint32_t host) const;
  // Every block of the dump, or of the log alone, is durable.
  bool Holds(uint32_t host, bool log_only) const;
  uint64_t complete_dumps() const { return complete_dumps_; }
  // Dumps that are not sealed yet.
  uint64_t Receiving() const;
  // Nothing is being written or fetched.
  bool Idle() const;

  // Of all lives.
  uint64_t Count(Counter counter) const;
  uint64_t peer_bytes() const { return peer_bytes_; }
  uint64_t peak_assembly_bytes() const { return peak_assembly_bytes_; }
  uint64_t peak_queue_bytes() const { return peak_queue_bytes_; }
  // What must not be: sums that do not close, memory beyond its bound, a promise that is not kept.
  const std::string& fault() const { return fault_; }

 private:
  struct Waiting {
    TimeNs at_ns;
    Packet packet;
    Address from;
  };
  struct Pull {
    uint32_t host;
    FleetRelay* peer;
  };
  void Poll();
  void Pump();
  void Work(std::vector<StoreOp>& ops);
  void Do(const StoreOp& op);
  void NextFetch();
  PeerResult Collect(const PeerFetch& fetch);
  void Replicate();
  void NextPull();
  void TakeOver(const Pull& pull);
  // Tells the engine of a dump that it does not know.
  void Restore(uint32_t host, const Stored& stored);
  // So many bytes from peers, as TCP brings them: no more than the port has room for.
  void Transfer(uint64_t bytes, std::function<void()> done);
  // Later, unless this life has ended.
  void After(TimeNs delay, std::function<void()> what);
  void CheckCommit(const std::string& packet);
  void NoteCounters();
  void Fault(const std::string& what);

  FleetRelays* relays_;
  const uint32_t index_;
  EngineConfig config_;
  FleetLink port_;
  std::vector<FleetRelay*> peers_;
  std::unique_ptr<Engine> engine_;
  uint64_t life_ = 0;
  std::deque<Waiting> inbox_;
  std::vector<StoreOp> ops_;
  bool working_ = false;
  std::deque<PeerFetch> fetches_;
  bool fetching_ = false;
  uint64_t fetch_turn_ = 0;
  std::deque<Pull> pulls_;
  absl::flat_hash_map<uint32_t, Stored> disk_;  // by host
  std::vector<uint32_t> unflushed_;             // hosts
  uint64_t complete_dumps_ = 0;
  std::array<uint64_t, kCounterCount> former_{};  // counters of earlier lives
  uint64_t peer_bytes_ = 0, peak_assembly_bytes_ = 0, peak_queue_bytes_ = 0;
  std::string fault_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FLEET_FLEET_RELAY_H_
