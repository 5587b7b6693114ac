// SPDX-License-Identifier: Apache-2.0
#include "client/crash_groups.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "client/dump_text.h"

namespace dumpcast {

std::vector<CrashGroup> GroupBySignature(const std::vector<v1::Dump>& dumps) {
  std::map<std::string, std::pair<CrashGroup, std::set<std::string>>> by_signature;
  for (const v1::Dump& dump : dumps) {
    auto& [group, hosts] = by_signature[dump.signature()];
    const absl::Time when = WhenCrashed(dump);
    if (group.dumps == 0) group.first = group.last = when;
    if (group.newest == nullptr || when > group.last) group.newest = &dump;
    group.first = std::min(group.first, when);
    group.last = std::max(group.last, when);
    ++group.dumps;
    group.complete += dump.state() == v1::DUMP_STATE_COMPLETE ? 1 : 0;
    hosts.insert(dump.host_id());
  }
  std::vector<CrashGroup> groups;
  for (auto& [signature, found] : by_signature) {
    found.first.signature = signature;
    found.first.hosts = found.second.size();
    groups.push_back(std::move(found.first));
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const CrashGroup& a, const CrashGroup& b) { return a.last > b.last; });
  return groups;
}

std::string GroupsAsJson(const std::vector<CrashGroup>& groups) {
  const auto text = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
  };
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const CrashGroup& group : groups) {
    array.push_back({{"signature", group.signature},
                     {"dumps", group.dumps},
                     {"complete", group.complete},
                     {"hosts", group.hosts},
                     {"first_crash_time", text(group.first)},
                     {"last_crash_time", text(group.last)},
                     {"newest_dump", group.newest->dump_id()},
                     {"reason", group.newest->reason()}});
  }
  return array.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace dumpcast
