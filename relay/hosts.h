// SPDX-License-Identifier: Apache-2.0
// Hosts that are armed: what their heartbeats say, on which paths, and their packets' sequence.
#ifndef DUMPCAST_RELAY_HOSTS_H_
#define DUMPCAST_RELAY_HOSTS_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "relay/arbitrate.h"
#include "relay/packets.h"
#include "relay/verify.h"

namespace dumpcast {

// What the store has of a host when the relay starts.
struct RestoredHost {
  Id16 host_id{};
  Id16 boot_id{};
  std::vector<Id16> former_boots;  // oldest first
  uint64_t announce_unix_ns = 0;
};

class Hosts {
 public:
  static constexpr size_t kMaxHosts = 16384;

  struct Host {
    SeqTable seqs;
    TimeNs heard_ns = 0;
    std::array<TimeNs, DCAST_MAX_PATHS> path_heard_ns{};
    TimeNs interval_ns = 0;  // between heartbeats, 0 before the first
    bool announced = false;
    bool disarmed = false;
    Id16 boot_id{};
    std::deque<Id16> former_boots;
    TimeNs announced_ns = 0;        // newest ANNOUNCE taken
    uint64_t announce_unix_ns = 0;  // the host's clock in it
    std::string hostname, kernel_release;
    uint64_t memory_bytes = 0;
    uint32_t paths = 0;
    TimeNs recorded_ns = 0;  // last written to the store
  };

  // The host of a valid packet; its paths are noted as heard. Forgets the one that was unheard for
  // longest when there are too many.
  Host& Touch(TimeNs now, const Verified& packet);

  enum class Announced {
    kReplay,  // older than what is known
    kSame,    // a heartbeat like the last
    kArmed,   // first heard, or armed again
    kRebooted,
    kGoodbye,
  };
  // Takes note of an ANNOUNCE. Replays are told by the host's own clock, since a relay that has
  // just started knows no sequence numbers: of two boots the later clock is the present one. Boots
  // and clock outlive the relay in the host's record.
  // `record` is set when the host's record is to be written.
  Announced NoteAnnounce(TimeNs now, Host& host, const dcast_announce& announce, bool* record);

  // Before the first packet. The host is not armed by that: only an ANNOUNCE does it.
  void Restore(const RestoredHost& restored);

  // Paths heard within three intervals; 0 for an unknown host.
  uint32_t PathsHeard(TimeNs now, const Id16& host_id) const;
  const Host* Find(const Id16& host_id) const;

 private:
  absl::flat_hash_map<Id16, std::unique_ptr<Host>> hosts_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_HOSTS_H_
