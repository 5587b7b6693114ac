// SPDX-License-Identifier: Apache-2.0
// Loss detector of one dump: which blocks are missing now. The sender walks class by class in
// ascending order, so what it has passed a while ago will not come by itself; after END, or when
// it has fallen silent, that is everything. Time is passed in; nothing is remembered of a block.
#ifndef DUMPCAST_RELAY_GAPS_H_
#define DUMPCAST_RELAY_GAPS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "relay/assemble.h"
#include "relay/class0.h"
#include "relay/engine_config.h"
#include "relay/packets.h"
#include "store/number_set.h"

namespace dumpcast {

class GapDetector {
 public:
  explicit GapDetector(const EngineConfig& config) : config_(config) {}

  // A SYMBOL or EMPTY of a block came. `repeat`: an answer or a further pass, not the first walk.
  void NoteBlock(TimeNs now, uint8_t block_class, uint64_t number, bool repeat);
  // Anything valid came from the sender.
  void NoteHeard(TimeNs now) { heard_ns_ = now; }
  // END, or a state after the first pass: all that exists has been sent once.
  void NoteWalkDone() { walk_done_ = true; }
  // It goes on: another relay wants more than the log.
  void NoteWalkResumed() { walk_done_ = false; }
  bool walk_done() const { return walk_done_; }

  // Missing blocks that are due, class 0 first, then ascending, at most `limit`; last those of
  // lanes that are not received.
  using Held = std::array<NumberSet, DCAST_CLASSES>;
  std::vector<BlockName> Missing(TimeNs now, const Class0& class0, const Held& held,
                                 const Assembler& assembler, size_t limit) const;

  // For how long a block must be quiet: grows when the sender sends slowly, since symbols of up
  // to 16 blocks are interleaved.
  TimeNs quiet_ns() const;

 private:
  struct Mark {
    TimeNs at = 0;
    uint8_t block_class = 0;
    uint64_t number = 0;
  };
  // Where the walk was quiet_ns ago.
  Mark Passed(TimeNs now) const;

  const EngineConfig& config_;
  TimeNs heard_ns_ = 0;
  TimeNs first_ns_ = 0;     // first block of any class
  TimeNs class0_ns_ = 0;    // newest class 0 symbol
  TimeNs walk_ns_ = 0;      // newest symbol of the walk
  TimeNs interval_ns_ = 0;  // between symbols of the walk, smoothed
  bool walk_done_ = false;
  Mark newest_;
  std::deque<Mark> marks_;  // at least kMarkNs apart, ascending
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_GAPS_H_
