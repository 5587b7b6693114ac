// SPDX-License-Identifier: Apache-2.0
// Everything a sender sent, put together again from the packets alone, against the memory
// that it was cut from.
#include <cstring>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// RAM as a small PC has it: a hole, odd ends, and a piece beyond the first slice.
std::vector<std::pair<uint64_t, uint64_t>> PcRanges() {
  return {{0x1000, 0x9f000}, {kMiB, 6 * kMiB + 0x3000}, {2048 * kMiB, 2049 * kMiB}};
}

// Fails unless the blocks are exactly the host's dumped pages and streams.
void ExpectWholeDump(FakeHost& host, const Reassembler& got) {
  EXPECT_EQ(got.bad_digests, 0u);
  std::set<uint64_t> seen;
  for (const auto& [id, block] : got.blocks) {
    if (id.first == 0) continue;
    const dcast_block_hdr hdr = Reassembler::Header(block);
    const std::vector<uint8_t> raw = Reassembler::Raw(block);
    size_t offset = 0;
    EXPECT_EQ(hdr.page_shift, 12);
    for (unsigned i = 0; i < 16; ++i) {
      if (!(dcast_le16(hdr.present) >> i & 1)) continue;
      const uint64_t pfn = id.second * 16 + i;
      EXPECT_EQ(host.ClassOf(pfn), id.first) << "page " << pfn;
      EXPECT_TRUE(seen.insert(pfn).second) << "page " << pfn << " is in two blocks";
      static const uint8_t kZero[4096] = {};
      if (dcast_le16(hdr.unreadable) >> i & 1) {
        EXPECT_TRUE(host.unreadable.count(pfn));
      } else if (dcast_le16(hdr.zero) >> i & 1) {
        EXPECT_EQ(std::memcmp(kZero, host.Page(pfn), 4096), 0) << "page " << pfn;
      } else {
        ASSERT_LE(offset + 4096, raw.size());
        ASSERT_EQ(std::memcmp(raw.data() + offset, host.Page(pfn), 4096), 0) << "page " << pfn;
        offset += 4096;
      }
    }
    EXPECT_EQ(offset, raw.size());
  }
  uint64_t dumped = 0;
  for (const auto& [pfn, cls] : host.class_override) dumped += cls != 0;
  EXPECT_EQ(seen.size(), dumped);

  for (const auto& [stream, text] : host.streams) {
    EXPECT_EQ(got.Stream(stream, (text.size() + 65535) / 65536), text) << "stream " << stream;
  }
  const std::string map = got.Stream(DCAST_STREAM_MEMMAP, 1);
  ASSERT_EQ(map.size(), host.ranges.size() * sizeof(dcast_range));
  EXPECT_EQ(std::memcmp(map.data(), host.ranges.data(), map.size()), 0);
  const std::string meta_bytes = got.Stream(DCAST_STREAM_META, 1);
  ASSERT_EQ(meta_bytes.size(), sizeof(dcast_meta));
  dcast_meta meta;
  std::memcpy(&meta, meta_bytes.data(), sizeof(meta));
  EXPECT_EQ(dcast_le32(meta.size), sizeof(dcast_meta));
  EXPECT_EQ(meta.page_shift, 12);
  EXPECT_STREQ(meta.reason, "sysrq triggered crash");

  // Presence names exactly the blocks, END counts them.
  const uint64_t slices =
      dcast_le64(meta.stream_len[DCAST_STREAM_PRESENCE]) / sizeof(dcast_presence);
  EXPECT_EQ(slices, (dcast_le64(meta.window_end) + DCAST_SLICE_WINDOWS - 1) / DCAST_SLICE_WINDOWS);
  std::set<BlockId> named;
  const std::string presence = got.Stream(DCAST_STREAM_PRESENCE, slices);
  ASSERT_EQ(presence.size(), slices * sizeof(dcast_presence));
  for (uint64_t slice = 0; slice < slices; ++slice) {
    dcast_presence bits;
    std::memcpy(&bits, presence.data() + slice * sizeof(bits), sizeof(bits));
    for (unsigned c = 1; c < 4; ++c) {
      for (uint32_t w = 0; w < DCAST_SLICE_WINDOWS; ++w) {
        if (bits.bits[c - 1][w / 8] >> (w % 8) & 1) {
          named.insert({c, slice * DCAST_SLICE_WINDOWS + w});
        }
      }
    }
  }
  std::set<BlockId> held;
  std::vector<dcast_end> sums(host.config.lanes);
  for (const auto& [id, block] : got.blocks) {
    if (id.first != 0) held.insert(id);
    dcast_end_class& sum =
        sums[dcast_block_lane(id.first, id.second, host.config.lanes)].cls[id.first];
    sum.blocks += 1;
    sum.id_sum += dcast_id_mix(id.first, id.second);
  }
  EXPECT_EQ(named, held);
  std::set<unsigned> lanes;
  for (const SentPacket* p : host.Sent(DCAST_END)) {
    const unsigned lane = p->hdr().lane;
    lanes.insert(lane);
    EXPECT_EQ(p->as<dcast_end>().lanes, host.config.lanes);
    EXPECT_EQ(std::memcmp(p->as<dcast_end>().cls, sums[lane].cls, sizeof(sums[lane].cls)), 0)
        << "END of lane " << lane << " does not sum up what was sent";
  }
  EXPECT_EQ(lanes.size(), host.config.lanes);
}

// A well-formed packet, in the sequence of its path and lane.
void ExpectValidPackets(const FakeHost& host) {
  std::map<std::pair<unsigned, unsigned>, uint64_t> seq;
  for (const SentPacket& p : host.packets) {
    const dcast_hdr& hdr = p.hdr();
    ASSERT_GE(p.bytes.size(), sizeof(dcast_hdr));
    ASSERT_EQ(dcast_le32(hdr.magic), DCAST_MAGIC);
    ASSERT_EQ(dcast_le64(hdr.mac),
              dcast_packet_mac(&host.secrets.wire, p.bytes.data(), p.bytes.size()));
    ASSERT_EQ(hdr.path, p.path);
    ASSERT_EQ(hdr.lane, p.lane);
    ASSERT_EQ(dcast_le64(hdr.seq), ++(seq[{p.path, p.lane}]));
    if (hdr.type == DCAST_SYMBOL || hdr.type == DCAST_EMPTY) {
      ASSERT_EQ(hdr.lane, dcast_block_lane(hdr.block_class, p.number(), host.config.lanes));
    }
  }
}

struct Shape {
  unsigned paths, lanes, mode, slots, symbol_size;
};
class LoopbackTest : public ::testing::TestWithParam<Shape> {};

TEST_P(LoopbackTest, EveryPageAndStreamComesThrough) {
  FakeHost host(PcRanges());
  host.config.paths = static_cast<__u8>(GetParam().paths);
  host.config.lanes = static_cast<__u8>(GetParam().lanes);
  host.config.mode = static_cast<__u8>(GetParam().mode);
  host.config.slots = static_cast<__u8>(GetParam().slots);
  host.config.symbol_size = static_cast<__u16>(GetParam().symbol_size);
  host.unreadable[0x105] = true;
  host.class_override[0x105] = 2;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  ExpectValidPackets(host);
  Reassembler got;
  got.keys = host.secrets.wire;
  for (const SentPacket& p : host.packets) got.Add(p);
  ExpectWholeDump(host, got);
  EXPECT_EQ(dcast_sender_stats(host.sender.get())->unreadable_pages, 1u);
  EXPECT_EQ(dcast_le64(host.Sent(DCAST_END).back()->as<dcast_end>().unreadable_pages), 1u);
  __u64 done, total;
  dcast_sender_progress(host.sender.get(), &done, &total);
  EXPECT_EQ(done, total);
  EXPECT_EQ(total, got.blocks.size());
  if (host.config.mode == DCAST_MIRROR && host.config.paths == 2) {
    // Either path alone carries the dump.
    for (unsigned path = 0; path < 2; ++path) {
      Reassembler one;
      one.keys = host.secrets.wire;
      for (const SentPacket& p : host.packets) {
        if (p.path == path) one.Add(p);
      }
      ExpectWholeDump(host, one);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LoopbackTest,
                         ::testing::Values(Shape{1, 1, DCAST_MIRROR, 8, 1352},
                                           Shape{1, 1, DCAST_MIRROR, 1, 1088},
                                           Shape{2, 4, DCAST_MIRROR, 16, 1400},
                                           Shape{2, 64, DCAST_STRIPE, 4, 8840},
                                           Shape{8, 3, DCAST_STRIPE, 16, 1352}));

TEST(Loopback, BlindParityCoversTwoPercentLossInThreePasses) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FakeHost host(PcRanges(), seed);
    host.config.blind_passes = 2;
    host.Init();
    std::mt19937 rng(seed);
    Reassembler got;
    got.keys = host.secrets.wire;
    host.on_packet = [&](const SentPacket& p) {
      if (rng() % 50) got.Add(p);
    };
    host.Begin();
    ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
    ExpectWholeDump(host, got);
  }
}

TEST(Loopback, ClassesLeaveInOrderAndPresenceAheadOfItsMemory) {
  FakeHost host(PcRanges());
  host.config.slots = 1;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  std::vector<BlockId> order;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL)) {
    const BlockId id{p->hdr().block_class, p->number()};
    if (p->hdr().flags & DCAST_F_REPEAT) continue;  // META, again at END
    if (order.empty() || order.back() != id) order.push_back(id);
  }
  ASSERT_EQ(order[0], (BlockId{0, dcast_class0_number(DCAST_STREAM_META, 0)}));
  unsigned highest = 0;
  std::set<uint64_t> slices;
  for (const BlockId& id : order) {
    if (id.first == 0) {
      if (id.second >> 48 == DCAST_STREAM_PRESENCE) {
        slices.insert(id.second & 0xffff);
      } else {
        EXPECT_TRUE(slices.empty()) << "the log left after a presence slice";
      }
      EXPECT_LE(highest, 1u);
      continue;
    }
    EXPECT_GE(id.first, highest);
    highest = id.first;
    EXPECT_TRUE(slices.count(id.second / DCAST_SLICE_WINDOWS));
  }
  EXPECT_EQ(highest, 3u);
  EXPECT_EQ(slices.size(), 2u);
}

TEST(Loopback, SymbolsOfSeveralBlocksAreInterleaved) {
  FakeHost host({{0, 8 * kMiB}});
  host.config.slots = 8;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  const auto symbols = host.Sent(DCAST_SYMBOL);
  // Of 16 packets in a row in the middle of the dump no block loses more than 4.
  for (size_t at = symbols.size() / 3; at < symbols.size() / 3 + 200; ++at) {
    std::map<BlockId, int> hit;
    for (size_t i = at; i < at + 16; ++i) {
      EXPECT_LE(++(hit[{symbols[i]->hdr().block_class, symbols[i]->number()}]), 4);
    }
  }
}

}  // namespace
}  // namespace dumpcast
