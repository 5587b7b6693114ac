// SPDX-License-Identifier: Apache-2.0
// What people want to know of a dump, in words.
#ifndef DUMPCAST_CLIENT_DUMP_TEXT_H_
#define DUMPCAST_CLIENT_DUMP_TEXT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dumpcast/v1/dumps.pb.h"
#include "dumpcast/v1/hosts.pb.h"

namespace dumpcast {

// Hex digits of a dump id that lists show. Enough to be unique in any fleet that a person reads.
inline constexpr size_t kShortIdDigits = 12;

std::string ShortId(absl::string_view dump_id);

// Proto time as absl's; InfinitePast() when unset.
absl::Time ToTime(bool is_set, const google::protobuf::Timestamp& time);

// Crash time, or when the first packet came while that is unknown.
absl::Time WhenCrashed(const v1::Dump& dump);

// Held blocks of those that are known or announced, 0..1; nullopt while no count is known.
std::optional<double> HeldFraction(const v1::Dump& dump);

// "complete", "receiving 43%", "incomplete 97%".
std::string StateText(const v1::Dump& dump);
std::string HostStateText(v1::HostState state);

// kPanicKind, "live", or "test" whether it is live as well or not.
inline constexpr absl::string_view kPanicKind = "panic";
std::string KindText(bool live, bool test);

// The reason, which an encrypted dump keeps to itself, marked "(live)" or "(test)" unless the host
// panicked, and "(encrypted)".
std::string ReasonText(const v1::Dump& dump);

// What a reader of this dump would miss; empty when it is complete.
std::string MissingText(const v1::Dump& dump);

// Bytes of the file in this format; 0 while unknown.
uint64_t FileBytes(const v1::Dump& dump, v1::DumpFormat format);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_DUMP_TEXT_H_
