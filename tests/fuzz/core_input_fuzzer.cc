// SPDX-License-Identifier: Apache-2.0
// What a relay, honest or not, can do to a sender: the input is a script of packets, which
// are given a right MAC half of the time, and of steps of the clock.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "kmod/core/dcast_sender.h"

namespace {

constexpr uint32_t kPages = 512;

struct World {
  alignas(8) uint8_t packet[sizeof(dcast_hdr) + DCAST_MIN_SYMBOL_BYTES];
  uint64_t sent = 0;
};

const dcast_rim kRim = {
    nullptr,
    [](void*, __u64 window, __u8* cls) {
      for (unsigned i = 0; i < 16; ++i) {
        cls[i] = static_cast<__u8>(window * 16 + i < kPages ? (window + i / 5) % 4 : 0);
      }
    },
    [](void*, __u64 window) -> __u64 { return window * 16 < kPages ? window : ~0ull; },
    [](void*, __u64 pfn, void* dst) {
      if (pfn >= kPages) __builtin_trap();
      std::memset(dst, static_cast<int>(pfn % 7), 4096);
      return pfn % 31 == 0 ? -14 : 0;
    },
    [](void*, unsigned stream, __u64 offset, void* dst, __u32 len) {
      if (stream == DCAST_STREAM_PRESENCE || stream == DCAST_STREAM_WHOLE_META ||
          offset + len > 100'000)
        __builtin_trap();
      std::memset(dst, 'l', len);
      return 0;
    },
    [](void*, unsigned encoder, dcast_codec, const void* src, __u32 len, void* dst,
       __u32 cap) -> __u32 {
      if (encoder > 2) __builtin_trap();
      std::memcpy(dst, src, std::min(len / 2, cap));
      return len / 2;
    },
    [](void*, void* data, __u32 len, const dcast_encrypt_ad*, const __u8*) {
      std::memset(static_cast<uint8_t*>(data) + len, 't', DCAST_TAG_BYTES);
    },
    [](void* ctx, unsigned) -> void* { return static_cast<World*>(ctx)->packet; },
    [](void* ctx, unsigned path, void* buf, __u32 len, unsigned lane) {
      auto* world = static_cast<World*>(ctx);
      if (buf != world->packet || len > sizeof(world->packet) || path >= 2 || lane >= 3) {
        __builtin_trap();
      }
      ++world->sent;
    },
    [](void*, unsigned path) { return path == 0 ? 1 : 0; },
    nullptr,
    nullptr,
    0,
    nullptr,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  static dcast_sender sender;
  dcast_config config = {};
  config.origin = 1;
  static dcast_secrets secrets;
  secrets.wire = {{1, 2}, {3, 4}};
  secrets.encrypted = size % 2;
  config.secrets = &secrets;
  config.symbol_size = DCAST_MIN_SYMBOL_BYTES;
  config.paths = 2;
  config.lanes = 3;
  config.page_shift = 12;
  config.slots = 2;
  config.helpers = 2;
  config.codecs = 7;
  config.parity_percent = 10;
  config.parity_percent_blind = 30;
  config.heartbeat_ms = 100;
  config.linger_ns = 1'000'000'000;
  config.blind_passes = 1;
  config.time_limit_ns = 100'000'000'000;
  static std::vector<uint8_t> scratch(dcast_sender_scratch_bytes(&config));
  dcast_rim rim = kRim;
  rim.ctx = &world;
  const char* why;
  if (dcast_sender_init(&sender, &config, &rim, scratch.data(), &why) != 0) __builtin_trap();
  const dcast_range range = {0, dcast_to_le64(kPages * 4096ull)};
  dcast_meta meta = {};
  meta.stream_len[DCAST_STREAM_LOG] = dcast_to_le64(100'000);
  uint64_t now = 1, seq = 0;
  bool begun = false;
  while (size >= 4) {
    const uint8_t op = data[0], type = data[1], len = data[2], relay = data[3];
    data += 4;
    size -= 4;
    if (op & 1) {
      now += static_cast<uint64_t>(type) << (len % 24);
      const unsigned steps = relay % 8;
      for (unsigned i = 0; i < steps; ++i) {
        if (op & 16) dcast_sender_help(&sender, 1 + i % 2);
        dcast_sender_step(&sender, now);
      }
      if (!begun && (op & 2)) {
        begun = true;
        dcast_sender_begin(&sender, now, &range, 1, &meta, 0);
      }
      continue;
    }
    const size_t payload = std::min<size_t>(len, size);
    std::vector<uint8_t> packet(sizeof(dcast_hdr) + payload);
    dcast_hdr hdr = {};
    hdr.magic = dcast_to_le32(DCAST_MAGIC);
    hdr.major = DCAST_VERSION_MAJOR;
    hdr.type = static_cast<__u8>(DCAST_HELLO + type % 6);
    hdr.origin = dcast_to_le64(relay);
    hdr.seq = dcast_to_le64(++seq);
    hdr.payload_len = dcast_to_le16(static_cast<uint16_t>(payload));
    std::memcpy(packet.data(), &hdr, sizeof(hdr));
    std::memcpy(packet.data() + sizeof(hdr), data, payload);
    data += payload;
    size -= payload;
    if (op & 4) {
      hdr.mac = dcast_to_le64(dcast_packet_mac(&secrets.wire, packet.data(), packet.size()));
      std::memcpy(packet.data(), &hdr, sizeof(hdr.mac));
    }
    const size_t cut = op & 8 ? type % (packet.size() + 1) : packet.size();
    std::unique_ptr<uint8_t[]> exact(new uint8_t[cut]);  // reads beyond are seen
    std::memcpy(exact.get(), packet.data(), cut);
    dcast_sender_input(&sender, now, op >> 6, exact.get(), static_cast<__u32>(cut));
  }
  return 0;
}
