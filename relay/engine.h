// SPDX-License-Identifier: Apache-2.0
// The relay's protocol engine, sans-IO: datagrams and time in; replies, store work, peer fetches
// and events out; WakeNs() says when it wants Tick() at the latest. It owns no socket, clock,
// thread or random seed.
//
//   lane threads ──Receive()──▶ ┌────────┐ ──TakeReplies()─────▶ UDP socket
//   timer ───────────Tick()───▶ │ Engine │ ──TakeStoreOps()────▶ writer ──StoreDone()──┐
//   peers ────PeerFetched()───▶ └────────┘ ──TakePeerFetches()─▶ gRPC                  │
//                                   ▲─────────────────────────────────────────────────┘
//
// The order inside: verify → hosts/arbitrate → assemble → (store) → class0 → gaps → repair →
// commit → seal. One file each.
//
// Thread safety: none; the rim serializes calls. Only Verifier (verify.h) is meant to be used
// outside, one per lane thread, so that MACs are checked in parallel.
//
// Invariants:
// - CheckCounters() is empty between calls.
// - A COMMIT leaves only after StoreDone(OK) of the kFlush that follows the last expected block,
//   and of the kSeal after it. One of a host that sends the log only follows the kFlush.
// - Memory of incomplete blocks never exceeds the configured bounds.
#ifndef DUMPCAST_RELAY_ENGINE_H_
#define DUMPCAST_RELAY_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "protos/wire/auth.h"
#include "relay/counters.h"
#include "relay/engine_config.h"
#include "relay/hosts.h"
#include "relay/packets.h"
#include "relay/verify.h"
#include "store/ids.h"
#include "store/receive_status.h"

namespace dumpcast {

// A dump found in the store when the relay starts.
struct RestoredDump {
  DumpKey key;
  uint16_t key_epoch = 0;
  bool sealed = false;
  bool complete = false;
  bool declined = false;  // tombstone, or evicted
  bool live = false;
  bool test = false;
  uint64_t committed_lanes = 0;
  // Of the crash, zeros when there is none; how long ago its first packet came.
  std::array<uint8_t, DCAST_SIGNATURE_BYTES> signature{};
  TimeNs age_ns = 0;
};

class Engine {
 public:
  // `random` returns 64 uniform bits.
  Engine(const EngineConfig& config, KeyLookup keys, std::function<uint64_t()> random);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // ---- recovery, before anything else ----
  void RestoreDump(TimeNs now, const RestoredDump& dump);
  // Each stored key of an unsealed or incomplete dump, durable; `encoded` for class 0 only.
  void RestoreBlock(const DumpKey& dump, const BlockKey& key, std::string_view encoded);
  // What tells a replayed ANNOUNCE from a new one.
  void RestoreHost(const RestoredHost& host);

  // ---- in ----
  void Receive(TimeNs now, const Datagram& datagram);
  // What a lane thread's own Verifier has accepted, or refused (then only counted).
  void ReceiveVerified(TimeNs now, const Verified& packet);
  void Tick(TimeNs now);
  void StoreDone(TimeNs now, uint64_t op_id, const absl::Status& status);
  void PeerFetched(TimeNs now, uint64_t fetch_id, const PeerResult& result);
  // Blocks that replication has put into the store and made durable by itself; the bytes of class 0
  // are needed, others may be left out.
  void BlocksReplicated(TimeNs now, const DumpKey& dump, const std::vector<PeerBlock>& blocks);
  // Replication has sealed the dump complete. One that this engine does not know is restored
  // instead, with the key epoch of its record.
  void SealedByReplication(const DumpKey& dump);
  // The dump was deleted or evicted: forgets it and declines its packets from now on.
  void Decline(TimeNs now, const DumpKey& dump);
  // Where peers listen for copies of NAKs; empty when there are none.
  void SetPeers(std::vector<Address> peers, bool has_peers);
  // Datagrams that the sockets have dropped since the last call.
  void NoteSocketDrops(TimeNs now, uint64_t datagrams);

  // ---- out ----
  std::vector<Reply> TakeReplies();
  std::vector<StoreOp> TakeStoreOps(TimeNs now);
  std::vector<PeerFetch> TakePeerFetches();
  std::vector<Event> TakeEvents();
  TimeNs WakeNs() const;

  // ---- look ----
  const Counters& counters() const;
  // Empty when the counters' sums close, else which one does not.
  std::string CheckCounters() const;
  struct DumpView {
    DumpKey key;
    bool sealed = false, complete = false, declined = false, sender_gone = false, end_heard = false;
    uint64_t expected = 0, held = 0, missing = 0;  // blocks, counted once per (class, number)
    uint64_t committed_lanes = 0;
  };
  std::optional<DumpView> GetDump(const DumpKey& dump) const;
  std::vector<DumpView> ListDumps() const;
  std::optional<ReceiveStatus> GetReceiveStatus(const DumpKey& dump) const;
  // As ReceiveStatusSource's.
  bool FindSymbols(const DumpKey& dump, BlockSymbols* symbols) const;
  uint32_t PathsHeard(TimeNs now, const Id16& host_id) const;
  // Bytes of incomplete blocks, all dumps; symbols in them, and in blocks not decoded yet.
  uint64_t assembly_bytes() const;
  uint64_t waiting_symbols() const;
  // Encodings handed out as store work and not yet reported done.
  uint64_t store_queue_bytes() const;
  // What all senders together are told to keep to, KiB/s; 0: no limit.
  uint32_t pace_kib_s() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ENGINE_H_
