// SPDX-License-Identifier: Apache-2.0
// Blocks that other processors encode, in any order, late, or never.
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kmod/core/send/compress.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Sums a host's dump up: what its pages are, by the engine's packets.
class Dump {
 public:
  explicit Dump(FakeHost* host) : host_(host) {
    joined_.keys = host->secrets.wire;
    host->keep_packets = false;
    host->on_packet = [this](const SentPacket& packet) { joined_.Add(packet); };
  }

  // Every page of every class is there, with the bytes that the host has.
  void ExpectWhole() const {
    EXPECT_EQ(joined_.bad_digests, 0u);
    uint64_t pages = 0;
    for (const auto& [id, block] : joined_.blocks) {
      if (id.first == 0) continue;
      const dcast_block_hdr hdr = Reassembler::Header(block);
      const std::vector<uint8_t> raw = Reassembler::Raw(block);
      size_t at = 0;
      for (unsigned i = 0; i < 16; ++i) {
        if (!(dcast_le16(hdr.present) >> i & 1)) continue;
        const uint64_t pfn = id.second * 16 + i;
        EXPECT_EQ(host_->ClassOf(pfn), id.first);
        ++pages;
        const uint8_t* page = host_->Page(pfn);
        if (dcast_le16(hdr.zero) >> i & 1) {
          EXPECT_THAT(std::vector<uint8_t>(page, page + 4096), testing::Each(0));
          continue;
        }
        ASSERT_LE(at + 4096, raw.size());
        EXPECT_EQ(std::memcmp(raw.data() + at, page, 4096), 0) << "pfn " << pfn;
        at += 4096;
      }
    }
    uint64_t wanted = 0;
    for (const auto& [pfn, cls] : host_->class_override) wanted += cls != DCAST_CLASS_EXCLUDED;
    EXPECT_EQ(pages, wanted);
  }

 private:
  FakeHost* host_;
  Reassembler joined_;
};

// Processors beside the one that sends, until it is destroyed.
class Helpers {
 public:
  Helpers(dcast_sender* sender, unsigned count) {
    for (unsigned helper = 1; helper <= count; ++helper) {
      threads_.emplace_back([this, sender, helper] {
        while (!stop_)
          if (!dcast_sender_help(sender, helper)) std::this_thread::yield();
      });
    }
  }
  ~Helpers() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

uint64_t Now() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                               std::chrono::nanoseconds(1));
}

void RunByTheClock(FakeHost* host) {
  while (dcast_sender_phase(host->sender.get()) != DCAST_PHASE_DONE) {
    host->now_ns = Now();
    dcast_sender_step(host->sender.get(), host->now_ns);
  }
}

struct Helped : FakeHost {
  explicit Helped(unsigned helpers) : FakeHost({{0, 16 * kMiB}}) {
    config.helpers = static_cast<__u8>(helpers);
    config.linger_ns = 1000;
    now_ns = Now();
  }
};

TEST(Helpers, EncodeWhileAnotherSends) {
  for (const unsigned count : {1u, 3u, 16u}) {
    Helped host(count);
    Dump dump(&host);
    host.Init();
    host.Begin();
    {
      const Helpers helpers(host.sender.get(), count);
      RunByTheClock(&host);
    }
    dump.ExpectWhole();
    const dcast_stats& stats = *dcast_sender_stats(host.sender.get());
    EXPECT_GT(stats.helped_blocks, 0u);
    EXPECT_LT(stats.helped_blocks, stats.blocks) << "class 0 is the sender's own work";
  }
}

TEST(Helpers, TurnByTurnTheDumpIsTheSame) {
  std::map<BlockId, uint64_t> digests[2];
  for (const unsigned helpers : {0u, 5u}) {
    FakeHost host({{0, 8 * kMiB}});
    host.config.helpers = static_cast<__u8>(helpers);
    host.Init();
    host.Begin();
    ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
    for (const SentPacket* p : host.Sent(DCAST_SYMBOL))
      digests[helpers != 0][{p->hdr().block_class, p->number()}] = dcast_le64(p->hdr().digest);
  }
  EXPECT_EQ(digests[0], digests[1]);
}

std::atomic<bool> stuck_for_ever;
std::atomic<bool> has_taken;
thread_local bool is_stuck = false;

TEST(Helpers, OneThatNeverComesBackIsDoneWithout) {
  Helped host(3);
  Dump dump(&host);
  stuck_for_ever = true;
  static int (*read_page)(void*, __u64, void*);
  read_page = host.rim.read_page;
  host.rim.read_page = [](void* ctx, __u64 pfn, void* dst) {
    while (is_stuck && stuck_for_ever) {
      has_taken = true;
      std::this_thread::yield();
    }
    return read_page(ctx, pfn, dst);
  };
  host.Init();
  host.Begin();
  std::thread stuck([&] {
    is_stuck = true;
    while (stuck_for_ever && !dcast_sender_help(host.sender.get(), 2)) std::this_thread::yield();
  });
  // Slowly, until it has a block.
  while (!has_taken && dcast_sender_phase(host.sender.get()) != DCAST_PHASE_DONE) {
    host.now_ns = Now();
    dcast_sender_step(host.sender.get(), host.now_ns);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(has_taken);
  {
    const Helpers helpers(host.sender.get(), 1);
    RunByTheClock(&host);
  }
  dump.ExpectWhole();
  EXPECT_EQ(dcast_sender_stats(host.sender.get())->helpers_lost, 1u);
  stuck_for_ever = false;
  stuck.join();
}

TEST(Helpers, NobodyComesAtAll) {
  Helped host(16);
  Dump dump(&host);
  host.Init();
  host.Begin();
  RunByTheClock(&host);
  dump.ExpectWhole();
  EXPECT_EQ(dcast_sender_stats(host.sender.get())->helped_blocks, 0u);
}

TEST(Helpers, AreWantedWhileBlocksWaitAndNotAfterwards) {
  FakeHost host({{0, 8 * kMiB}});
  host.config.helpers = 5;
  host.Init();
  EXPECT_FALSE(dcast_sender_wants_help(host.sender.get()));
  host.Begin();
  bool wanted = false;
  host.Run(
      [&] {
        wanted = wanted || dcast_sender_wants_help(host.sender.get());
        return wanted;
      },
      1'000'000'000);
  EXPECT_TRUE(wanted);
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  EXPECT_FALSE(dcast_sender_wants_help(host.sender.get()));
}

// What encoding costs, on a clock of its own.
uint64_t cost_clock_ns;
unsigned cost_ns_byte[3];

// A host of 32 MiB, of which one page of `every` leaves, and whose encoding and sending take time.
dcast_stats DumpWithCosts(uint8_t codecs, uint32_t rate_kib_s, unsigned every,
                          int (*read_page)(void*, __u64, void*)) {
  FakeHost host({{0, 32 * kMiB}});
  for (auto& [pfn, cls] : host.class_override) cls = pfn % every == 0 ? 2 : 0;
  host.config.codecs = codecs;
  host.config.rate_kib_s = rate_kib_s;
  host.config.linger_ns = 1000;
  host.keep_packets = false;
  host.rim.read_page = read_page;
  host.rim.clock_ns = [](void*) -> __u64 { return cost_clock_ns; };
  host.rim.compress = [](void*, unsigned, dcast_codec codec, const void* src, __u32 len, void* dst,
                         __u32 cap) -> __u32 {
    cost_clock_ns += len * cost_ns_byte[codec];
    return CompressBlock(codec, src, len, dst, cap);
  };
  static void (*tx_put)(void*, unsigned, void*, __u32, unsigned);
  tx_put = host.rim.tx_put;
  host.rim.tx_put = [](void* ctx, unsigned path, void* buf, __u32 len, unsigned lane) {
    cost_clock_ns += len * cost_ns_byte[DCAST_CODEC_NONE];
    tx_put(ctx, path, buf, len, lane);
  };
  host.Init();
  host.Begin();
  EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 1'000'000'000'000));
  return *dcast_sender_stats(host.sender.get());
}

// The codec that most of the memory was encoded with.
dcast_codec Favourite(uint8_t codecs, uint32_t rate_kib_s) {
  const dcast_stats stats = DumpWithCosts(codecs, rate_kib_s, 4, [](void*, __u64 pfn, void* dst) {
    for (unsigned i = 0; i < 4096; ++i)
      static_cast<uint8_t*>(dst)[i] = static_cast<uint8_t>(i % 32 < 20 ? i % 32 : pfn * i >> 3);
    return 0;
  });
  unsigned best = 0;
  for (unsigned c = 0; c < 3; ++c) {
    if (stats.codec_raw_bytes[c] > stats.codec_raw_bytes[best]) best = c;
    EXPECT_TRUE(codecs >> c & 1 || stats.codec_blocks[c] == 0);
  }
  EXPECT_GT(stats.codec_raw_bytes[best], stats.raw_bytes * 3 / 4);
  return static_cast<dcast_codec>(best);
}

TEST(Codec, WhicheverIsSlowerDecides) {
  // ns for a byte: what a packet costs, LZ4, zstd.
  const auto costs = [](unsigned send, unsigned lz4, unsigned zstd) {
    cost_ns_byte[DCAST_CODEC_NONE] = send;
    cost_ns_byte[DCAST_CODEC_LZ4] = lz4;
    cost_ns_byte[DCAST_CODEC_ZSTD] = zstd;
  };
  constexpr uint8_t kAll = 7;
  costs(1, 10, 40);
  EXPECT_EQ(Favourite(kAll, 0), DCAST_CODEC_NONE) << "packets are cheap, compression is dear";
  costs(20, 4, 40);
  EXPECT_EQ(Favourite(kAll, 0), DCAST_CODEC_LZ4);
  costs(1, 4, 8);
  EXPECT_EQ(Favourite(kAll, 1024), DCAST_CODEC_ZSTD) << "the network is slow";
  EXPECT_EQ(Favourite(1 << DCAST_CODEC_NONE | 1 << DCAST_CODEC_LZ4, 1024), DCAST_CODEC_LZ4);
  EXPECT_EQ(Favourite(1 << DCAST_CODEC_LZ4, 0), DCAST_CODEC_LZ4);
}

// Noise is sent as it is; the text behind it is compressed before long.
TEST(Codec, FollowsWhatMemoryIsLike) {
  cost_ns_byte[DCAST_CODEC_NONE] = 20;
  cost_ns_byte[DCAST_CODEC_LZ4] = 8;
  cost_ns_byte[DCAST_CODEC_ZSTD] = 200;
  const dcast_stats stats = DumpWithCosts(7, 0, 1, [](void*, __u64 pfn, void* dst) {
    uint64_t state = pfn * 2 + 1;
    for (unsigned i = 0; i < 4096; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      static_cast<uint8_t*>(dst)[i] = static_cast<uint8_t>(pfn < 4096 ? state >> 56 : i % 16);
    }
    return 0;
  });
  EXPECT_GT(stats.codec_raw_bytes[DCAST_CODEC_NONE], stats.raw_bytes / 2 * 3 / 4);
  EXPECT_GT(stats.codec_raw_bytes[DCAST_CODEC_LZ4], stats.raw_bytes / 2 * 3 / 4);
}

}  // namespace
}  // namespace dumpcast
