// SPDX-License-Identifier: Apache-2.0
#include "relay/macs.h"

namespace dumpcast {
namespace {

#if defined(__x86_64__)

// As many 64-bit lanes as a register has.
using Lanes4 = uint64_t __attribute__((vector_size(32)));
using Lanes8 = uint64_t __attribute__((vector_size(64)));

// Inlined into functions that may use the instructions that V needs, and nowhere else.
template <typename V>
[[gnu::always_inline]] inline void Round(V& v0, V& v1, V& v2, V& v3) {
  v0 += v1;
  v2 += v3;
  v1 = (v1 << 13 | v1 >> 51) ^ v0;
  v3 = (v3 << 16 | v3 >> 48) ^ v2;
  v0 = v0 << 32 | v0 >> 32;
  v2 += v1;
  v0 += v3;
  v1 = (v1 << 17 | v1 >> 47) ^ v2;
  v3 = (v3 << 21 | v3 >> 43) ^ v0;
  v2 = v2 << 32 | v2 >> 32;
}

// dcast_packet_mac() of one packet a lane.
template <typename V>
[[gnu::always_inline]] inline void Macs(const dcast_siphash_key& key, const char* const* packets,
                                        size_t bytes, uint64_t* macs) {
  constexpr size_t kLanes = sizeof(V) / sizeof(uint64_t);
  const size_t len = bytes - 8;
  dcast_sip begin;
  dcast_sip_begin(&begin, &key);
  V v0 = V{} + begin.v0, v1 = V{} + begin.v1, v2 = V{} + begin.v2, v3 = V{} + begin.v3;
  const auto word = [&](const V& m) __attribute__((always_inline)) {
    v3 ^= m;
    Round(v0, v1, v2, v3);
    Round(v0, v1, v2, v3);
    v0 ^= m;
  };
  V m;
  size_t at = 8;
  for (; at + 8 <= bytes; at += 8) {
    for (size_t lane = 0; lane < kLanes; ++lane) m[lane] = dcast_load64(packets[lane] + at);
    word(m);
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint64_t last = uint64_t{len} << 56;
    for (size_t i = 0; at + i < bytes; ++i)
      last |= uint64_t{static_cast<unsigned char>(packets[lane][at + i])} << (8 * i);
    m[lane] = last;
  }
  word(m);
  v2 ^= V{} + uint64_t{0xff};
  for (int i = 0; i < 4; ++i) Round(v0, v1, v2, v3);
  const V mac = v0 ^ v1 ^ v2 ^ v3;
  for (size_t lane = 0; lane < kLanes; ++lane) macs[lane] = mac[lane];
}

[[gnu::target("avx2")]] void Macs4(const dcast_siphash_key& key, const char* const* packets,
                                   size_t bytes, uint64_t* macs) {
  Macs<Lanes4>(key, packets, bytes, macs);
}

[[gnu::target("avx512f")]] void Macs8(const dcast_siphash_key& key, const char* const* packets,
                                      size_t bytes, uint64_t* macs) {
  Macs<Lanes8>(key, packets, bytes, macs);
}

// How many packets of the first `count` were done.
size_t Together(const dcast_siphash_key& key, const char* const* packets, size_t count,
                size_t bytes, uint64_t* macs) {
  if (count >= 8 && __builtin_cpu_supports("avx512f")) {
    Macs8(key, packets, bytes, macs);
    return 8;
  }
  if (count >= 4 && __builtin_cpu_supports("avx2")) {
    Macs4(key, packets, bytes, macs);
    return 4;
  }
  return 0;
}

#else

size_t Together(const dcast_siphash_key&, const char* const*, size_t, size_t, uint64_t*) {
  return 0;
}

#endif

}  // namespace

void PacketMacs(const dcast_keys& keys, std::span<const char* const> packets, size_t bytes,
                uint64_t* macs) {
  for (size_t i = 0; i < packets.size();) {
    const size_t done =
        Together(keys.mac, packets.data() + i, packets.size() - i, bytes, macs + i);
    if (done == 0) macs[i] = dcast_packet_mac(&keys, packets[i], bytes);
    i += done == 0 ? 1 : done;
  }
}

}  // namespace dumpcast
