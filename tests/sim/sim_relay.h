// SPDX-License-Identifier: Apache-2.0
// A relay: the real engine over a store in memory that forgets what was not flushed.
#ifndef DUMPCAST_TESTS_SIM_SIM_RELAY_H_
#define DUMPCAST_TESTS_SIM_SIM_RELAY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "relay/engine.h"
#include "store/block_sink.h"
#include "tests/sim/sim_clock.h"

namespace dumpcast {

// Blocks by key; what a power cut would leave, and what would be lost.
class MemorySink final : public BlockSink {
 public:
  absl::Status PutBlock(const DumpKey& dump, const BlockKey& key, std::string encoded) override;
  absl::Status Flush() override;
  void PowerCut();

  struct Stored {
    std::string encoded;
    bool durable = false;
  };
  const std::map<BlockKey, Stored>& blocks() const { return blocks_; }

  bool full = false;       // refuses blocks
  uint64_t put_twice = 0;  // a (class, number) that was there already, in any encoding

 private:
  std::map<BlockKey, Stored> blocks_;  // the simulation has one dump
  std::set<std::pair<uint8_t, uint64_t>> numbers_;
};

class SimRelay {
 public:
  // How replies leave: `to` is what Receive() was given as `from`.
  using SendReply = std::function<void(const Address& to, const std::string& packet)>;
  SimRelay(SimClock* clock, uint64_t id, const EngineConfig& config, SendReply send);

  // ---- life ----
  void Start();
  void Kill();  // SIGKILL: what was not durable is gone
  void WipeDisk();
  bool up() const { return engine_ != nullptr; }

  void Receive(const std::string& packet, const Address& from);
  void SetPeers(std::vector<SimRelay*> peers, std::vector<Address> addresses);
  // One round of replication from a peer, as the Replicator does it.
  void ReplicateFrom(const SimRelay& peer);

  uint64_t id() const { return id_; }
  const MemorySink& sink() const { return sink_; }
  MemorySink& sink() { return sink_; }
  const Engine& engine() const { return *engine_; }
  bool Complete() const;
  bool SealedIncomplete() const;
  // The record as it is on the disk.
  struct Record {
    bool open = false, sealed = false, complete = false;
    std::string reason;
    uint64_t lanes = 0;
  };
  const Record& record() const { return record_; }
  // COMMITs that left before everything was durable; must stay empty.
  const std::string& broken_promise() const { return broken_promise_; }
  std::vector<Event> events;
  double disk_bytes_per_second = 0;  // 0: as fast as can be

 private:
  void Pump();
  void Work();
  void Wake(TimeNs when);
  void StartFetch(const PeerFetch& fetch);
  void CheckCommit(const std::string& packet);

  SimClock* clock_;
  const uint64_t id_;
  EngineConfig config_;
  SendReply send_;
  MemorySink sink_;
  Record record_;
  std::unique_ptr<Engine> engine_;
  uint64_t life_ = 0;  // events of an earlier life do nothing
  std::vector<SimRelay*> peers_;
  std::vector<Address> peer_addresses_;
  std::vector<StoreOp> ops_;
  bool working_ = false;
  size_t worked_on_ = 0;  // of ops_
  TimeNs wake_ns_ = kNever;
  uint64_t wake_number_ = 0;
  std::string broken_promise_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_RELAY_H_
