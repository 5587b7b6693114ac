// SPDX-License-Identifier: Apache-2.0
// Dumps grouped by the signature of their crash: one bad roll-out is one line.
#ifndef DUMPCAST_CLIENT_CRASH_GROUPS_H_
#define DUMPCAST_CLIENT_CRASH_GROUPS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "dumpcast/v1/dumps.pb.h"

namespace dumpcast {

struct CrashGroup {
  std::string signature;  // 32 hex digits; empty: dumps whose sender made none
  size_t dumps = 0;
  size_t complete = 0;  // of these
  size_t hosts = 0;
  absl::Time first, last;  // when they crashed
  const v1::Dump* newest = nullptr;
};

// The group of the newest crash first. Points into `dumps`.
std::vector<CrashGroup> GroupBySignature(const std::vector<v1::Dump>& dumps);
// A JSON array, one object a group; times in RFC 3339.
std::string GroupsAsJson(const std::vector<CrashGroup>& groups);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_CRASH_GROUPS_H_
