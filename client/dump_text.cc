// SPDX-License-Identifier: Apache-2.0
#include "client/dump_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr uint64_t kWindowBytes = 64 << 10;  // protos/wire/WIRE.md: memory that a block covers

uint64_t KnownBlocks(const v1::Dump& dump) {
  return std::max(dump.blocks_expected(), dump.blocks_announced());
}

std::string Percent(const v1::Dump& dump) {
  auto fraction = HeldFraction(dump);
  if (!fraction) return "";
  // Never 100 while something is missing.
  return absl::StrCat(" ", std::min(static_cast<int>(*fraction * 100), 99), "%");
}

}  // namespace

std::string ShortId(absl::string_view dump_id) {
  return std::string(dump_id.substr(0, kShortIdDigits));
}

absl::Time ToTime(bool is_set, const google::protobuf::Timestamp& time) {
  if (!is_set) return absl::InfinitePast();
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Time WhenCrashed(const v1::Dump& dump) {
  if (dump.has_crash_time()) return ToTime(true, dump.crash_time());
  return ToTime(dump.has_receive_time(), dump.receive_time());
}

std::optional<double> HeldFraction(const v1::Dump& dump) {
  if (KnownBlocks(dump) == 0) return std::nullopt;
  return std::min(1.0,
                  static_cast<double>(dump.blocks_held()) / static_cast<double>(KnownBlocks(dump)));
}

std::string StateText(const v1::Dump& dump) {
  switch (dump.state()) {
    case v1::DUMP_STATE_RECEIVING:
      return absl::StrCat("receiving", Percent(dump));
    case v1::DUMP_STATE_COMPLETE:
      return "complete";
    case v1::DUMP_STATE_INCOMPLETE:
      return absl::StrCat("incomplete", Percent(dump));
    default:
      return "unknown";
  }
}

std::string HostStateText(v1::HostState state) {
  switch (state) {
    case v1::HOST_STATE_ARMED:
      return "armed";
    case v1::HOST_STATE_DISARMED:
      return "disarmed";
    case v1::HOST_STATE_LOST:
      return "lost";
    case v1::HOST_STATE_DUMPING:
      return "dumping";
    default:
      return "unknown";
  }
}

std::string KindText(bool live, bool test) {
  if (test) return "test";
  return std::string(live ? "live" : kPanicKind);
}

std::string ReasonText(const v1::Dump& dump) {
  const std::string kind = KindText(dump.live(), dump.test());
  std::vector<absl::string_view> marks;
  if (kind != kPanicKind) marks.push_back(kind);
  if (dump.encrypted()) marks.push_back("encrypted");
  if (marks.empty()) return dump.reason();
  return absl::StrCat("(", absl::StrJoin(marks, ", "), ")", dump.reason().empty() ? "" : " ",
                      dump.reason());
}

std::string MissingText(const v1::Dump& dump) {
  if (dump.state() == v1::DUMP_STATE_COMPLETE) return "";
  std::string text =
      dump.state() == v1::DUMP_STATE_RECEIVING ? "still being received" : "sealed incomplete";
  if (!dump.incomplete_reason().empty()) {
    absl::StrAppend(&text, " (", Printable(dump.incomplete_reason()), ")");
  }
  const uint64_t known = KnownBlocks(dump);
  if (known > dump.blocks_held()) {
    const uint64_t missing = known - dump.blocks_held();
    absl::StrAppend(&text, ": ", missing, " of ", known, " blocks are missing, up to ",
                    HumanBytes(missing * kWindowBytes), " of memory");
  } else if (known == 0) {
    absl::StrAppend(&text, ": ", dump.blocks_held(),
                    " blocks are held, how many there are is not known");
  }
  return text;
}

uint64_t FileBytes(const v1::Dump& dump, v1::DumpFormat format) {
  return format == v1::DUMP_FORMAT_KDUMP ? dump.kdump_bytes() : dump.elf_bytes();
}

}  // namespace dumpcast
