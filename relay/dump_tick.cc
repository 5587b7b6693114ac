// SPDX-License-Identifier: Apache-2.0
// What time does to a dump: admission, repair, commit, seal.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "relay/dump.h"
#include "relay/reply.h"

namespace dumpcast {
namespace {

constexpr TimeNs kBusyTickNs = 10 * kMillisecond;  // while packets come
constexpr TimeNs kIdleTickNs = 100 * kMillisecond;
constexpr TimeNs kAdmitEveryNs = 200 * kMillisecond;
constexpr uint64_t kMaxCheckedBlocks = 1 << 22;  // 256 GiB: sums of END beyond cost too much

}  // namespace

Admission::Signature Dump::signature() const {
  Admission::Signature signature{};
  if (live_ && live_->class0.meta())
    std::memcpy(signature.data(), live_->class0.meta()->signature, signature.size());
  return signature;
}

// What the policy says, from META on until all of the memory is sent; a live or test dump is asked
// for by somebody.
void Dump::StepAdmission(TimeNs now) {
  if (!sender_there() || live_dump_ || test_ || !live_->class0.meta() || now < admit_next_ns_)
    return;
  if (live_->gaps.walk_done() && !live_->class0.log_only()) return;
  admit_next_ns_ = now + kAdmitEveryNs;
  const Admission::Verdict verdict = shared_->admission.Ask(now, key_, signature());
  if (verdict.verdict != admitted_.verdict)
    shared_->Tell(Event::Kind::kAdmission, key_,
                  verdict.verdict == DCAST_ADMIT_FULL ? "the host is told to send its memory now"
                  : verdict.verdict == DCAST_ADMIT_WAIT
                      ? absl::StrCat("the host is told to wait: ", verdict.why)
                      : absl::StrCat("the host is told to send the log only: ", verdict.why));
  admitted_ = verdict;
  shared_->counters.Add(Counter::kAdmits);
  ToSenders(now, DCAST_ADMIT, AdmitPayload(verdict.verdict, verdict.wait_ns));
}

bool Dump::AllHeld() const {
  return live_->class0.known() && missing() == 0;
}

bool Dump::Durable() const {
  return shared_->store.durable() >= last_put_;
}

// Received lanes of which nothing is missing; none when too much is missing to look at.
uint64_t Dump::LanesHeld() const {
  constexpr uint64_t kMaxLookedAt = 4096;
  const Class0& class0 = live_->class0;
  if (!class0.known()) return 0;
  uint64_t looked_at = 0;
  uint64_t lacking = 0;
  for (uint8_t c = 0; c < DCAST_CLASSES; ++c) {
    looked_at += class0.received(c).CountMinus(live_->held[c]);
    if (looked_at > kMaxLookedAt) return 0;
    class0.received(c).Minus(live_->held[c]).ForEachRun([&](uint64_t first, uint64_t count) {
      for (uint64_t i = 0; i < count; ++i)
        lacking |= uint64_t{1} << dcast_block_lane(c, first + i, class0.lanes());
      return true;
    });
  }
  return class0.received_lanes() & ~lacking;
}

// The sender's own count against its presence: they are made in different places.
void Dump::CheckEnds() {
  if (live_->ends_checked || expected() > kMaxCheckedBlocks) return;
  live_->ends_checked = true;
  const uint32_t lanes = live_->class0.lanes();
  for (uint8_t c = 1; c < DCAST_CLASSES; ++c) {
    std::vector<std::pair<uint64_t, uint64_t>> found(lanes);  // blocks, id_sum
    live_->class0.numbers(c).ForEachRun([&](uint64_t first, uint64_t count) {
      for (uint64_t number = first; number - first < count; ++number) {
        auto& lane = found[dcast_block_lane(c, number, lanes)];
        ++lane.first;
        lane.second += dcast_id_mix(c, number);
      }
      return true;
    });
    for (const auto& [lane, end] : live_->ends) {
      if (lane >= lanes) continue;
      const uint64_t blocks = dcast_le64(end.cls[c].blocks);
      if (blocks == found[lane].first && dcast_le64(end.cls[c].id_sum) == found[lane].second)
        continue;
      shared_->Tell(Event::Kind::kEndMismatch, key_,
                    absl::StrCat("lane ", int{lane}, ", class ", int{c}, ": END counts ", blocks,
                                 " blocks, the presence names ", found[lane].first));
    }
  }
}

void Dump::StepRepair(TimeNs now) {
  Live& live = *live_;
  // Nobody is asked for what the store would refuse, or has no time for.
  if (shared_->store_full || shared_->store.pending_bytes() > shared_->config.store_queue_bytes / 2)
    return;
  // For what is asked for there is memory while it comes, and as much for what comes by itself.
  const uint64_t fit = std::clamp<uint64_t>(shared_->budget.share() / 2 / DCAST_WINDOW_BYTES, 1,
                                            shared_->config.repair_window_blocks);
  const std::vector<BlockName> missing =
      live.gaps.Missing(now, live.class0, live.held, live.assembler, fit);
  const bool sender_there = heard_ns_ != 0 && !gone_;
  Repair::Requests requests =
      live.repair.Step(now, missing, live.class0, live.assembler, shared_->has_peers, sender_there);
  for (const auto& entries : requests.naks) {
    shared_->counters.Add(Counter::kNaks);
    ToSenders(now, DCAST_NAK, NakPayload(entries));
  }
  if (requests.fetch.empty() && requests.symbols.empty()) return;
  const uint64_t id = shared_->next_fetch_id++;
  shared_->open_fetches.emplace(id, key_);
  shared_->fetches.push_back(
      {id, key_, key_epoch_, std::move(requests.fetch), std::move(requests.symbols)});
}

void Dump::Seal(bool complete, std::string reason) {
  state_ = State::kSealing;
  StoreOp op;
  op.kind = StoreOp::Kind::kSeal;
  op.dump = key_;
  op.complete = complete;
  op.reason = std::move(reason);
  op.signature = signature();
  op.committed_lanes = complete ? live_->class0.AllLanes() : committed_;
  shared_->store.Add(std::move(op));
}

void Dump::StepCommit(TimeNs now) {
  if (AllHeld() && live_->class0.log_only()) {
    // Sealed only once the host has ended: another relay may still want all of it.
    if (log_committed_ || admitted_.verdict != DCAST_ADMIT_LOG_ONLY) return;
    if (!Durable()) return shared_->store.WantFlush();
    log_committed_ = true;
    return SendCommit(now);
  }
  log_committed_ = false;
  if (AllHeld()) {
    CheckEnds();
    if (!Durable()) return shared_->store.WantFlush();
    if (now >= seal_next_ns_) Seal(true, "");
    return;
  }
  if (!live_->gaps.walk_done() || gone_ || committing_ != 0) return;
  const uint64_t lanes = LanesHeld();
  if ((lanes & ~committed_) == 0) return;
  if (!Durable()) return shared_->store.WantFlush();
  committing_ = lanes;
  StoreOp op;
  op.kind = StoreOp::Kind::kCommit;
  op.dump = key_;
  op.committed_lanes = lanes;
  shared_->store.Add(std::move(op));
}

std::string Dump::IncompleteReason() const {
  const uint64_t lacking = missing();
  const char* who = said_done_ && live_dump_ ? "the live dump was ended on the host"
                    : said_done_             ? "the host has ended its dump"
                    : heard_ns_ == 0         ? "the host was gone when this relay started"
                                             : "the host fell silent";
  const char* peers = shared_->has_peers ? ", and no peer has them" : ", and there is no peer";
  std::string what;
  if (live_->class0.log_only() && lacking == 0)
    return absl::StrCat("only the log was taken: ", admitted_.why.empty()
                                                        ? "the relays had enough of this crash"
                                                        : admitted_.why);
  if (!live_->class0.meta()) {
    what = absl::StrCat("the description of the dump never came; ", held(), " blocks are held");
  } else if (!live_->class0.known()) {
    what = absl::StrCat(lacking, " blocks are known to be missing, and more may be");
  } else {
    what = absl::StrCat(lacking, " of ", expected(), " blocks are missing");
  }
  std::string reason = absl::StrCat(who, ": ", what, peers);
  if (refused_ != 0)
    absl::StrAppend(&reason, "; the disk of this relay was full: ", refused_, " blocks refused");
  return reason;
}

void Dump::StepSeal(TimeNs now) {
  const TimeNs since = std::max(heard_ns_, begun_ns_);
  if (!gone_ && now >= since + shared_->config.silent_ns) {
    gone_ = true;
    gone_ns_ = now;
    if (heard_ns_ != 0)
      shared_->Tell(Event::Kind::kSenderSilent, key_,
                    absl::StrCat("nothing from the host for ", shared_->config.silent_ns / kSecond,
                                 " s; ", missing(), " blocks are missing here"));
  }
  if (!gone_ || now < seal_next_ns_ || live_->repair.fetch_open()) return;
  if (now < std::max(gone_ns_, progress_ns_) + shared_->config.seal_ns) return;
  if (!Durable()) return shared_->store.WantFlush();
  Seal(false, IncompleteReason());
}

void Dump::Tick(TimeNs now) {
  wake_ns_ = kNever;
  if (!live_) return;
  if (state_ == State::kIncomplete) return TickIncomplete(now);
  if (state_ != State::kReceiving) return;
  StepAdmission(now);
  StepCommit(now);
  const bool whole = AllHeld();
  if (state_ == State::kReceiving && !whole) StepRepair(now);
  if (state_ == State::kReceiving && (!whole || live_->class0.log_only())) StepSeal(now);
  if (gone_) shared_->admission.Leave(key_);
  const bool busy = heard_ns_ != 0 && now < heard_ns_ + kSecond;
  wake_ns_ = now + (busy ? kBusyTickNs : kIdleTickNs);
}

// A sender is there again, or its packets are replayed: it is asked for what is missing, and only
// a block unseals the dump.
void Dump::TickIncomplete(TimeNs now) {
  if (gone_ || heard_ns_ == 0) return;
  if (now >= heard_ns_ + shared_->config.silent_ns) {
    gone_ = true;
    return;
  }
  StepRepair(now);
  wake_ns_ = now + kIdleTickNs;
}

}  // namespace dumpcast
