// SPDX-License-Identifier: Apache-2.0
#include "relay/arbitrate.h"

#include <algorithm>

namespace dumpcast {

SeqVerdict SeqWindow::Note(uint64_t seq) {
  if (!any_) {
    any_ = true;
    first_ = highest_ = seq;
    came_ = 1;
    seen_.set(seq % kBits);
    return SeqVerdict::kNew;
  }
  if (seq > highest_) {
    if (seq - highest_ >= kBits) {
      seen_.reset();
    } else {
      for (uint64_t s = highest_ + 1; s < seq; ++s) seen_.reset(s % kBits);
    }
    highest_ = seq;
  } else if (highest_ - seq >= kBits) {
    return SeqVerdict::kOld;
  } else if (seen_.test(seq % kBits)) {
    return SeqVerdict::kSeen;
  }
  seen_.set(seq % kBits);
  first_ = std::min(first_, seq);
  ++came_;
  return SeqVerdict::kNew;
}

SeqVerdict SeqTable::Note(TimeNs now, uint64_t origin, uint8_t path, uint8_t lane, uint64_t seq) {
  const Key key{origin, path, lane};
  auto it = windows_.find(key);
  if (it == windows_.end()) {
    if (windows_.size() >= kMaxWindows)
      windows_.erase(std::min_element(
          windows_.begin(), windows_.end(),
          [](const auto& a, const auto& b) { return a.second.heard_ns < b.second.heard_ns; }));
    it = windows_.try_emplace(key).first;
  }
  it->second.heard_ns = now;
  SeqWindow& window = it->second.window;
  const uint64_t before = window.lost();
  const SeqVerdict verdict = window.Note(seq);
  lost_ += window.lost() - before;
  return verdict;
}

bool SeqTable::Rising(uint64_t origin, uint8_t path, uint8_t lane, uint64_t seq) {
  const auto it = windows_.find(Key{origin, path, lane});
  if (it == windows_.end() || seq <= it->second.state_seq) return false;
  it->second.state_seq = seq;
  return true;
}

uint64_t SeqTable::Lost(uint64_t origin, uint8_t path) const {
  uint64_t lost = 0;
  for (const auto& [key, entry] : windows_)
    if (key.origin == origin && key.path == path) lost += entry.window.lost();
  return lost;
}

}  // namespace dumpcast
