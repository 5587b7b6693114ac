// SPDX-License-Identifier: Apache-2.0
// What all dumps of one engine share: configuration, budgets, and the boxes that leave it.
#ifndef DUMPCAST_RELAY_SHARED_H_
#define DUMPCAST_RELAY_SHARED_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/admission.h"
#include "relay/assemble.h"
#include "relay/counters.h"
#include "relay/engine_config.h"
#include "relay/pace.h"
#include "relay/packets.h"
#include "relay/store_queue.h"

namespace dumpcast {

struct Shared {
  Shared(const EngineConfig& c, std::function<uint64_t()> r)
      : config(c),
        random(std::move(r)),
        budget(c.total_memory_bytes, c.dump_memory_bytes),
        store(config),
        pace(config),
        admission(c.admission),
        next_seq(c.first_seq),
        has_peers(c.has_peers) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  void Tell(Event::Kind kind, const DumpKey& dump, std::string text) {
    events.push_back({kind, dump, std::move(text)});
  }

  // A block was decoded of so many symbols, or they did not give what its digest says.
  void NoteDecoded(unsigned symbols, bool parity, bool good) {
    budget.NoteDecoded(symbols);
    counters.Add(good ? Counter::kInBlocks : Counter::kBadDigest, symbols);
    counters.Add(good ? Counter::kBlocks : Counter::kBlocksBadDigest);
    if (good && parity) counters.Add(Counter::kBlocksFec);
  }

  void NoteStoreFull(TimeNs now) {
    if (!store_full) store_probe_ns = now + kStoreProbeNs;
    store_full = true;
  }

  static constexpr TimeNs kStoreProbeNs = 2 * kSecond;
  const EngineConfig config;
  const std::function<uint64_t()> random;
  Counters counters;
  AssemblyBudget budget;
  StoreQueue store;
  Pace pace;
  Admission admission;
  uint64_t next_seq;
  bool has_peers;
  std::vector<Address> peers;
  // The store has refused something. Nobody is asked for blocks then, or a host would be kept from
  // rebooting by a relay that can take nothing; a probe every few seconds ends it.
  bool store_full = false;
  TimeNs store_probe_ns = kNever;  // when to probe; kNever while one is under way
  TimeNs store_full_told_ns = 0;

  std::vector<Reply> replies;
  std::vector<Event> events;
  std::vector<PeerFetch> fetches;
  uint64_t next_fetch_id = 1;
  absl::flat_hash_map<uint64_t, DumpKey> open_fetches;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_SHARED_H_
