// SPDX-License-Identifier: Apache-2.0
// MACs of many packets and digests of many blocks at once. SipHash is a chain of additions and
// rotations, which a processor does one after the other; those of several messages it does side
// by side, in vector registers where it has them (AVX2, AVX-512).
#ifndef DUMPCAST_PROTOS_KEYS_SIPHASH_H_
#define DUMPCAST_PROTOS_KEYS_SIPHASH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "protos/wire/auth.h"

namespace dumpcast {

// dcast_packet_mac() of each packet; all are `bytes` long, 8 or more.
// macs: as many as there are packets. Thread safety: pure.
void PacketMacs(const dcast_keys& keys, std::span<const char* const> packets, size_t bytes,
                uint64_t* macs);

struct Encoding {
  const dcast_keys* keys;
  unsigned block_class;
  uint64_t number;
  std::string_view bytes;
};

// dcast_block_digest() of each; those of like lengths are best together.
// digests: as many as there are encodings. Thread safety: pure.
void BlockDigests(std::span<const Encoding> encodings, uint64_t* digests);

}  // namespace dumpcast

#endif  // DUMPCAST_PROTOS_KEYS_SIPHASH_H_
