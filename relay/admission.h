// SPDX-License-Identifier: Apache-2.0
// Who is to send its memory, and when: the first dumps of each crash signature in full, further
// ones the log only, and not too many at a time. Each relay decides by what it knows itself;
// senders take the most generous answer, and no answer for yes.
#ifndef DUMPCAST_RELAY_ADMISSION_H_
#define DUMPCAST_RELAY_ADMISSION_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "protos/wire/dumpcast_wire.h"
#include "relay/packets.h"
#include "store/ids.h"

namespace dumpcast {

struct AdmissionConfig {
  // Full dumps of one signature within this time; further ones send the log only. 0: no limit.
  uint32_t full_dumps = 16;
  TimeNs window_ns = 3600 * kSecond;
  // Dumps sent in full at a time; 0: no limit. So many others may wait for their turn, for at most
  // wait_ns; beyond that the log only.
  uint32_t concurrent = 0;
  uint32_t waiting = 256;
  TimeNs wait_ns = 60 * kSecond;
};

// Thread safety: none, as the engine's.
class Admission {
 public:
  // Zeros when the sender has made none: such dumps are not limited by signature.
  using Signature = std::array<uint8_t, DCAST_SIGNATURE_BYTES>;

  explicit Admission(const AdmissionConfig& config) : config_(config) {}

  struct Verdict {
    dcast_verdict verdict = DCAST_ADMIT_FULL;
    TimeNs wait_ns = 0;  // WAIT: at most this long
    std::string why;     // for people; empty for FULL
  };
  // Of a dump that is being sent. Asked again it answers the same, but that a wait ends.
  Verdict Ask(TimeNs now, const DumpKey& dump, const Signature& signature);
  // Its sender has ended: another one's turn.
  void Leave(const DumpKey& dump);
  // A full dump that was received before the relay started.
  void Restore(TimeNs at, const Signature& signature);

 private:
  struct Asked {
    Signature signature{};
    dcast_verdict verdict = DCAST_ADMIT_FULL;
    TimeNs until_ns = 0;  // WAIT
    bool sending = false;
    std::string why;
  };
  bool LimitReached(TimeNs now, const Signature& signature, std::string* why);
  Verdict Admit(TimeNs now, Asked* asked);
  Verdict LogOnly(Asked* asked, std::string why);

  const AdmissionConfig config_;
  absl::flat_hash_map<DumpKey, Asked> asked_;
  absl::flat_hash_map<Signature, std::deque<TimeNs>> full_;  // when each was admitted
  std::deque<DumpKey> waiting_;                              // whose turn is next first
  uint32_t sending_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ADMISSION_H_
