// SPDX-License-Identifier: Apache-2.0
// What memory this process may use.
#ifndef DUMPCAST_RELAY_CGROUP_H_
#define DUMPCAST_RELAY_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>

namespace dumpcast {

// The least memory limit of the process's cgroup and those above it, bytes: cgroup v2's memory.max,
// or v1's memory.limit_in_bytes. nullopt when there is none. `root`: where / is, for tests.
std::optional<uint64_t> CgroupMemoryLimit(const std::string& root = "");

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_CGROUP_H_
