// SPDX-License-Identifier: Apache-2.0
// One dump at this relay, from its first packet to its seal and after it.
//
//   receiving ──all held and durable──▶ sealing ──▶ complete: repeats COMMIT, drops symbols
//       ▲  └──sender gone, nobody helps─▶ sealing ──▶ incomplete ──a block comes──┐
//       └───────────────────────────────────────────────────────────────────────┘
//
// A complete dump gives its working state (Live) back; an incomplete one keeps it.
#ifndef DUMPCAST_RELAY_DUMP_H_
#define DUMPCAST_RELAY_DUMP_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/assemble.h"
#include "relay/class0.h"
#include "relay/gaps.h"
#include "relay/hosts.h"
#include "relay/repair.h"
#include "relay/shared.h"
#include "relay/verify.h"
#include "store/receive_status.h"

namespace dumpcast {

class Dump {
 public:
  enum class State { kReceiving, kSealing, kComplete, kIncomplete, kDeclined };

  Dump(Shared* shared, const DumpKey& key, uint16_t key_epoch, const dcast_keys& keys, bool live,
       bool test);

  // Makes the record (again). Before the first block.
  void Open(TimeNs now);
  // Recovery: the state as the store has it, and each key that it holds.
  void Restore(TimeNs now, State state, uint64_t committed_lanes);
  void RestoreBlock(const BlockKey& key, std::string_view encoded);

  // ---- packets of its senders ----
  void NoteSource(TimeNs now, const Verified& packet);
  void OnSymbol(TimeNs now, const Verified& packet);  // counts its outcome
  void OnEmpty(TimeNs now, const Verified& packet);
  // Memory comes after an END of the log only.
  void ResumeWalk();
  void OnEnd(TimeNs now, const Verified& packet);
  void OnAnnounce(TimeNs now, const Verified& packet, const dcast_announce& announce);
  void OnOtherNak(TimeNs now, const Verified& packet);
  // The host runs again, so nobody sends this dump any more.
  void OnHostElsewhere(TimeNs now);

  // ---- store and peers ----
  void OnStoreDone(TimeNs now, const StoreQueue::Done& done, const absl::Status& status);
  void OnPeerResult(TimeNs now, const PeerResult& result);
  void OnReplicated(TimeNs now, const std::vector<PeerBlock>& blocks);
  // Replication has sealed it complete.
  void OnSealedElsewhere();
  void Decline();
  // PACE to its senders.
  void SendPace(TimeNs now, uint32_t kib_s);
  // Blocks have lacked symbols since the last one, or there was none.
  bool PaceDue(TimeNs now) const;
  // As PACE tells it: 1 + blocks that lacked symbols when they were due.
  // Blocks that had to be asked for again.
  uint32_t AskedAgain() const { return live_ ? live_->repair.asked_again() : 0; }
  uint32_t Lacking() const { return live_ ? live_->repair.lacking() + 1 : told_lacking_; }

  void Tick(TimeNs now);
  TimeNs WakeNs() const { return wake_ns_; }

  const DumpKey& key() const { return key_; }
  // Whether it may still change: neither complete nor declined.
  bool live() const { return live_ != nullptr; }
  State state() const { return state_; }
  bool receiving() const { return state_ == State::kReceiving || state_ == State::kSealing; }
  // Of those that max_dumps bounds: a log that is durable and told takes no place.
  bool takes_place() const { return receiving() && !log_committed_; }
  // A sender was heard and is not gone.
  bool sender_there() const { return receiving() && heard_ns_ != 0 && !gone_; }
  bool end_heard() const { return live_ && live_->gaps.walk_done(); }
  bool gone() const { return gone_; }
  uint64_t expected() const;
  uint64_t held() const;
  uint64_t missing() const;
  uint64_t committed_lanes() const { return committed_; }
  ReceiveStatus Status(const Hosts::Host* host) const;
  bool FindSymbols(BlockSymbols* symbols) const {
    return live_ && live_->assembler.FindSymbols(symbols);
  }

 private:
  struct Live {
    explicit Live(Shared* shared)
        : assembler(&shared->budget, &shared->counters),
          class0(shared->config.lane_mask),
          gaps(shared->config),
          repair(shared->config, &shared->counters, &shared->random) {}
    Assembler assembler;
    Class0 class0;
    GapDetector::Held held;
    GapDetector gaps;
    Repair repair;
    std::map<uint8_t, dcast_end> ends;  // newest END of each lane
    bool ends_checked = false;
  };
  // One sender instance on one path: where replies go.
  struct Source {
    Address from;
    TimeNs heard_ns = 0;
    uint64_t packets = 0;
    uint64_t duplicates = 0;
    bool done = false;  // it said DONE
  };

  bool Holds(const BlockName& name) const {
    return live_->held[name.block_class].Contains(name.number);
  }
  // A block became known good: to the store, and into what is held.
  // `gathered`: encoded is still to be decoded with it.
  void Gain(TimeNs now, const BlockKey& key, std::string encoded,
            std::optional<Gathered> gathered = std::nullopt);
  // A block that was gained is not held after all.
  void Lose(const BlockKey& key);
  void NoteContent(const BlockKey& key, std::string_view encoded);
  void TakeBlock(TimeNs now, Assembler::Block block);
  // What a peer says are symbols of a block. Whether any is of use.
  bool TakeSymbols(TimeNs now, const BlockSymbols& symbols);
  void TakeBlocks(TimeNs now, const std::vector<PeerBlock>& blocks, bool stored);
  bool AllHeld() const;
  bool Durable() const;
  void CheckEnds();
  void StepAdmission(TimeNs now);
  void StepRepair(TimeNs now);
  void StepCommit(TimeNs now);
  void StepSeal(TimeNs now);
  void TickIncomplete(TimeNs now);
  void Seal(bool complete, std::string reason);
  void Reopen(TimeNs now);
  bool AllSendersDone(TimeNs now) const;
  std::string IncompleteReason() const;
  uint64_t LanesHeld() const;
  // One message to each sender and path heard lately.
  void ToSenders(TimeNs now, uint8_t type, std::string_view payload);
  void SendCommit(TimeNs now);
  Admission::Signature signature() const;

  Shared* const shared_;
  const DumpKey key_;
  const uint16_t key_epoch_;
  const dcast_keys keys_;
  bool live_dump_, test_;
  State state_ = State::kReceiving;
  std::unique_ptr<Live> live_;

  std::map<std::pair<uint64_t, uint8_t>, Source> sources_;  // by (origin, path)
  TimeNs begun_ns_ = 0;
  TimeNs heard_ns_ = 0;  // newest valid packet of a sender
  TimeNs gone_ns_ = 0;   // when the sender was found gone
  bool gone_ = false;
  bool said_done_ = false;
  TimeNs progress_ns_ = 0;   // newest block gained
  uint64_t last_put_ = 0;    // store op
  uint64_t refused_ = 0;     // blocks that the store refused since the last one it took
  uint64_t committed_ = 0;   // lanes, written and told
  uint64_t committing_ = 0;  // lanes, being written
  TimeNs commit_next_ns_ = 0;
  // The verdict that the senders were told, and when they are told again.
  Admission::Verdict admitted_;
  TimeNs admit_next_ns_ = 0;
  bool log_committed_ = false;  // of a host that sends the log only: durable, and told
  TimeNs pace_next_ns_ = 0;
  uint32_t told_lacking_ = 0;
  TimeNs seal_next_ns_ = 0;
  uint64_t announced_total_ = 0;
  uint64_t sealed_blocks_ = 0;  // held when it was sealed complete
  bool told_class0_ = false, told_end_ = false, told_done_ = false;
  TimeNs wake_ns_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_DUMP_H_
