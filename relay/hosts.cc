// SPDX-License-Identifier: Apache-2.0
#include "relay/hosts.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace dumpcast {
namespace {

constexpr TimeNs kRecordNs = 30 * kSecond;
constexpr size_t kFormerBoots = 8;
constexpr TimeNs kDefaultIntervalNs = 5 * kSecond;
constexpr uint64_t kSilentIntervals = 3;  // without a heartbeat: not heard

std::string TextOf(const char* text, size_t size) {
  return std::string(text, strnlen(text, size));
}

TimeNs IntervalOf(const Hosts::Host& host) {
  return host.interval_ns != 0 ? host.interval_ns : kDefaultIntervalNs;
}

}  // namespace

Hosts::Host& Hosts::Touch(TimeNs now, const Verified& packet) {
  const Id16 id = packet.dump().host_id;
  auto it = hosts_.find(id);
  if (it == hosts_.end()) {
    if (hosts_.size() >= kMaxHosts)
      hosts_.erase(std::min_element(hosts_.begin(), hosts_.end(), [](const auto& a, const auto& b) {
        return a.second->heard_ns < b.second->heard_ns;
      }));
    it = hosts_.emplace(id, std::make_unique<Host>()).first;
  }
  Host& host = *it->second;
  host.heard_ns = now;
  host.path_heard_ns[packet.hdr.path] = now;
  return host;
}

Hosts::Announced Hosts::NoteAnnounce(TimeNs now, Host& host, const dcast_announce& announce,
                                     bool* record) {
  Id16 boot_id;
  std::memcpy(boot_id.data(), announce.boot_id, boot_id.size());
  const bool goodbye = announce.state == DCAST_ST_GOODBYE;
  const bool known = host.announced || host.boot_id != Id16{};
  const bool rebooted = known && boot_id != host.boot_id;
  const bool older = known && dcast_le64(announce.unix_ns) < host.announce_unix_ns;
  // A clock that was set back, or lost with the battery, is believed of a boot never heard of when
  // nobody else speaks for the host.
  const auto former_boot = std::find(host.former_boots.begin(), host.former_boots.end(), boot_id);
  const bool former = former_boot != host.former_boots.end();
  const bool silent = now >= host.announced_ns + kSilentIntervals * IntervalOf(host);
  if (older && (goodbye || (rebooted && (former || !silent)))) return Announced::kReplay;
  if (rebooted) {
    if (former) host.former_boots.erase(former_boot);
    host.former_boots.push_back(host.boot_id);
    if (host.former_boots.size() > kFormerBoots) host.former_boots.pop_front();
  }
  Announced what = Announced::kSame;
  if (goodbye) {
    if (!host.disarmed) what = Announced::kGoodbye;
  } else if (rebooted) {
    what = Announced::kRebooted;
  } else if (!host.announced || host.disarmed) {
    what = Announced::kArmed;
  }
  const std::string hostname = TextOf(announce.hostname, sizeof(announce.hostname));
  const std::string release = TextOf(announce.release, sizeof(announce.release));
  *record = what != Announced::kSame || hostname != host.hostname ||
            release != host.kernel_release || announce.paths != host.paths ||
            now >= host.recorded_ns + kRecordNs;
  if (*record) host.recorded_ns = now;
  host.announced = true;
  host.announced_ns = now;
  host.announce_unix_ns = dcast_le64(announce.unix_ns);
  host.disarmed = goodbye;
  host.boot_id = boot_id;
  host.hostname = hostname;
  host.kernel_release = release;
  host.memory_bytes = dcast_le64(announce.memory_bytes);
  host.paths = announce.paths;
  if (announce.interval_ms != 0) host.interval_ns = dcast_le32(announce.interval_ms) * kMillisecond;
  return what;
}

void Hosts::Restore(const RestoredHost& restored) {
  if (hosts_.size() >= kMaxHosts) return;
  auto host = std::make_unique<Host>();
  host->boot_id = restored.boot_id;
  host->former_boots.assign(restored.former_boots.begin(), restored.former_boots.end());
  host->announce_unix_ns = restored.announce_unix_ns;
  hosts_.insert_or_assign(restored.host_id, std::move(host));
}

uint32_t Hosts::PathsHeard(TimeNs now, const Id16& host_id) const {
  const Host* host = Find(host_id);
  if (host == nullptr) return 0;
  uint32_t heard = 0;
  for (const TimeNs at : host->path_heard_ns)
    heard += at != 0 && now < at + kSilentIntervals * IntervalOf(*host);
  return heard;
}

const Hosts::Host* Hosts::Find(const Id16& host_id) const {
  const auto it = hosts_.find(host_id);
  return it == hosts_.end() ? nullptr : it->second.get();
}

}  // namespace dumpcast
