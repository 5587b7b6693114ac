// SPDX-License-Identifier: Apache-2.0
// Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
#include "relay/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

// v1 has no word for "no limit": it is a number near 2^63.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

// Of the folder below `mount` and of those above it up to `mount`. In a container the path is that
// of the host, and only the mount itself is there.
void TakeLimits(const std::string& mount, std::string path, const char* file,
                std::optional<uint64_t>* least) {
  while (true) {
    std::string text;
    uint64_t bytes;
    std::ifstream(absl::StrCat(mount, path, "/", file)) >> text;
    if (absl::SimpleAtoi(text, &bytes) && bytes < kNoLimit)
      *least = least->has_value() ? std::min(**least, bytes) : bytes;
    if (path.empty()) return;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

std::optional<uint64_t> CgroupMemoryLimit(const std::string& root) {
  std::optional<uint64_t> least;
  std::ifstream own(root + "/proc/self/cgroup");
  // HIERARCHY:CONTROLLERS:PATH
  for (std::string line; std::getline(own, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos || second + 1 >= line.size() ||
        line[second + 1] != '/')
      continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty())
      TakeLimits(root + "/sys/fs/cgroup", path, "memory.max", &least);
    else if (absl::StrCat(",", controllers, ",").find(",memory,") != std::string::npos)
      TakeLimits(root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", &least);
  }
  return least;
}

}  // namespace dumpcast
