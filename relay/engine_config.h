// SPDX-License-Identifier: Apache-2.0
// What the engine can be told. docs/relay.md explains each timer.
#ifndef DUMPCAST_RELAY_ENGINE_CONFIG_H_
#define DUMPCAST_RELAY_ENGINE_CONFIG_H_

#include <cstdint>
#include <string>

#include "relay/admission.h"
#include "relay/packets.h"

namespace dumpcast {

struct EngineConfig {
  uint64_t relay_id = 0;   // origin of what this relay sends; kept over restarts
  std::string name;        // at most 63 bytes are told to hosts
  uint64_t first_seq = 1;  // above every seq sent before a restart, e.g. unix microseconds
  uint64_t lane_mask = ~uint64_t{0};  // lanes that the rim has joined
  bool has_peers = false;             // changed later by SetPeers()

  // Memory of incomplete blocks, bytes.
  uint64_t dump_memory_bytes = 64ull << 20;
  uint64_t total_memory_bytes = 256ull << 20;
  // Encoded bytes handed to the store and not yet put.
  uint64_t store_queue_bytes = 128ull << 20;
  // Dumps being received at a time; further ones are declined.
  uint32_t max_dumps = 256;

  AdmissionConfig admission;

  // Gaps. A block is missing when the walk has passed it, or it has begun, and nothing of it has
  // come for this long.
  TimeNs gap_quiet_ns = 40 * kMillisecond;
  // Nothing at all from the sender for this long: everything it has named is due.
  TimeNs stall_ns = 400 * kMillisecond;
  // First repeat of a request for one block; doubles up to repair_max_ns, each with +-50 % jitter.
  TimeNs repair_first_ns = 150 * kMillisecond;
  TimeNs repair_max_ns = kSecond;
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

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ENGINE_CONFIG_H_
