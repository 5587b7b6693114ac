// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/siphash.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace dumpcast {
namespace {

constexpr size_t kMostLanes = 8;

// One message a lane.
struct Message {
  dcast_sip state;
  const char* data;
};

#if defined(__x86_64__)

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

// Of two rows that are kStep apart: what is not on the diagonal changes places.
template <size_t kStep, typename V, size_t... kI>
[[gnu::always_inline]] inline void Swap(V& a, V& b, std::index_sequence<kI...>) {
  constexpr size_t kLanes = sizeof...(kI);
  const V low = __builtin_shufflevector(a, b, (kI & kStep ? kLanes + kI - kStep : kI)...);
  b = __builtin_shufflevector(a, b, (kI & kStep ? kLanes + kI : kI + kStep)...);
  a = low;
}

// One word of each lane becomes the words of one lane, and the other way round.
template <size_t kStep = 1, typename V, size_t kLanes>
[[gnu::always_inline]] inline void Transpose(V (&rows)[kLanes]) {
#pragma GCC unroll 8
  for (size_t i = 0; i < kLanes; ++i)
    if ((i & kStep) == 0) Swap<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kLanes>());
  if constexpr (2 * kStep < kLanes) Transpose<2 * kStep>(rows);
}

template <typename V>
[[gnu::always_inline]] inline void WordsOf(Message* messages, size_t words) {
  constexpr size_t kLanes = sizeof(V) / sizeof(uint64_t);
  V v0{}, v1{}, v2{}, v3{};
  const auto take = [&](const V& m) __attribute__((always_inline)) {
    v3 ^= m;
    Round(v0, v1, v2, v3);
    Round(v0, v1, v2, v3);
    v0 ^= m;
  };
  for (size_t i = 0; i < kLanes; ++i) {
    v0[i] = messages[i].state.v0;
    v1[i] = messages[i].state.v1;
    v2[i] = messages[i].state.v2;
    v3[i] = messages[i].state.v3;
  }
  size_t at = 0;
  for (; at + sizeof(V) <= 8 * words; at += sizeof(V)) {
    V rows[kLanes];
#pragma GCC unroll 8
    for (size_t i = 0; i < kLanes; ++i) std::memcpy(&rows[i], messages[i].data + at, sizeof(V));
    Transpose(rows);
#pragma GCC unroll 8
    for (const V& row : rows) take(row);
  }
  for (; at < 8 * words; at += 8) {
    V m{};
    for (size_t i = 0; i < kLanes; ++i) m[i] = dcast_load64(messages[i].data + at);
    take(m);
  }
  for (size_t i = 0; i < kLanes; ++i)
    messages[i] = {{v0[i], v1[i], v2[i], v3[i]}, messages[i].data + 8 * words};
}

[[gnu::target("avx2")]] void Words4(Message* messages, size_t words) {
  WordsOf<Lanes4>(messages, words);
}
[[gnu::target("avx512f")]] void Words8(Message* messages, size_t words) {
  WordsOf<Lanes8>(messages, words);
}

#endif

// The next words of each message, which all have them, into its state.
void Words(std::span<Message> messages, size_t words) {
#if defined(__x86_64__)
  while (messages.size() > 1 && __builtin_cpu_supports("avx2")) {
    // Lanes that nobody needs do the first message again: cheaper than one that is done alone.
    std::array<Message, kMostLanes> lanes;
    const size_t count = std::min(messages.size(), kMostLanes);
    std::copy_n(messages.begin(), count, lanes.begin());
    std::fill(lanes.begin() + static_cast<ptrdiff_t>(count), lanes.end(), messages[0]);
    if (count <= 4) {
      Words4(lanes.data(), words);
    } else if (__builtin_cpu_supports("avx512f")) {
      Words8(lanes.data(), words);
    } else {
      Words4(lanes.data(), words);
      Words4(lanes.data() + 4, words);
    }
    std::copy_n(lanes.begin(), count, messages.begin());
    messages = messages.subspan(count);
  }
#endif
  for (Message& message : messages) {
    for (size_t i = 0; i < words; ++i)
      dcast_sip_word(&message.state, dcast_load64(message.data + 8 * i));
    message.data += 8 * words;
  }
}

// What is left of a message of which `before` bytes are in its state, and its end.
uint64_t End(Message* message, size_t before, size_t left) {
  dcast_sip_data(&message->state, before, message->data, left);
  message->state.v2 ^= 0xff;
  return dcast_sip_end(&message->state);
}

void DigestSome(std::span<const Encoding> encodings, uint64_t* digests) {
  std::array<Message, kMostLanes> messages;
  size_t least = encodings[0].bytes.size();
  for (size_t i = 0; i < encodings.size(); ++i) {
    const Encoding& e = encodings[i];
    messages[i].data = e.bytes.data();
    dcast_sip_begin(&messages[i].state, &e.keys->digest);
    dcast_sip_word(&messages[i].state, e.number);
    dcast_sip_word(&messages[i].state, uint64_t{e.bytes.size()} << 32 | e.block_class);
    least = std::min(least, e.bytes.size());
  }
  const size_t words = least / 8;
  Words({messages.data(), encodings.size()}, words);
  for (size_t i = 0; i < encodings.size(); ++i) {
    digests[i] = End(&messages[i], 16 + 8 * words, encodings[i].bytes.size() - 8 * words);
    if (digests[i] == 0) digests[i] = 1;
  }
}

}  // namespace

void PacketMacs(const dcast_keys& keys, std::span<const char* const> packets, size_t bytes,
                uint64_t* macs) {
  const size_t len = bytes - 8, words = len / 8;
  while (!packets.empty()) {
    std::array<Message, kMostLanes> messages;
    const size_t count = std::min(packets.size(), messages.size());
    for (size_t i = 0; i < count; ++i) {
      messages[i].data = packets[i] + 8;
      dcast_sip_begin(&messages[i].state, &keys.mac);
    }
    Words({messages.data(), count}, words);
    for (size_t i = 0; i < count; ++i) *macs++ = End(&messages[i], 8 * words, len - 8 * words);
    packets = packets.subspan(count);
  }
}

void BlockDigests(std::span<const Encoding> encodings, uint64_t* digests) {
  while (!encodings.empty()) {
    const size_t count = std::min(encodings.size(), kMostLanes);
    DigestSome(encodings.first(count), digests);
    encodings = encodings.subspan(count);
    digests += count;
  }
}

}  // namespace dumpcast
