// SPDX-License-Identifier: Apache-2.0
#include "relay/gaps.h"

#include <algorithm>
#include <tuple>

namespace dumpcast {
namespace {

constexpr TimeNs kMarkNs = 5 * kMillisecond;
constexpr size_t kMaxMarks = 1024;
// Symbols of the walk that may pass between two of one block: 16 blocks interleaved, 4 lost.
constexpr uint64_t kInterleave = 64;
constexpr TimeNs kMaxQuietNs = 5 * kSecond;

}  // namespace

void GapDetector::NoteBlock(TimeNs now, uint8_t block_class, uint64_t number, bool repeat) {
  if (first_ns_ == 0) first_ns_ = now;
  if (block_class == 0) class0_ns_ = now;
  if (repeat) return;
  if (walk_ns_ != 0) {
    const TimeNs gap = std::min(now - walk_ns_, kMaxQuietNs);
    interval_ns_ = interval_ns_ - interval_ns_ / 16 + gap / 16;
  }
  walk_ns_ = now;
  if (block_class == 0 ||
      std::tie(block_class, number) <= std::tie(newest_.block_class, newest_.number))
    return;
  newest_ = {now, block_class, number};
  if (!marks_.empty() && now - marks_.back().at < kMarkNs) return;
  marks_.push_back(newest_);
  if (marks_.size() > kMaxMarks) marks_.pop_front();
}

TimeNs GapDetector::quiet_ns() const {
  return std::clamp(interval_ns_ * kInterleave, config_.gap_quiet_ns,
                    std::max(kMaxQuietNs, config_.gap_quiet_ns));
}

GapDetector::Mark GapDetector::Passed(TimeNs now) const {
  const TimeNs quiet = quiet_ns();
  Mark passed;
  for (const Mark& mark : marks_) {
    if (mark.at + quiet > now) break;
    passed = mark;
  }
  return passed;
}

std::vector<BlockName> GapDetector::Missing(TimeNs now, const Class0& class0, const Held& held,
                                            const Assembler& assembler, size_t limit) const {
  std::vector<BlockName> missing;
  const TimeNs quiet = quiet_ns();
  const bool all = walk_done_ || now >= heard_ns_ + config_.stall_ns;
  const Mark passed = Passed(now);
  const bool walking = passed.block_class != 0;
  const bool class0_quiet = now >= std::max(first_ns_, class0_ns_) + quiet;

  // A block that has begun and is not quiet is on its way.
  const auto add = [&](uint8_t block_class, uint64_t number) {
    const BlockName name{block_class, number};
    const auto partial = assembler.Find(name);
    if (partial && partial->last_ns + quiet > now) return;
    missing.push_back(name);
  };

  for (uint8_t c = 0; c < DCAST_CLASSES && missing.size() < limit; ++c) {
    if (c != 0 && !all && c > passed.block_class) break;
    class0.received(c).Minus(held[c]).ForEachRun([&](uint64_t first, uint64_t count) {
      for (uint64_t number = first; number - first < count; ++number) {
        if (missing.size() >= limit) return false;
        if (!all && c == 0) {
          // PRESENCE leaves slice by slice, just ahead of the first class of memory.
          const bool presence = number >> DCAST_STREAM_SHIFT == DCAST_STREAM_PRESENCE;
          const uint64_t slice = number & ((uint64_t{1} << DCAST_STREAM_SHIFT) - 1);
          const bool due = presence ? walking && (passed.block_class > 1 ||
                                                  passed.number / DCAST_SLICE_WINDOWS >= slice)
                                    : walking || class0_quiet;
          if (!due) return presence ? false : true;
        } else if (!all && c == passed.block_class && number > passed.number) {
          return false;
        }
        add(c, number);
      }
      return true;
    });
  }
  // What other relays receive comes from them, once they can have all of it.
  if (all && class0.received_lanes() != class0.AllLanes())
    for (uint8_t c = 1; c < DCAST_CLASSES && missing.size() < limit; ++c)
      class0.numbers(c).Minus(held[c]).ForEachRun([&](uint64_t first, uint64_t count) {
        for (uint64_t number = first; number - first < count && missing.size() < limit; ++number)
          if (!class0.Received(c, number)) missing.push_back({c, number});
        return missing.size() < limit;
      });
  // Blocks that have begun though their slice of the presence is not here yet.
  if (missing.size() < limit && !class0.log_only()) {
    for (const BlockName& name : assembler.Quiet(now < quiet ? 0 : now - quiet, limit)) {
      if (missing.size() >= limit) break;
      if (!class0.numbers(name.block_class).Contains(name.number)) missing.push_back(name);
    }
  }
  return missing;
}

}  // namespace dumpcast
