// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_host.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "gtest/gtest.h"
#include "kmod/core/send/compress.h"
#include "protos/keys/end_to_end.h"

namespace dumpcast {
namespace {

constexpr uint64_t kPagesPerWindow = 16;
// What a device takes before it says that it is full.
constexpr TimeNs kDeviceQueueNs = kMillisecond;

}  // namespace

struct SimRim {
  static SimHost& Host(void* ctx) { return *static_cast<SimHost*>(ctx); }
  static void WindowClasses(void* ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]) {
    for (unsigned i = 0; i < kPagesPerWindow; ++i)
      cls[i] = Host(ctx).memory_->ClassOf(window * kPagesPerWindow + i);
  }
  static int ReadPage(void* ctx, __u64 pfn, void* dst) {
    SimHost& host = Host(ctx);
    if (host.memory_->Unreadable(pfn)) return -14;
    const std::string page = host.memory_->Page(pfn, ++host.reads_);
    std::memcpy(dst, page.data(), page.size());
    return 0;
  }
  static int ReadStream(void* ctx, unsigned stream, __u64 offset, void* dst, __u32 len) {
    const std::string& bytes = Host(ctx).streams_[stream];
    if (offset + len > bytes.size()) return -22;
    std::memcpy(dst, bytes.data() + offset, len);
    return 0;
  }
  static __u32 Compress(void*, unsigned, dcast_codec codec, const void* src, __u32 len, void* dst,
                        __u32 cap) {
    return CompressBlock(codec, src, len, dst, cap);
  }
  static void Encrypt(void*, void* data, __u32 len, const dcast_encrypt_ad* ad,
                      const __u8 nonce[DCAST_NONCE_BYTES]) {
    EncryptInPlace(SimHost::CipherKeys().cipher, static_cast<uint8_t*>(data), len, *ad, nonce);
  }
  static void* TxGet(void* ctx, unsigned path) {
    SimHost& host = Host(ctx);
    if (host.busy_until_ns_[path] > host.clock_->now() + kDeviceQueueNs) return nullptr;
    host.tx_.assign(sizeof(dcast_hdr) + host.options_.symbol_size, 0xee);
    return host.tx_.data();
  }
  static void TxPut(void* ctx, unsigned path, void* buf, __u32 len, unsigned lane) {
    SimHost& host = Host(ctx);
    TimeNs& busy = host.busy_until_ns_[path];
    busy = std::max(busy, host.clock_->now()) +
           static_cast<TimeNs>((len + 66) / host.options_.path_bytes_per_second * 1e9);
    if (!host.path_up_[path]) return;
    const std::string packet(static_cast<const char*>(buf), len);
    host.clock_->At(busy, [&host, path, lane, packet] { host.on_packet_(path, lane, packet); });
  }
  static int PathUp(void* ctx, unsigned path) { return Host(ctx).path_up_[path]; }
  static __u64 UnixNs(void* ctx) { return 1'700'000'000'000'000'000 + Host(ctx).clock_->now(); }
};

DumpKey SimHost::Dump() {
  DumpKey key;
  key.host_id.fill(0x11);
  key.dump_id.fill(0x22);
  return key;
}
dcast_keys SimHost::Keys() {
  return {{1, 2}, {3, 4}};
}

dcast_cipher_keys SimHost::CipherKeys() {
  return {{9, 8, 7}, {5, 6}};
}

SimHost::SimHost(SimClock* clock, const SimMemory* memory, const SimHostOptions& options,
                 OnPacket on_packet)
    : clock_(clock),
      memory_(memory),
      options_(options),
      on_packet_(std::move(on_packet)),
      sender_(std::make_unique<dcast_sender>()) {
  path_up_.fill(true);
  for (unsigned s = 0; s < DCAST_STREAMS; ++s)
    if (s != DCAST_STREAM_META && s != DCAST_STREAM_PRESENCE) streams_[s] = memory->Stream(s);
}

void SimHost::Arm() {
  dcast_config config = {};
  const DumpKey dump = Dump();
  std::memcpy(config.host_id, dump.host_id.data(), sizeof(config.host_id));
  std::memcpy(config.dump_id, dump.dump_id.data(), sizeof(config.dump_id));
  std::memset(config.boot_id, 0x33, sizeof(config.boot_id));
  secrets_.wire = Keys();
  secrets_.end_to_end = CipherKeys();
  secrets_.encrypted = options_.encrypted;
  config.secrets = &secrets_;
  config.origin = options_.origin;
  config.key_epoch = kEpoch;
  config.symbol_size = options_.symbol_size;
  config.paths = options_.paths;
  config.lanes = options_.lanes;
  config.mode = static_cast<__u8>(options_.mode);
  config.page_shift = 12;
  config.dump_level = 31;
  config.commits_wanted = options_.commits_wanted;
  config.slots = options_.slots;
  config.helpers = options_.helpers;
  config.codecs = options_.codecs;
  config.parity_percent = options_.parity_percent;
  config.parity_percent_blind = 20;
  config.heartbeat_ms = 200;
  config.rate_kib_s = options_.rate_kib_s;
  config.linger_ns = options_.linger_ns;
  config.blind_passes = options_.blind_passes;
  std::strcpy(config.hostname, "sim");
  std::strcpy(config.release, "6.1.0-sim");
  const dcast_rim rim = {this,
                         SimRim::WindowClasses,
                         nullptr,
                         SimRim::ReadPage,
                         SimRim::ReadStream,
                         SimRim::Compress,
                         SimRim::Encrypt,
                         SimRim::TxGet,
                         SimRim::TxPut,
                         SimRim::PathUp,
                         SimRim::UnixNs,
                         nullptr,
                         /*writes_macs=*/0,
                         /*digests=*/nullptr};
  const size_t scratch_bytes = dcast_sender_scratch_bytes(&config);
  size_t room = scratch_bytes + 64;
  scratch_.resize(room);
  void* aligned = scratch_.data();
  ASSERT_NE(std::align(64, scratch_bytes, aligned, room), nullptr);
  const char* why = nullptr;
  ASSERT_EQ(dcast_sender_init(sender_.get(), &config, &rim, aligned, &why), 0) << why;
  Wake(clock_->now());
}

void SimHost::Panic() {
  if (!alive_) return;
  dcast_meta meta = {};
  meta.elf_machine = dcast_to_le16(62);
  for (const auto& [stream, bytes] : streams_)
    meta.stream_len[stream] = dcast_to_le64(bytes.size());
  std::strcpy(meta.hostname, "sim");
  std::strcpy(meta.reason, "simulated");
  begun_ = true;
  dcast_sender_begin(sender_.get(), clock_->now(), memory_->ranges().data(),
                     static_cast<__u32>(memory_->ranges().size()), &meta, 0);
  Wake(clock_->now());
}

void SimHost::Receive(unsigned path, const std::string& packet) {
  if (!alive_ || !path_up_[path]) return;
  dcast_sender_input(sender_.get(), clock_->now(), path, packet.data(),
                     static_cast<__u32>(packet.size()));
  Wake(std::max<TimeNs>(clock_->now(), dcast_sender_wake_ns(sender_.get())));
}

void SimHost::Wake(TimeNs when) {
  if (when >= wake_ns_) return;
  wake_ns_ = when;
  clock_->At(when, [this, number = ++wake_number_] {
    if (number == wake_number_ && alive_) Step();
  });
}

void SimHost::Step() {
  wake_ns_ = kNever;
  // A bounded burst at one instant, then the devices have to drain.
  for (int i = 0; i < 64; ++i) {
    for (unsigned helper = 1; helper <= options_.helpers; ++helper)
      if (SplitMix(options_.origin + ++turns_) & 1) dcast_sender_help(sender_.get(), helper);
    if (dcast_sender_step(sender_.get(), clock_->now()) == 0) break;
  }
  const TimeNs now = clock_->now();
  const TimeNs wanted = dcast_sender_wake_ns(sender_.get());
  if (wanted > now) {
    if (wanted != kNever) Wake(wanted);
    return;
  }
  // It would send now: as soon as a device has room, and looks again soon in any case.
  TimeNs free_ns = now + kMillisecond;
  for (unsigned p = 0; p < options_.paths; ++p)
    if (path_up_[p] && busy_until_ns_[p] > now + kDeviceQueueNs)
      free_ns = std::min(free_ns, busy_until_ns_[p] - kDeviceQueueNs / 2);
  Wake(std::max(free_ns, now + 20'000));
}

}  // namespace dumpcast
