// SPDX-License-Identifier: Apache-2.0
// What the module says of itself (kmod/linux/status.c prints it, and explains the format).
#ifndef DUMPCAST_KMOD_ARM_STATUS_H_
#define DUMPCAST_KMOD_ARM_STATUS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

struct PathStatus {
  uint64_t index = 0;
  std::string name, device, card, source, destination;
  bool up = false;
  std::string resolved;  // "1/3": next hops whose address is known, of all
  uint64_t ring_packets = 0, sent_packets = 0, send_errors = 0;
  std::string error;  // empty: ready
};

struct RelayStatus {
  std::string id, name;
  uint64_t lane_mask = 0;
  uint64_t pace_kib_s = 0;                // 0: no limit
  std::map<uint64_t, uint64_t> heard_ms;  // path index -> age of the last answer
};

// How a test dump or a live dump ended.
struct LiveResult {
  bool ok = false;
  int64_t error = 0;  // negative errno
  uint64_t relays = 0, packets = 0, ms = 0;
};

// A test dump or live dump that is under way.
struct RunningStatus {
  bool test = false;
  std::string dump_id;
  uint64_t done_blocks = 0, total_blocks = 0;  // total 0: not known yet
  uint64_t packets = 0;                        // on the first path
  uint64_t relays = 0;                         // that have it all
  uint64_t ms = 0;
};

struct ArmStatus {
  bool armed = false;
  std::string dump_id;
  uint64_t held_bytes = 0, memory_bytes = 0, symbol_bytes = 0;
  uint64_t bad_mac = 0, bad_format = 0;  // packets that claimed to be answers
  std::vector<PathStatus> paths;
  std::vector<RelayStatus> relays;
  std::optional<RunningStatus> running;
  std::optional<LiveResult> test, live;  // the last of each since arming
};

// Parses the module's text. Words and lines that are not known are passed over, so that a
// newer module can say more. Errors: kInvalidArgument with the line.
[[nodiscard]] absl::StatusOr<ArmStatus> ParseStatus(absl::string_view text);

// How far it is: "40 %", or "1200 blocks" while the sum is not known.
std::string Share(const RunningStatus& running);
// For people: a line on the host, a table of paths, a table of relays.
std::string StatusTable(const ArmStatus& status);
// For programs: one JSON object, documented in README.md.
std::string StatusJson(const ArmStatus& status);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_STATUS_H_
