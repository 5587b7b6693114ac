// SPDX-License-Identifier: Apache-2.0
#include "client/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr absl::Duration kDrawEvery = absl::Milliseconds(100);
constexpr absl::Duration kLineEvery = absl::Seconds(5);
constexpr absl::Duration kRateOver = absl::Seconds(5);
constexpr absl::string_view kClearLine = "\r\x1b[K";
constexpr int kWidestBar = 40;

}  // namespace

Progress::Progress(const Environment* env, bool quiet) : env_(env), quiet_(quiet) {}

void Progress::Update(uint64_t done, uint64_t total) {
  const absl::Time now = env_->now();
  if (done < done_) samples_.clear();
  done_ = done;
  total_ = total;
  const absl::Duration every = env_->err_is_tty ? kDrawEvery : kLineEvery;
  if (samples_.empty()) {
    samples_.push_back({now, done});
    // Plain lines begin after the first interval: a small dump needs none.
    if (!env_->err_is_tty && last_draw_ == absl::InfinitePast()) last_draw_ = now;
  }
  if (now - last_draw_ < every) return;
  last_draw_ = now;
  samples_.push_back({now, done});
  while (samples_.size() > 2 && now - samples_[1].when >= kRateOver) samples_.pop_front();
  Draw();
}

double Progress::BytesPerSecond() const {
  if (samples_.size() < 2) return 0;
  const double seconds = absl::ToDoubleSeconds(samples_.back().when - samples_.front().when);
  if (seconds <= 0) return 0;
  return static_cast<double>(samples_.back().done - samples_.front().done) / seconds;
}

std::string Progress::Line() const {
  const double fraction =
      total_ == 0 ? 0 : static_cast<double>(done_) / static_cast<double>(total_);
  const double rate = BytesPerSecond();
  std::string text =
      absl::StrFormat("%5.1f%%  %s of %s", fraction * 100, HumanBytes(done_), HumanBytes(total_));
  if (rate > 0) {
    absl::StrAppend(&text, "  ", HumanBytes(static_cast<uint64_t>(rate)), "/s");
    if (done_ < total_) {
      const double left = static_cast<double>(total_ - done_) / rate;
      absl::StrAppend(&text, "  ", HumanDuration(absl::Seconds(left)), " left");
    }
  }
  if (!env_->err_is_tty) return text;
  const int room = env_->columns() - static_cast<int>(text.size()) - 5;
  const int width = std::min(room, kWidestBar);
  if (width < 10) return Truncate(text, static_cast<size_t>(std::max(1, env_->columns() - 1)));
  const int filled = static_cast<int>(fraction * width);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(width - filled), '.'), "] ", text);
}

void Progress::Draw() {
  if (quiet_) return;
  if (env_->err_is_tty) {
    *env_->err << kClearLine << Line() << std::flush;
    drawn_ = true;
  } else {
    *env_->err << Line() << std::endl;
  }
}

void Progress::Note(absl::string_view text) {
  if (drawn_) *env_->err << kClearLine;
  drawn_ = false;
  *env_->err << "dumpcast: " << text << std::endl;
}

void Progress::Finish() {
  if (!drawn_) return;
  samples_.push_back({env_->now(), done_});
  Draw();
  *env_->err << std::endl;
  drawn_ = false;
}

}  // namespace dumpcast
