// SPDX-License-Identifier: Apache-2.0
// Heartbeats, passes, parity policy, and what a configuration must be.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMs = 1'000'000;

TEST(Heartbeat, EveryIntervalOnEveryPathWithTheHostsClock) {
  FakeHost host({{0, kMiB}});
  host.config.paths = 2;
  host.config.memory_bytes = 7 * kMiB;
  host.Init();
  host.Run([] { return false; }, 3'500 * kMs);
  EXPECT_EQ(host.Sent(DCAST_ANNOUNCE, 0).size(), 4u);
  EXPECT_EQ(host.Sent(DCAST_ANNOUNCE, 1).size(), 4u);
  EXPECT_EQ(host.packets.size(), 8u);
  const auto& a = host.packets.back().as<dcast_announce>();
  EXPECT_EQ(a.state, DCAST_ST_ARMED);
  EXPECT_EQ(dcast_le32(a.interval_ms), 1000u);
  EXPECT_EQ(dcast_le64(a.memory_bytes), 7 * kMiB);
  EXPECT_EQ(dcast_le64(a.unix_ns), 1'700'000'000'000'000'000u);
  EXPECT_STREQ(a.hostname, "fake");
  EXPECT_EQ(host.packets.back().lane, 0u);
}

TEST(Heartbeat, GoodbyeLeavesThreeTimesAndThenNothing) {
  FakeHost host({{0, kMiB}});
  host.Init();
  host.Run([] { return false; }, 10 * kMs);
  host.packets.clear();
  dcast_sender_goodbye(host.sender.get(), host.now_ns);
  while (dcast_sender_step(host.sender.get(), host.now_ns) != 0) {
  }
  ASSERT_EQ(host.packets.size(), 3u);
  EXPECT_EQ(host.packets[0].as<dcast_announce>().state, DCAST_ST_GOODBYE);
  host.Run([] { return false; }, 5'000 * kMs);
  EXPECT_EQ(host.packets.size(), 3u);
}

TEST(Progress, AnnouncedEveryHalfSecondWithATotalOnceItIsKnown) {
  FakeHost host({{0, 16 * kMiB}});
  host.config.rate_kib_s = 4'000;
  host.Init();
  host.Begin(DCAST_F_LIVE | DCAST_F_TEST);
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  const auto announces = host.Sent(DCAST_ANNOUNCE);
  ASSERT_GE(announces.size(), 6u);
  for (size_t i = 0; i < 3; ++i) EXPECT_LE(announces[i]->time_ns, 1'025'000'000u);
  uint64_t last = 0;
  for (size_t i = 0; i < announces.size(); ++i) {
    const auto& a = announces[i]->as<dcast_announce>();
    EXPECT_EQ(announces[i]->hdr().flags, DCAST_F_LIVE | DCAST_F_TEST);
    if (a.state == DCAST_ST_LINGER) break;
    EXPECT_EQ(a.state, DCAST_ST_DUMPING);
    EXPECT_EQ(dcast_le64(a.unix_ns), 1'700'000'001'000'000'000u) << "the time of the panic";
    EXPECT_GE(dcast_le64(a.blocks_done), last);
    last = dcast_le64(a.blocks_done);
    if (i > 3) {
      EXPECT_NEAR(static_cast<double>(announces[i]->time_ns - announces[i - 1]->time_ns),
                  500.0 * kMs, 20.0 * kMs);
      EXPECT_GE(dcast_le64(a.blocks_total), last);
    }
  }
}

TEST(Parity, WithAWayBackItCostsItsPercentageAlsoWithSmallBlocks) {
  FakeHost host({{0, 16 * kMiB}});
  host.config.parity_percent = 4;
  for (auto& [pfn, cls] : host.class_override) {
    if (pfn % 32 >= 16 && pfn % 16 > 1) cls = 0;  // every second window has two pages at most
  }
  host.Init();
  host.Begin();
  host.Hello(1);
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  uint64_t data = 0, parity = 0;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL)) {
    if (p->hdr().flags & DCAST_F_REPEAT) continue;
    (p->hdr().index < p->hdr().k ? data : parity) += 1;
    if (p->hdr().k < 8) {
      EXPECT_LT(p->hdr().index, p->hdr().k);
    }
  }
  EXPECT_NEAR(100.0 * static_cast<double>(parity) / static_cast<double>(data), 4, 0.5);
}

TEST(Parity, BlindPassesBringFreshSymbolsAndEveryBlockHasSome) {
  FakeHost host({{0, 2 * kMiB}});
  host.config.blind_passes = 3;
  host.config.parity_percent_blind = 20;
  host.Init();
  host.Begin();
  std::map<BlockId, std::set<unsigned>> parity;  // indices sent so far
  std::map<BlockId, std::map<uint32_t, uint64_t>> masks;
  uint32_t pass = 1;
  host.on_packet = [&](const SentPacket& p) {
    if (p.hdr().type == DCAST_END) {
      EXPECT_EQ(dcast_le32(p.as<dcast_end>().pass), pass);
    }
    if (p.hdr().type != DCAST_SYMBOL || (p.hdr().block_class == 0 && p.number() == 0)) return;
    pass = host.sender->pass;
    const BlockId id{p.hdr().block_class, p.number()};
    masks[id][pass] |= 1ull << p.hdr().index;
    EXPECT_EQ((p.hdr().flags & DCAST_F_REPEAT) != 0, pass > 1);
    if (p.hdr().index >= p.hdr().k && parity[id].size() < 64u - p.hdr().k) {
      EXPECT_TRUE(parity[id].insert(p.hdr().index).second) << "parity repeated in pass " << pass;
    }
  };
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  EXPECT_EQ(host.sender->pass, 4u);
  for (const auto& [id, by_pass] : masks) {
    const uint64_t one = by_pass.at(1), two = by_pass.at(2), three = by_pass.at(3);
    EXPECT_EQ(one & 1, 1u);
    EXPECT_EQ(three & 1, 1u) << "pass 3 is whole";
    EXPECT_EQ(two & 1, 0u) << "pass 2 is parity only";
    EXPECT_NE(two, 0u);
  }
}

TEST(Parity, NoneWhenThePercentageIsZeroAndEveryPassIsWhole) {
  FakeHost host({{0, kMiB}});
  host.config.blind_passes = 1;
  host.config.parity_percent_blind = 0;
  host.Init();
  host.Begin();
  Reassembler second;
  second.keys = host.secrets.wire;
  host.on_packet = [&](const SentPacket& p) {
    if (host.sender->pass == 2) second.Add(p);
    if (p.hdr().type == DCAST_SYMBOL) {
      EXPECT_LT(p.hdr().index, p.hdr().k);
    }
  };
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  for (const auto& [pfn, cls] : host.class_override) {
    if (cls != 0) {
      ASSERT_TRUE(second.blocks.count({cls, pfn / 16}));
    }
  }
}

TEST(Passes, RelaysKnownButSilentLeadToFurtherPasses) {
  FakeHost host({{0, kMiB}});
  host.config.blind_passes = 1;
  host.Init();
  host.Hello(1);  // heard while armed, then never again
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_PASS, 3'000 * kMs));
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 30'000 * kMs));
}

TEST(Passes, NothingIsLeftToSendWithoutAnAnswerOnlyBehindTheLastOne) {
  FakeHost host({{0, kMiB}});
  host.config.blind_passes = 1;
  host.Init();
  host.Hello(1);
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  EXPECT_EQ(host.sender->pass, 1u);
  EXPECT_FALSE(dcast_sender_unanswered(host.sender.get()));
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_PASS, 3'000 * kMs));
  EXPECT_FALSE(dcast_sender_unanswered(host.sender.get()));
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  EXPECT_TRUE(dcast_sender_unanswered(host.sender.get()));
  host.Hello(1);
  EXPECT_FALSE(dcast_sender_unanswered(host.sender.get()));
}

TEST(Passes, RelayHeardInAFurtherPassEndsItAndIsServed) {
  FakeHost host({{0, 8 * kMiB}});
  host.config.blind_passes = 100;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_PASS));
  host.Run([&] { return host.sender->pass == 2 && host.sender->pass_done > 20; });
  host.Hello(1);
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER, 1'000 * kMs));
  host.Commit(1);
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 1'000 * kMs));
}

TEST(Walk, PresenceNamedBlockThatIsGoneIsAnsweredWithEmpty) {
  FakeHost host({{0, 2 * kMiB}});
  for (auto& [pfn, cls] : host.class_override) cls = 1;
  host.config.slots = 1;
  host.Init();
  host.Begin();
  host.Run([&] { return host.sender->walk.stage == DCAST_WALK_CORE; });
  for (uint64_t pfn = 320; pfn < 336; ++pfn) host.class_override[pfn] = 0;  // window 20
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  const auto empties = host.Sent(DCAST_EMPTY);
  ASSERT_EQ(empties.size(), 1u);
  EXPECT_EQ(empties[0]->number(), 20u);
  EXPECT_EQ(empties[0]->hdr().block_class, 1);
}

TEST(Encode, RepeatedEncodingOfUnchangedMemoryHasTheSameDigest) {
  FakeHost host({{0, 2 * kMiB}});
  host.config.blind_passes = 2;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  std::map<BlockId, std::set<uint64_t>> digests;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL)) {
    digests[{p->hdr().block_class, p->number()}].insert(dcast_le64(p->hdr().digest));
  }
  for (const auto& [id, set] : digests) EXPECT_EQ(set.size(), 1u);
}

TEST(Encode, LargestPagesAndBlocksFit) {
  FakeHost host({{0, 4 * kMiB}});
  for (auto& [pfn, cls] : host.class_override) cls = 2;
  host.config.codecs = 1 << DCAST_CODEC_NONE;
  host.config.symbol_size = DCAST_MIN_SYMBOL_BYTES;
  host.Init();
  host.Begin();
  ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  unsigned largest = 0;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL))
    largest = std::max<unsigned>(largest, p->hdr().k);
  EXPECT_GE(largest, 50u);
  EXPECT_LE(largest, 61u);
}

TEST(Config, MistakesAreRefusedWithWhatWasWanted) {
  const auto refused = [](void (*spoil)(dcast_config*)) -> std::string {
    FakeHost host({{0, kMiB}});
    spoil(&host.config);
    dcast_sender s;
    const char* why = nullptr;
    std::vector<uint8_t> scratch(4 << 20);
    EXPECT_EQ(dcast_sender_init(&s, &host.config, &host.rim, scratch.data(), &why), -22);
    return why ? why : "";
  };
  EXPECT_NE(refused([](dcast_config* c) { c->paths = 9; }).find("paths"), std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->lanes = 65; }).find("lanes"), std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->mode = 2; }).find("mode"), std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->page_shift = 11; }).find("page"), std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->slots = 17; }).find("slots"), std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->symbol_size = 1090; }).find("1088"),
            std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->symbol_size = 8848; }).find("8840"),
            std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->commits_wanted = 65; }).find("commits"),
            std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->parity_percent = 101; }).find("parity"),
            std::string::npos);
  EXPECT_NE(refused([](dcast_config* c) { c->origin = 0; }).find("origin"), std::string::npos);
}

}  // namespace
}  // namespace dumpcast
