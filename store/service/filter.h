// SPDX-License-Identifier: Apache-2.0
// The filter of ListDumps and WatchDumps (dumps.proto): `field=value AND field!=value ...`.
#ifndef DUMPCAST_STORE_SERVICE_FILTER_H_
#define DUMPCAST_STORE_SERVICE_FILTER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "dumpcast/v1/dumps.pb.h"

namespace dumpcast {

// Thread safety: immutable.
class DumpFilter {
 public:
  // An empty text matches every dump.
  // INVALID_ARGUMENT with the position, what was wanted there and what came.
  static absl::StatusOr<DumpFilter> Parse(std::string_view text);

  // Uses state, hostname, host_id, kernel_release, live, test, crash_time of the dump; a dump
  // without crash_time matches no condition on it.
  bool Matches(const v1::Dump& dump) const;

 private:
  enum class Field { kState, kHostname, kHostId, kRelease, kSignature, kLive, kTest, kCrashTime };
  enum class Op { kEqual, kNotEqual, kLess, kGreater };
  struct Condition {
    Field field = Field::kState;
    Op op = Op::kEqual;
    std::string text;     // of strings, without the `*`
    bool prefix = false;  // the text ended in `*`
    int64_t number = 0;   // state, bool as 0 or 1, unix nanoseconds
  };
  static absl::Status Compile(std::string_view field, std::string_view op, std::string value,
                              size_t field_at, size_t at, Condition* condition);

  std::vector<Condition> conditions_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_FILTER_H_
