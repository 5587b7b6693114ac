// SPDX-License-Identifier: Apache-2.0
#include "tests/fleet/fleet_host.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kmod/core/send/compress.h"
#include "tests/fleet/fleet_link.h"

namespace dumpcast {
namespace {

// What a card takes before it says that it is full; less than what makes a path stalled.
constexpr TimeNs kRingNs = 8 * kMillisecond;
// Packets that come within this time are looked at together.
constexpr TimeNs kTurnNs = 2 * kMillisecond;

}  // namespace

DumpKey FleetDump(uint32_t host) {
  DumpKey key;
  key.host_id.fill(0x11);
  key.dump_id.fill(0x22);
  std::memcpy(key.host_id.data(), &host, sizeof(host));
  std::memcpy(key.dump_id.data(), &host, sizeof(host));
  return key;
}

uint32_t FleetHostOf(const DumpKey& dump) {
  uint32_t host = 0;
  std::memcpy(&host, dump.host_id.data(), sizeof(host));
  return host;
}

dcast_keys FleetKeys(uint32_t host) {
  return {{host + 1, 2}, {3, host + 1}};
}

struct FleetRim {
  static FleetHost& Host(void* ctx) { return *static_cast<FleetHost*>(ctx); }
  static const FleetMemory& Memory(void* ctx) { return *Host(ctx).senders_->memory; }
  static void WindowClasses(void* ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]) {
    for (uint64_t i = 0; i < FleetMemory::kPagesPerWindow; ++i)
      cls[i] = Memory(ctx).ClassOf(window * FleetMemory::kPagesPerWindow + i);
  }
  static int ReadPage(void* ctx, __u64 pfn, void* dst) {
    const char* page = Memory(ctx).Page(pfn);
    if (page == nullptr) return -14;
    std::memcpy(dst, page, FleetMemory::kPageBytes);
    return 0;
  }
  static int ReadStream(void* ctx, unsigned stream, __u64 offset, void* dst, __u32 len) {
    std::memcpy(dst, Memory(ctx).Stream(stream).data() + offset, len);
    return 0;
  }
  static __u32 Compress(void*, unsigned, dcast_codec codec, const void* src, __u32 len, void* dst,
                        __u32 cap) {
    return CompressBlock(codec, src, len, dst, cap);
  }
  static void* TxGet(void* ctx, unsigned) {
    FleetHost& host = Host(ctx);
    if (host.busy_until_ns_ > host.senders_->clock->now() + kRingNs) return nullptr;
    return host.senders_->tx.data();
  }
  static void TxPut(void* ctx, unsigned, void* buf, __u32 len, unsigned) {
    FleetHost& host = Host(ctx);
    FleetSenders& senders = *host.senders_;
    const double seconds = static_cast<double>(len + kFrameBytes) / senders.nic_bytes_per_second;
    host.busy_until_ns_ = std::max(host.busy_until_ns_, senders.clock->now()) +
                          static_cast<TimeNs>(seconds * static_cast<double>(kSecond));
    Packet packet = std::make_shared<const std::string>(static_cast<const char*>(buf), len);
    senders.clock->At(host.busy_until_ns_, [&host, packet = std::move(packet)] {
      host.senders_->on_departure(host.index_, packet);
    });
  }
  static int PathUp(void*, unsigned) { return 1; }
  static __u64 UnixNs(void* ctx) {
    return 1'700'000'000'000'000'000 + Host(ctx).senders_->clock->now();
  }
};

FleetSenders::FleetSenders(SimClock* c, const FleetMemory* m, double nic, OnDeparture departure)
    : clock(c), memory(m), nic_bytes_per_second(nic), on_departure(std::move(departure)) {
  // As the module has it when it is told nothing.
  config.key_epoch = kFleetEpoch;
  config.symbol_size = 1352;
  config.paths = 1;
  config.lanes = 1;
  config.mode = DCAST_MIRROR;
  config.page_shift = 12;
  config.dump_level = 31;
  config.slots = 8;
  config.codecs = 1 << DCAST_CODEC_LZ4;
  config.parity_percent = 4;
  config.parity_percent_blind = 25;
  config.heartbeat_ms = 5000;
  config.linger_ns = 10 * kSecond;
  config.time_limit_ns = 1800 * kSecond;
  config.blind_passes = 2;
  config.memory_bytes = m->bytes();
  std::strcpy(config.release, "6.1.0-sim");

  const size_t bytes = dcast_sender_scratch_bytes(&config);
  size_t room = bytes + 64;
  scratch_room.resize(room);
  scratch = scratch_room.data();
  scratch = std::align(64, bytes, scratch, room);
  tx.resize((sizeof(dcast_hdr) + config.symbol_size) / 8);
  slot_room.resize(DCAST_MAX_ENCODED_BYTES + config.symbol_size);
}

void FleetHost::Arm() {
  dcast_config config = senders_->config;
  const DumpKey dump = FleetDump(index_);
  std::memcpy(config.host_id, dump.host_id.data(), sizeof(config.host_id));
  std::memcpy(config.dump_id, dump.dump_id.data(), sizeof(config.dump_id));
  std::memset(config.boot_id, 0x33, sizeof(config.boot_id));
  config.origin = 0x5e4d'0000'0000 + index_;
  std::snprintf(config.hostname, sizeof(config.hostname), "host-%u", index_);
  secrets_.wire = FleetKeys(index_);
  config.secrets = &secrets_;
  const dcast_rim rim = {this,
                         FleetRim::WindowClasses,
                         nullptr,
                         FleetRim::ReadPage,
                         FleetRim::ReadStream,
                         FleetRim::Compress,
                         nullptr,
                         FleetRim::TxGet,
                         FleetRim::TxPut,
                         FleetRim::PathUp,
                         FleetRim::UnixNs,
                         nullptr,
                         /*writes_macs=*/0,
                         /*digests=*/nullptr};
  const char* why = nullptr;
  if (dcast_sender_init(&sender_, &config, &rim, senders_->scratch, &why) != 0) {
    std::fprintf(stderr, "fleet: the sender refuses its configuration: %s\n", why);
    std::abort();
  }
  Wake(senders_->clock->now());
}

void FleetHost::Panic(const Admission::Signature& signature) {
  dcast_meta meta = {};
  meta.elf_machine = dcast_to_le16(62);
  for (unsigned s = 0; s < DCAST_STREAMS; ++s)
    meta.stream_len[s] = dcast_to_le64(senders_->memory->Stream(s).size());
  std::memcpy(meta.hostname, sender_.config.hostname, sizeof(meta.hostname));
  std::strcpy(meta.reason, "simulated");
  std::memcpy(meta.signature, signature.data(), signature.size());
  signature_ = signature;
  panic_ns_ = senders_->clock->now();
  dcast_sender_begin(&sender_, panic_ns_, senders_->memory->ranges().data(),
                     static_cast<__u32>(senders_->memory->ranges().size()), &meta, 0);
  senders_->running = nullptr;  // begin() has cleared some of the scratch
  Wake(panic_ns_);
}

void FleetHost::Receive(const std::string& packet) {
  const TimeNs now = senders_->clock->now();
  dcast_sender_input(&sender_, now, 0, packet.data(), static_cast<__u32>(packet.size()));
  if (!ended()) Wake(std::max<TimeNs>(now + kTurnNs, dcast_sender_wake_ns(&sender_)));
}

std::string FleetHost::Encode(const FleetMemory::Name& name) {
  const bool is_meta = name == FleetMemory::Name{0, dcast_class0_number(DCAST_STREAM_META, 0)};
  if (const auto it = senders_->encodings.find(name); !is_meta && it != senders_->encodings.end())
    return it->second;
  // The scratch that presence and pages go through belongs to nobody now.
  senders_->running = nullptr;
  __u32 windows = ~0u;
  sender_.nak_presence.active = 0;
  dcast_presence_build(&sender_, &sender_.nak_presence, 0, &windows, 0);
  sender_.nak_presence.active = 0;
  dcast_slot slot = {};
  slot.data = senders_->slot_room.data();
  slot.block_class = name.first;
  slot.number = name.second;
  slot.codec = DCAST_CODEC_LZ4;
  dcast_encode_block(&sender_, 0, &slot, sender_.nak_presence.bits);
  std::string encoding(reinterpret_cast<const char*>(slot.data), slot.len);
  if (!is_meta) senders_->encodings.emplace(name, encoding);
  return encoding;
}

// What another sender has overwritten.
void FleetHost::Resume() {
  if (senders_->running == this) return;
  for (dcast_slot& slot : sender_.slots) {
    if (slot.pending == 0) continue;
    const std::string encoding = Encode({slot.block_class, slot.number});
    std::memcpy(slot.data, encoding.data(), encoding.size());
    std::memset(slot.data + encoding.size(), 0,
                size_t{slot.k} * sender_.config.symbol_size - encoding.size());
  }
  sender_.nak_presence.active = 0;
  sender_.out.parity_ready = 0;
  if (sender_.walk_presence.active) {
    __u32 windows = ~0u;
    sender_.walk_presence.active = 0;
    dcast_presence_build(&sender_, &sender_.walk_presence, 0, &windows, 0);
  }
  senders_->running = this;
}

void FleetHost::Wake(TimeNs when) {
  if (when >= wake_ns_) return;
  wake_ns_ = when;
  senders_->clock->At(when, [this, number = ++wake_number_] {
    if (number == wake_number_) Step();
  });
}

void FleetHost::Step() {
  wake_ns_ = kNever;
  const TimeNs now = senders_->clock->now();
  Resume();
  while (dcast_sender_step(&sender_, now) != 0) {
  }
  const TimeNs wanted = dcast_sender_wake_ns(&sender_);
  if (wanted == kNever) return;
  TimeNs when = std::max(wanted, now + kTurnNs);
  // The ring is full: when half of it has left.
  if (busy_until_ns_ > now + kRingNs) when = std::max(now + kTurnNs, busy_until_ns_ - kRingNs / 2);
  Wake(when);
}

}  // namespace dumpcast
