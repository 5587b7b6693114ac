// SPDX-License-Identifier: Apache-2.0
#include "relay/admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxAsked = 65536;
constexpr size_t kMaxSignatures = 16384;

}  // namespace

bool Admission::LimitReached(TimeNs now, const Signature& signature, std::string* why) {
  if (config_.full_dumps == 0 || signature == Signature{}) return false;
  const auto it = full_.find(signature);
  if (it == full_.end()) return false;
  std::deque<TimeNs>& times = it->second;
  while (!times.empty() && times.front() + config_.window_ns <= now) times.pop_front();
  if (times.size() < config_.full_dumps) return false;
  *why = absl::StrCat(times.size(), " dumps of this signature came in full within ",
                      absl::FormatDuration(absl::Nanoseconds(config_.window_ns)));
  return true;
}

Admission::Verdict Admission::Admit(TimeNs now, Asked* asked) {
  asked->verdict = DCAST_ADMIT_FULL;
  asked->why.clear();
  asked->sending = true;
  ++sending_;
  Restore(now, asked->signature);
  return {};
}

Admission::Verdict Admission::LogOnly(Asked* asked, std::string why) {
  asked->verdict = DCAST_ADMIT_LOG_ONLY;
  asked->why = std::move(why);
  return {DCAST_ADMIT_LOG_ONLY, 0, asked->why};
}

Admission::Verdict Admission::Ask(TimeNs now, const DumpKey& dump, const Signature& signature) {
  const bool room = config_.concurrent == 0 || sending_ < config_.concurrent;
  std::string why;
  if (const auto it = asked_.find(dump); it != asked_.end()) {
    Asked& asked = it->second;
    if (asked.verdict != DCAST_ADMIT_WAIT) return {asked.verdict, 0, asked.why};
    const bool turn = room && waiting_.front() == dump;
    if (!turn && now < asked.until_ns) return {DCAST_ADMIT_WAIT, asked.until_ns - now, asked.why};
    std::erase(waiting_, dump);
    // Of one signature there may have come enough meanwhile.
    if (LimitReached(now, signature, &why)) return LogOnly(&asked, std::move(why));
    return Admit(now, &asked);
  }
  if (asked_.size() >= kMaxAsked)
    absl::erase_if(asked_, [](const auto& asked) {
      return asked.second.verdict != DCAST_ADMIT_WAIT && !asked.second.sending;
    });
  Asked& asked = asked_[dump];
  asked.signature = signature;
  if (LimitReached(now, signature, &why)) return LogOnly(&asked, std::move(why));
  if (room && waiting_.empty()) return Admit(now, &asked);
  why = absl::StrCat(sending_, " dumps are being sent, ", waiting_.size(), " wait");
  if (waiting_.size() >= config_.waiting) return LogOnly(&asked, std::move(why));
  asked.verdict = DCAST_ADMIT_WAIT;
  asked.until_ns = now + config_.wait_ns;
  asked.why = std::move(why);
  waiting_.push_back(dump);
  return {DCAST_ADMIT_WAIT, config_.wait_ns, asked.why};
}

void Admission::Leave(const DumpKey& dump) {
  const auto it = asked_.find(dump);
  if (it == asked_.end()) return;
  if (std::exchange(it->second.sending, false)) --sending_;
  if (it->second.verdict == DCAST_ADMIT_WAIT) {
    std::erase(waiting_, dump);
    asked_.erase(it);  // should it come back, it asks anew
  }
}

void Admission::Restore(TimeNs at, const Signature& signature) {
  if (config_.full_dumps == 0 || signature == Signature{}) return;
  if (full_.size() >= kMaxSignatures)
    absl::erase_if(full_, [&](const auto& full) {
      return full.second.empty() || full.second.back() + config_.window_ns <= at;
    });
  std::deque<TimeNs>& times = full_[signature];
  times.insert(std::upper_bound(times.begin(), times.end(), at), at);
}

}  // namespace dumpcast
