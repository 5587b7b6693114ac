// SPDX-License-Identifier: Apache-2.0
// Fills the gaps of one dump: first from peers, then from the sender by NAK; peers alone once the
// sender is gone. A request that another relay made lately is not made again; each block's requests
// back off exponentially with jitter, and NAKs as a whole are bounded in rate.
#ifndef DUMPCAST_RELAY_REPAIR_H_
#define DUMPCAST_RELAY_REPAIR_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "protos/wire/bytes.h"
#include "protos/wire/dumpcast_wire.h"
#include "relay/assemble.h"
#include "relay/class0.h"
#include "relay/counters.h"
#include "relay/engine_config.h"
#include "relay/packets.h"

namespace dumpcast {

class Repair {
 public:
  // All outlive it.
  Repair(const EngineConfig& config, Counters* counters, const std::function<uint64_t()>* random);

  struct Requests {
    std::vector<BlockRun> fetch;                     // for peers
    std::vector<BlockSymbols> symbols;               // for peers, of blocks that have some
    std::vector<std::vector<dcast_nak_entry>> naks;  // one packet each
  };
  // What to ask for now. `missing` is what is due (GapDetector::Missing); blocks that are no
  // longer in it are forgotten. The sender is asked only for what its answer would bring here.
  Requests Step(TimeNs now, const std::vector<BlockName>& missing, const Class0& class0,
                const Assembler& assembler, bool has_peers, bool sender_there);

  // The peers have answered the open fetch, with these or without.
  void NoteFetched(TimeNs now, bool more);
  // Another relay asked the sender.
  void NoteOtherNak(TimeNs now, const dcast_nak_entry& entry, const Assembler& assembler);
  // Symbols sent again are arriving: answers are under way.
  void NoteRepeat(TimeNs now) { repeat_ns_ = now; }
  void NoteHeld(const BlockName& name) { asks_.erase(name); }

  // Blocks of which some symbols had come, too few, when they were due.
  uint32_t lacking() const { return lacking_; }
  // Answers that had to be asked for again.
  uint32_t asked_again() const { return asked_again_; }
  bool fetch_open() const { return fetch_open_; }
  // Fetches that brought nothing since the last that did.
  uint32_t fruitless_fetches() const { return fruitless_; }
  void NoteFetchFruitful() { fruitless_ = 0; }
  TimeNs WakeNs() const { return wake_ns_; }

 private:
  enum class Stage : uint8_t { kPeers, kAskedPeers, kNak };
  struct Ask {
    Stage stage = Stage::kPeers;
    uint8_t tries = 0;
    uint8_t postponed = 0;
    bool whole = true;  // what peers were asked for last; true: all of it, or nothing yet
    TimeNs next_ns = 0;
    uint64_t round = 0;
  };
  TimeNs Backoff(uint8_t tries);
  TimeNs Jitter(TimeNs up_to) { return up_to == 0 ? 0 : (*random_)() % up_to; }
  bool TakeToken(TimeNs now);
  void Suppress(TimeNs now, Ask& ask);

  const EngineConfig& config_;
  Counters* counters_;
  const std::function<uint64_t()>* random_;
  absl::flat_hash_map<BlockName, Ask> asks_;
  uint64_t round_ = 0;
  uint32_t lacking_ = 0;
  uint32_t asked_again_ = 0;
  bool fetch_open_ = false;
  uint32_t fruitless_ = 0;
  TimeNs fetch_next_ns_ = 0;
  TimeNs repeat_ns_ = 0;
  double tokens_ = 0;
  TimeNs tokens_ns_ = 0;
  TimeNs wake_ns_ = kNever;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_REPAIR_H_
