// SPDX-License-Identifier: Apache-2.0
// MACs of many packets at once. SipHash is a chain of additions and rotations, of which a processor
// does one after the other; of several packets it does them side by side in vector registers.
#ifndef DUMPCAST_RELAY_MACS_H_
#define DUMPCAST_RELAY_MACS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "protos/wire/auth.h"

namespace dumpcast {

// dcast_packet_mac() of each packet; all are `bytes` long, 8 or more.
// macs: as many as there are packets. Thread safety: pure.
void PacketMacs(const dcast_keys& keys, std::span<const char* const> packets, size_t bytes,
                uint64_t* macs);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_MACS_H_
