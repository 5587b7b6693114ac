// SPDX-License-Identifier: Apache-2.0
// Builds what a relay sends: header, payload, MAC.
#ifndef DUMPCAST_RELAY_REPLY_H_
#define DUMPCAST_RELAY_REPLY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protos/wire/auth.h"
#include "relay/packets.h"

namespace dumpcast {

// Who a reply is for: the host's ids, keys and key epoch.
struct ReplyTo {
  DumpKey dump;
  uint16_t key_epoch = 0;
  const dcast_keys* keys = nullptr;
};

// One packet, without an address. `seq` rises over all packets of this relay.
std::string MakePacket(uint8_t type, const ReplyTo& to, uint64_t relay_id, uint64_t seq,
                       uint8_t path, std::string_view payload);

std::string HelloPayload(uint64_t announce_seq, uint64_t lane_mask, uint32_t pace_kib_s,
                         std::string_view name);
std::string NakPayload(const std::vector<dcast_nak_entry>& entries);
std::string PacePayload(uint32_t kib_s, uint32_t lacking);
std::string AdmitPayload(dcast_verdict verdict, TimeNs wait_ns);
std::string CommitPayload(uint64_t lane_mask, uint64_t blocks);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_REPLY_H_
