// SPDX-License-Identifier: Apache-2.0
#include "client/watch_view.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/dump_text.h"
#include "client/json.h"
#include "client/text.h"

namespace dumpcast {
namespace {

// A table that is redrawn must fit the screen; 24 lines are the smallest that people use.
constexpr size_t kRows = 20;

std::string BlocksText(const v1::Dump& dump) {
  const uint64_t known = std::max(dump.blocks_expected(), dump.blocks_announced());
  return absl::StrCat(dump.blocks_held(), " of ", known == 0 ? "?" : absl::StrCat(known));
}

std::string HostText(const v1::Dump& dump) {
  return dump.hostname().empty() ? ShortId(dump.host_id()) : dump.hostname();
}

}  // namespace

void WatchView::Show(const v1::WatchDumpsResponse& event) {
  const std::string& name = event.dump().name();
  if (event.deleted()) {
    dumps_.erase(name);
  } else {
    UpdateRate(event.dump());
    dumps_[name] = event.dump();
  }
  if (json_) {
    *env_->out << ToJson(event) << std::endl;
    return;
  }
  if (env_->out_is_tty) {
    Redraw();
    return;
  }
  const std::string state =
      event.deleted() ? "deleted" : absl::StrCat(StateText(event.dump()), event.dump().reason());
  if (shown_[name] == state) return;
  shown_[name] = state;
  *env_->out << absl::FormatTime("%H:%M:%S ", env_->now(), absl::UTCTimeZone())
             << (event.deleted() ? absl::StrCat(Printable(name), " deleted")
                                 : LineFor(event.dump()))
             << std::endl;
}

void WatchView::UpdateRate(const v1::Dump& dump) {
  const absl::Time now = env_->now();
  auto [it, is_new] = marks_.try_emplace(dump.name());
  Mark& mark = it->second;
  const double seconds = is_new ? 0 : absl::ToDoubleSeconds(now - mark.when);
  // Less than half a second, or another relay's smaller count, makes no rate.
  const bool usable = seconds >= 0.5 && dump.stored_bytes() >= mark.stored_bytes &&
                      dump.blocks_held() >= mark.blocks;
  if (!is_new && !usable && seconds < 0.5) return;
  mark.bytes_per_second =
      usable ? static_cast<double>(dump.stored_bytes() - mark.stored_bytes) / seconds : 0;
  mark.blocks_per_second =
      usable ? static_cast<double>(dump.blocks_held() - mark.blocks) / seconds : 0;
  mark.when = now;
  mark.stored_bytes = dump.stored_bytes();
  mark.blocks = dump.blocks_held();
}

std::string WatchView::RateText(const v1::Dump& dump) const {
  const auto it = marks_.find(dump.name());
  if (dump.state() != v1::DUMP_STATE_RECEIVING || it == marks_.end() ||
      it->second.bytes_per_second <= 0) {
    return "";
  }
  std::string text =
      absl::StrCat(HumanBytes(static_cast<uint64_t>(it->second.bytes_per_second)), "/s");
  const uint64_t known = std::max(dump.blocks_expected(), dump.blocks_announced());
  if (known > dump.blocks_held() && it->second.blocks_per_second > 0) {
    const double left =
        static_cast<double>(known - dump.blocks_held()) / it->second.blocks_per_second;
    absl::StrAppend(&text, ", ", HumanDuration(absl::Seconds(left)), " left");
  }
  return text;
}

std::string WatchView::LineFor(const v1::Dump& dump) const {
  std::string line = absl::StrCat(ShortId(dump.dump_id()), " ", HostText(dump), " ",
                                  StateText(dump), ", ", BlocksText(dump), " blocks");
  if (std::string rate = RateText(dump); !rate.empty()) absl::StrAppend(&line, ", ", rate);
  if (!dump.incomplete_reason().empty()) absl::StrAppend(&line, ", ", dump.incomplete_reason());
  if (const std::string reason = ReasonText(dump); !reason.empty()) {
    absl::StrAppend(&line, ": ", reason);
  }
  return Printable(line);
}

void WatchView::Redraw() {
  std::vector<const v1::Dump*> rows;
  for (const auto& [name, dump] : dumps_) rows.push_back(&dump);
  std::sort(rows.begin(), rows.end(), [](const v1::Dump* a, const v1::Dump* b) {
    const bool a_arrives = a->state() == v1::DUMP_STATE_RECEIVING;
    const bool b_arrives = b->state() == v1::DUMP_STATE_RECEIVING;
    if (a_arrives != b_arrives) return a_arrives;
    return WhenCrashed(*a) > WhenCrashed(*b);
  });
  const size_t hidden = rows.size() > kRows ? rows.size() - kRows : 0;
  rows.resize(rows.size() - hidden);
  Table table({"DUMP", "HOST", "STATE", "BLOCKS", "RATE", "WHEN", "REASON"});
  for (const v1::Dump* dump : rows) {
    table.Add({ShortId(dump->dump_id()), HostText(*dump), StateText(*dump), BlocksText(*dump),
               RateText(*dump), HumanAge(WhenCrashed(*dump), env_->now()), ReasonText(*dump)});
  }
  std::string text = table.Render(static_cast<size_t>(env_->columns()));
  if (hidden > 0) absl::StrAppend(&text, "and ", hidden, " older\n");
  // Up to the first line that was drawn before, then clear to the end of the screen.
  if (drawn_lines_ > 0) *env_->out << "\x1b[" << drawn_lines_ << "A\r\x1b[J";
  *env_->out << text << std::flush;
  drawn_lines_ = static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace dumpcast
