// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/core/fake_host.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "kmod/core/send/compress.h"
#include "protos/keys/end_to_end.h"

namespace dumpcast {

struct FakeRim {
  static FakeHost& Host(void* ctx) { return *static_cast<FakeHost*>(ctx); }
  static void WindowClasses(void* ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]) {
    for (unsigned i = 0; i < 16; ++i) cls[i] = Host(ctx).ClassOf(window * 16 + i);
  }
  // As far as 40 windows at once, and not always as far as it could.
  static __u64 Skip(void* ctx, __u64 window) {
    __u64 next = window;
    __u8 cls[DCAST_MAX_WINDOW_PAGES];
    for (unsigned i = 0; i < window % 5 * 10; ++i, ++next) {
      WindowClasses(ctx, next, cls);
      if (std::any_of(cls, cls + 16, [](__u8 c) { return c != DCAST_CLASS_EXCLUDED; })) break;
    }
    return next;
  }
  static int ReadPage(void* ctx, __u64 pfn, void* dst) {
    FakeHost& host = Host(ctx);
    ++host.read_page_calls;
    if (host.unreadable.count(pfn)) return -14;
    std::memcpy(dst, host.Page(pfn), 4096);
    if (host.change_on_read) std::memcpy(dst, &host.read_page_calls, 8);
    return 0;
  }
  static int ReadStream(void* ctx, unsigned stream, __u64 offset, void* dst, __u32 len) {
    const std::string& text = Host(ctx).streams[stream];
    if (offset + len > text.size()) return -22;
    std::memcpy(dst, text.data() + offset, len);
    return 0;
  }
  static __u32 Compress(void* ctx, unsigned encoder, dcast_codec codec, const void* src, __u32 len,
                        void* dst, __u32 cap) {
    const FakeHost& host = Host(ctx);
    EXPECT_LE(encoder, host.config.helpers);
    EXPECT_TRUE(host.config.codecs >> codec & 1);
    return CompressBlock(codec, src, len, dst, cap);
  }
  static void Encrypt(void* ctx, void* data, __u32 len, const dcast_encrypt_ad* ad,
                      const __u8 nonce[DCAST_NONCE_BYTES]) {
    EXPECT_TRUE(Host(ctx).secrets.encrypted);
    EncryptInPlace(Host(ctx).secrets.end_to_end.cipher, static_cast<uint8_t*>(data), len, *ad,
                   nonce);
  }
  static void* TxGet(void* ctx, unsigned path) {
    FakeHost& host = Host(ctx);
    EXPECT_FALSE(host.tx_held_) << "tx_get() before the last buffer was put";
    if (host.path_blocked[path]) return nullptr;
    host.tx_held_ = true;
    host.tx_buffer_.assign(sizeof(dcast_hdr) + host.config.symbol_size, 0xee);
    return host.tx_buffer_.data();
  }
  static void TxPut(void* ctx, unsigned path, void* buf, __u32 len, unsigned lane) {
    FakeHost& host = Host(ctx);
    EXPECT_TRUE(host.tx_held_);
    EXPECT_LE(len, host.tx_buffer_.size());
    host.tx_held_ = false;
    const auto* bytes = static_cast<const uint8_t*>(buf);
    SentPacket packet{path, lane, host.now_ns, {bytes, bytes + len}};
    if (host.on_packet) host.on_packet(packet);
    if (host.keep_packets) host.packets.push_back(std::move(packet));
  }
  static int PathUp(void* ctx, unsigned path) { return Host(ctx).path_up[path]; }
  static __u64 UnixNs(void*) { return 1'700'000'000'000'000'000; }
};

FakeHost::FakeHost(const std::vector<std::pair<uint64_t, uint64_t>>& ram, uint32_t seed)
    : config(DefaultConfig()), sender(std::make_unique<dcast_sender>()) {
  std::mt19937 rng(seed);
  for (const auto& [start, end] : ram) {
    ranges.push_back({dcast_to_le64(start), dcast_to_le64(end)});
    for (uint64_t pfn = start >> 12; pfn < end >> 12; ++pfn) {
      std::vector<uint8_t> page(4096);
      const unsigned kind = rng() % 4;
      if (kind == 1) {
        for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<uint8_t>(pfn + i % 61);
      } else if (kind > 1) {
        for (size_t i = 0; i < page.size(); i += 4) {
          const uint32_t v = rng();
          std::memcpy(&page[i], &v, 4);
        }
      }
      pages_[pfn] = std::move(page);
      class_override[pfn] = static_cast<uint8_t>(rng() % 4);
    }
  }
  secrets.wire = {{1, 2}, {3, 4}};
  config.secrets = &secrets;
  streams[DCAST_STREAM_VMCOREINFO] = "OSRELEASE=6.1.0-fake\nPAGESIZE=4096\n";
  streams[DCAST_STREAM_NOTES] = std::string(400, 'n');
  for (int i = 0; i < 9000; ++i) {
    streams[DCAST_STREAM_LOG] += "[    1." + std::to_string(100000 + i) + "] line\n";
  }
  rim = {this,
         FakeRim::WindowClasses,
         FakeRim::Skip,
         FakeRim::ReadPage,
         FakeRim::ReadStream,
         FakeRim::Compress,
         FakeRim::Encrypt,
         FakeRim::TxGet,
         FakeRim::TxPut,
         FakeRim::PathUp,
         FakeRim::UnixNs,
         nullptr,
         /*writes_macs=*/0,
         /*digests=*/nullptr};
}

dcast_config FakeHost::DefaultConfig() {
  dcast_config c = {};
  for (int i = 0; i < DCAST_ID_BYTES; ++i) {
    c.host_id[i] = static_cast<__u8>(0x10 + i);
    c.dump_id[i] = static_cast<__u8>(0x40 + i);
    c.boot_id[i] = static_cast<__u8>(0x80 + i);
  }
  c.origin = 0x5e4de4;
  c.key_epoch = 1;
  c.symbol_size = 1352;
  c.paths = 1;
  c.lanes = 1;
  c.mode = DCAST_MIRROR;
  c.page_shift = 12;
  c.dump_level = 31;
  c.slots = 8;
  c.codecs = 1 << DCAST_CODEC_NONE | 1 << DCAST_CODEC_LZ4;
  c.parity_percent = 4;
  c.parity_percent_blind = 20;
  c.heartbeat_ms = 1000;
  c.linger_ns = 2'000'000'000;
  c.blind_passes = 0;
  std::strcpy(c.hostname, "fake");
  std::strcpy(c.release, "6.1.0-fake");
  return c;
}

void FakeHost::Init() {
  scratch_.resize(dcast_sender_scratch_bytes(&config));
  const char* why = nullptr;
  ASSERT_EQ(dcast_sender_init(sender.get(), &config, &rim, scratch_.data(), &why), 0) << why;
}

void FakeHost::Begin(uint8_t flags) {
  dcast_meta meta = {};
  meta.elf_machine = dcast_to_le16(62);
  meta.crash_unix_ns = dcast_to_le64(1'700'000'001'000'000'000);
  for (const auto& [stream, text] : streams) meta.stream_len[stream] = dcast_to_le64(text.size());
  std::strcpy(meta.reason, "sysrq triggered crash");
  dcast_sender_begin(sender.get(), now_ns, ranges.data(), static_cast<__u32>(ranges.size()), &meta,
                     flags);
}

bool FakeHost::Run(const std::function<bool()>& done, uint64_t limit_ns) {
  const uint64_t limit = now_ns + limit_ns;
  int idle = 0;
  uint64_t turn = 0;
  while (!done()) {
    for (unsigned helper = 1; helper <= config.helpers; ++helper)
      if (++turn % 3 != 0) dcast_sender_help(sender.get(), helper);
    const unsigned sent = dcast_sender_step(sender.get(), now_ns);
    EXPECT_LE(sent, 64u);
    if (done()) return true;
    const uint64_t wake = dcast_sender_wake_ns(sender.get());
    if (sent == 0 && wake > now_ns) {
      if (wake == ~0ull || wake > limit) {
        now_ns = limit;
        return done();
      }
      now_ns = wake;
      idle = 0;
    } else {
      now_ns += 1000;
      idle = sent ? 0 : idle + 1;
      if (idle > 100'000) {
        ADD_FAILURE() << "the engine wants to run but does nothing";
        return false;
      }
    }
    if (now_ns > limit) return false;
  }
  return true;
}

bool FakeHost::RunToPhase(dcast_phase phase, uint64_t limit_ns) {
  return Run([&] { return dcast_sender_phase(sender.get()) == phase; }, limit_ns);
}

std::vector<uint8_t> FakeHost::MakeReply(uint64_t id, uint64_t seq, uint8_t type,
                                         const void* payload, size_t len) const {
  std::vector<uint8_t> packet(sizeof(dcast_hdr) + len);
  dcast_hdr hdr = {};
  hdr.magic = dcast_to_le32(DCAST_MAGIC);
  hdr.major = DCAST_VERSION_MAJOR;
  hdr.type = type;
  std::memcpy(hdr.host_id, config.host_id, DCAST_ID_BYTES);
  std::memcpy(hdr.dump_id, config.dump_id, DCAST_ID_BYTES);
  hdr.origin = dcast_to_le64(id);
  hdr.seq = dcast_to_le64(seq);
  hdr.payload_len = dcast_to_le16(static_cast<uint16_t>(len));
  hdr.key_epoch = dcast_to_le16(config.key_epoch);
  std::memcpy(packet.data(), &hdr, sizeof(hdr));
  if (len) std::memcpy(packet.data() + sizeof(hdr), payload, len);
  hdr.mac = dcast_to_le64(dcast_packet_mac(&secrets.wire, packet.data(), packet.size()));
  std::memcpy(packet.data(), &hdr, sizeof(hdr));
  return packet;
}

void FakeHost::Reply(uint64_t id, dcast_type type, const void* payload, size_t len, unsigned path) {
  const auto packet = MakeReply(id, ++reply_seq_[id], static_cast<uint8_t>(type), payload, len);
  dcast_sender_input(sender.get(), now_ns, path, packet.data(), static_cast<__u32>(packet.size()));
}

void FakeHost::Hello(uint64_t id, uint32_t pace_kib_s, unsigned path, uint64_t lanes) {
  dcast_hello hello = {};
  hello.lane_mask = dcast_to_le64(lanes);
  hello.pace_kib_s = dcast_to_le32(pace_kib_s);
  Reply(id, DCAST_HELLO, &hello, sizeof(hello), path);
}

void FakeHost::Commit(uint64_t id, uint64_t lanes) {
  dcast_commit commit = {};
  commit.lane_mask = dcast_to_le64(lanes);
  Reply(id, DCAST_COMMIT, &commit, sizeof(commit));
}

void FakeHost::Nak(uint64_t id, std::vector<dcast_nak_entry> entries) {
  const dcast_nak nak = {dcast_to_le32(static_cast<uint32_t>(entries.size())), dcast_to_le32(32)};
  std::vector<uint8_t> payload(sizeof(nak) + entries.size() * sizeof(dcast_nak_entry));
  std::memcpy(payload.data(), &nak, sizeof(nak));
  if (!entries.empty()) {
    std::memcpy(payload.data() + sizeof(nak), entries.data(),
                entries.size() * sizeof(dcast_nak_entry));
  }
  Reply(id, DCAST_NAK, payload.data(), payload.size());
}

void FakeHost::Admit(uint64_t id, dcast_verdict verdict, uint32_t wait_ms) {
  const dcast_admit admit = {dcast_to_le32(verdict), dcast_to_le32(wait_ms)};
  Reply(id, DCAST_ADMIT, &admit, sizeof(admit));
}

std::vector<const SentPacket*> FakeHost::Sent(dcast_type type, int path) const {
  std::vector<const SentPacket*> found;
  for (const SentPacket& p : packets) {
    if (p.hdr().type == type && (path < 0 || p.path == static_cast<unsigned>(path))) {
      found.push_back(&p);
    }
  }
  return found;
}

uint8_t FakeHost::ClassOf(uint64_t pfn) const {
  const auto it = class_override.find(pfn);
  return it == class_override.end() ? 0 : it->second;
}

const uint8_t* FakeHost::Page(uint64_t pfn) const {
  return pages_.at(pfn).data();
}

}  // namespace dumpcast
