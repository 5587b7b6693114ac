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
// - counters().Check() holds between calls.
// - A COMMIT leaves only after StoreDone(OK) of the kFlush that follows the last expected block,
//   and of the kSeal after it.
// - Memory of incomplete blocks never exceeds the configured bounds.
#ifndef DUMPCAST_RELAY_ENGINE_H_
#define DUMPCAST_RELAY_ENGINE_H_

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
#include "relay/packets.h"
#include "relay/verify.h"
#include "store/ids.h"
#include "store/receive_status.h"

namespace dumpcast {

struct EngineConfig {
  uint64_t relay_id = 0;         // origin of what this relay sends; kept over restarts
  std::string name;              // at most 63 bytes are told to hosts
  uint64_t first_seq = 1;        // above every seq sent before a restart, e.g. unix microseconds
  uint64_t lane_mask = 1;        // lanes that the rim has joined
  bool has_peers = false;        // changed later by SetPeers()

  // Memory of incomplete blocks, bytes.
  uint64_t dump_memory_bytes = 64ull << 20;
  uint64_t total_memory_bytes = 256ull << 20;
  // Encoded bytes handed to the store and not yet put.
  uint64_t store_queue_bytes = 128ull << 20;
  // Dumps being received at a time; further ones are declined.
  uint32_t max_dumps = 256;

  // Gaps. A block is missing when the walk has passed it, or it has begun, and nothing of it has
  // come for this long.
  TimeNs gap_quiet_ns = 40 * kMillisecond;
  // Nothing at all from the sender for this long: everything it has named is due.
  TimeNs stall_ns = 400 * kMillisecond;
  // First repeat of a request for one block; doubles up to repair_max_ns, each with +-50 % jitter.
  TimeNs repair_first_ns = 150 * kMillisecond;
  TimeNs repair_max_ns = 3 * kSecond;
  // A block that another relay asked for is not asked for again for this long.
  TimeNs suppress_ns = 120 * kMillisecond;
  // NAK packets per second to one sender, and blocks that may be asked for and not yet have come.
  uint32_t naks_per_second = 200;
  uint32_t repair_window_blocks = 1024;
  // Largest NAK, bytes of UDP payload.
  uint32_t nak_bytes = 1400;

  // Store.
  TimeNs flush_ns = 2 * kSecond;
  uint64_t flush_bytes = 64ull << 20;

  // The sender is gone when nothing came for silent_ns; the dump is sealed incomplete when, after
  // that, neither it nor a peer has brought a block for seal_ns.
  TimeNs silent_ns = 15 * kSecond;
  TimeNs seal_ns = 30 * kSecond;
};

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

  // ---- in ----
  void Receive(TimeNs now, const Datagram& datagram);
  // What a lane thread's own Verifier has accepted, or refused (then only counted).
  void ReceiveVerified(TimeNs now, const Verified& packet);
  void Tick(TimeNs now);
  void StoreDone(TimeNs now, uint64_t op_id, const absl::Status& status);
  void PeerFetched(TimeNs now, uint64_t fetch_id, const PeerResult& result);
  // Blocks that replication has put into the store by itself.
  void BlocksReplicated(TimeNs now, const DumpKey& dump, const std::vector<PeerBlock>& blocks);
  // The dump was deleted or evicted: forgets it and declines its packets from now on.
  void Decline(TimeNs now, const DumpKey& dump);
  // Where peers listen for copies of NAKs; empty when there are none.
  void SetPeers(std::vector<Address> peers, bool has_peers);
  // Datagrams that the sockets have dropped since the last call.
  void NoteSocketDrops(TimeNs now, uint64_t datagrams);

  // ---- out ----
  std::vector<Reply> TakeReplies();
  std::vector<StoreOp> TakeStoreOps();
  std::vector<PeerFetch> TakePeerFetches();
  std::vector<Event> TakeEvents();
  TimeNs WakeNs() const;

  // ---- look ----
  const Counters& counters() const;
  struct DumpView {
    DumpKey key;
    bool sealed = false, complete = false, declined = false, sender_gone = false, end_heard = false;
    uint64_t expected = 0, held = 0, missing = 0;  // blocks, counted once per (class, number)
    uint64_t committed_lanes = 0;
  };
  std::optional<DumpView> GetDump(const DumpKey& dump) const;
  std::vector<DumpView> ListDumps() const;
  std::optional<ReceiveStatus> GetReceiveStatus(TimeNs now, const DumpKey& dump) const;
  uint32_t PathsHeard(TimeNs now, const Id16& host_id) const;
  // Bytes of incomplete blocks, all dumps.
  uint64_t assembly_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ENGINE_H_
