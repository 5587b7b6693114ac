// SPDX-License-Identifier: Apache-2.0
// Packets from relays: the table, replays, admission, commits.
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMs = 1'000'000;

class RelaysTest : public ::testing::Test {
 protected:
  RelaysTest() : host_({{0, 4 * kMiB}}) {}
  void Input(const std::vector<uint8_t>& packet, unsigned path = 0) {
    dcast_sender_input(host_.sender.get(), host_.now_ns, path, packet.data(),
                       static_cast<__u32>(packet.size()));
  }
  std::vector<uint8_t> MakeHello(uint64_t id, uint64_t seq) {
    dcast_hello hello = {};
    std::memset(hello.name, 'x', sizeof(hello.name));
    return host_.MakeReply(id, seq, DCAST_HELLO, &hello, sizeof(hello));
  }
  const dcast_stats& stats() const { return *dcast_sender_stats(host_.sender.get()); }
  uint32_t Relays() const {
    uint32_t n = 0;
    while (dcast_sender_relay(host_.sender.get(), n) != nullptr) ++n;
    return n;
  }
  FakeHost host_;
};

TEST_F(RelaysTest, EachKindOfBadPacketIsCountedAndChangesNothing) {
  host_.Init();
  const std::vector<uint8_t> good = MakeHello(1, 1);
  const auto damaged = [&](size_t at) {
    std::vector<uint8_t> p = good;
    p[at] ^= 0x80;
    return p;
  };
  for (size_t len = 0; len < good.size(); ++len) Input({good.begin(), good.begin() + len});
  EXPECT_EQ(stats().rx_bad_format, good.size());
  Input(damaged(offsetof(dcast_hdr, magic)));
  Input(damaged(offsetof(dcast_hdr, major)));
  Input(damaged(offsetof(dcast_hdr, payload_len)));
  EXPECT_EQ(stats().rx_bad_format, good.size() + 3);
  Input(damaged(offsetof(dcast_hdr, host_id)));
  Input(damaged(offsetof(dcast_hdr, dump_id)));
  EXPECT_EQ(stats().rx_foreign, 2u);
  Input(damaged(offsetof(dcast_hdr, mac)));
  Input(damaged(offsetof(dcast_hdr, seq)));
  Input(damaged(sizeof(dcast_hdr) + 3));
  EXPECT_EQ(stats().rx_bad_mac, 3u);
  EXPECT_EQ(Relays(), 0u);
  Input(good);
  ASSERT_EQ(Relays(), 1u);
  EXPECT_EQ(dcast_sender_relay(host_.sender.get(), 0)->name[63], 0) << "name without an end";
}

TEST_F(RelaysTest, ReplayedAndReorderedPacketsAreRefused) {
  host_.Init();
  Input(MakeHello(1, 5));
  Input(MakeHello(1, 5));
  Input(MakeHello(1, 4));
  EXPECT_EQ(stats().rx_replayed, 2u);
  Input(MakeHello(1, 6));
  EXPECT_EQ(stats().rx_replayed, 2u);
  EXPECT_EQ(Relays(), 1u);
}

TEST_F(RelaysTest, FullTableSaysSoAndForgetsTheLongSilent) {
  host_.Init();
  for (uint64_t id = 1; id <= 65; ++id) Input(MakeHello(id, 1));
  EXPECT_EQ(Relays(), 64u);
  EXPECT_EQ(stats().relay_table_full, 1u);
  host_.now_ns += 61'000 * kMs;
  Input(MakeHello(66, 1));
  EXPECT_EQ(Relays(), 64u);
  EXPECT_EQ(stats().relay_table_full, 1u);
  EXPECT_EQ(dcast_sender_relay(host_.sender.get(), 0)->id, 66u);
}

TEST_F(RelaysTest, AdoptedRelaysKeepTheirSequenceAndPace) {
  host_.Init();
  host_.Hello(9, 1234);
  FakeHost second({{0, kMiB}});
  second.Init();
  dcast_sender_adopt_relays(second.sender.get(), host_.sender.get());
  second.Begin();
  const dcast_relay_info* relay = dcast_sender_relay(second.sender.get(), 0);
  ASSERT_NE(relay, nullptr);
  EXPECT_EQ(relay->id, 9u);
  EXPECT_EQ(relay->pace_kib_s, 1234u);
  EXPECT_EQ(relay->verdict, DCAST_VERDICT_NONE);
  const auto old = host_.MakeReply(9, 1, DCAST_HELLO, "", 0);
  dcast_sender_input(second.sender.get(), 1, 0, old.data(), static_cast<__u32>(old.size()));
  EXPECT_EQ(dcast_sender_stats(second.sender.get())->rx_replayed, 1u);
}

TEST_F(RelaysTest, HalfWrittenTableIsAdoptedWithoutHarm) {
  host_.Init();
  FakeHost second({{0, kMiB}});
  second.Init();
  std::memset(static_cast<void*>(host_.sender->relays), 0xff, sizeof(host_.sender->relays));
  host_.sender->nr_relays = 0xffffffff;
  host_.sender->relays[3].id = 0;
  dcast_sender_adopt_relays(second.sender.get(), host_.sender.get());
  for (uint32_t i = 0; dcast_sender_relay(second.sender.get(), i) != nullptr; ++i) {
    ASSERT_LT(i, 64u);
    EXPECT_EQ(dcast_sender_relay(second.sender.get(), i)->name[63], 0);
    EXPECT_EQ(dcast_sender_relay(second.sender.get(), i)->commit_mask, 0u);
  }
}

TEST_F(RelaysTest, TwoOfThreeCommitsEndTheDumpByDefault) {
  host_.config.linger_ns = 60'000 * kMs;
  host_.Init();
  host_.Begin();
  for (uint64_t id = 1; id <= 3; ++id) host_.Hello(id);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  host_.Commit(2);
  host_.Run([] { return false; }, 300 * kMs);
  EXPECT_EQ(dcast_sender_phase(host_.sender.get()), DCAST_PHASE_LINGER);
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
  host_.packets.clear();
  host_.Commit(3);
  EXPECT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE, 500 * kMs));
  EXPECT_TRUE(dcast_sender_committed(host_.sender.get()));
  unsigned done = 0;
  for (const SentPacket* p : host_.Sent(DCAST_ANNOUNCE)) {
    done += p->as<dcast_announce>().state == DCAST_ST_DONE;
  }
  EXPECT_EQ(done, 3u);
}

TEST_F(RelaysTest, EveryLaneNeedsItsCommits) {
  host_.config.lanes = 2;
  host_.config.commits_wanted = 1;
  host_.config.linger_ns = 60'000 * kMs;
  host_.Init();
  host_.Begin();
  host_.Hello(1, 0, 0, 1);
  host_.Hello(2, 0, 0, 2);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  host_.Commit(1, 1);
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
  host_.Commit(2, 2);
  EXPECT_TRUE(dcast_sender_committed(host_.sender.get()));
}

TEST_F(RelaysTest, LingerEndsWhenNobodyCommits) {
  host_.config.linger_ns = 700 * kMs;
  host_.Init();
  host_.Begin();
  host_.Hello(1);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  const uint64_t from = host_.now_ns;
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  EXPECT_GE(host_.now_ns - from, 700 * kMs);
  EXPECT_LE(host_.now_ns - from, 1'000 * kMs);
  EXPECT_GE(host_.Sent(DCAST_END).size(), 3u);
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
}

TEST_F(RelaysTest, LingerEndsThoughOneCommitIsToldAgainAndAgain) {
  host_.config.linger_ns = 700 * kMs;
  host_.config.commits_wanted = 2;
  host_.Init();
  host_.Begin();
  host_.Hello(1);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  const uint64_t from = host_.now_ns;
  for (int i = 0; i < 20 && dcast_sender_phase(host_.sender.get()) == DCAST_PHASE_LINGER; ++i) {
    host_.Commit(1);
    host_.Run([] { return false; }, 100 * kMs);
  }
  EXPECT_EQ(dcast_sender_phase(host_.sender.get()), DCAST_PHASE_DONE);
  EXPECT_LE(host_.now_ns - from, 1'100 * kMs);
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
}

TEST_F(RelaysTest, LogOnlyByAllWhoAnsweredSendsClassZeroAndSaysSo) {
  host_.config.slots = 1;
  host_.Init();
  host_.Begin();
  for (uint64_t id = 1; id <= 3; ++id) host_.Hello(id);
  host_.Admit(1, DCAST_ADMIT_LOG_ONLY);
  host_.Admit(2, DCAST_ADMIT_LOG_ONLY);  // 3 is silent
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  host_.Run([&] { return !host_.Sent(DCAST_END).empty(); }, 1'000 * kMs);
  for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
    EXPECT_EQ(p->hdr().block_class, 0);
    EXPECT_LE(p->number() >> 48, DCAST_STREAM_LOG);
  }
  const auto& end = host_.Sent(DCAST_END)[0]->as<dcast_end>();
  EXPECT_TRUE(end.flags & DCAST_END_LOG_ONLY);
  EXPECT_GT(dcast_le64(end.cls[0].blocks), 0u);
  EXPECT_EQ(dcast_le64(end.cls[2].blocks), 0u);
}

TEST_F(RelaysTest, OneFullAnswerAfterLogOnlyResumesTheWalk) {
  host_.Init();
  host_.Begin();
  host_.Hello(1);
  host_.Admit(1, DCAST_ADMIT_LOG_ONLY);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
  host_.Admit(2, DCAST_ADMIT_FULL);
  Reassembler got;
  got.keys = host_.secrets.wire;
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  for (const SentPacket& p : host_.packets) got.Add(p);
  for (const auto& [pfn, cls] : host_.class_override) {
    if (cls != 0) {
      ASSERT_TRUE(got.blocks.count({cls, pfn / 16}));
    }
  }
  EXPECT_EQ(host_.Sent(DCAST_END).back()->as<dcast_end>().flags, 0);
}

// Two relays are known; 1 says LOG_ONLY and commits the log, 2 has not answered.
void SendLogAlone(FakeHost& host) {
  host.config.commits_wanted = 1;
  host.config.linger_ns = 60'000 * kMs;
  host.Init();
  host.Hello(1);
  host.Hello(2);
  host.Begin();
  host.Admit(1, DCAST_ADMIT_LOG_ONLY);
  EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
  host.Commit(1);
}

TEST_F(RelaysTest, LogOnlyAwaitsTheAnswersOfAllWhoAreKnown) {
  for (const bool answers : {false, true}) {
    FakeHost host({{0, kMiB}});
    SendLogAlone(host);
    host.Run([] { return false; }, 300 * kMs);
    EXPECT_EQ(dcast_sender_phase(host.sender.get()), DCAST_PHASE_LINGER);
    if (answers) host.Admit(2, DCAST_ADMIT_LOG_ONLY);
    EXPECT_EQ(host.RunToPhase(DCAST_PHASE_DONE, 500 * kMs), answers);
    EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 2'000 * kMs));
  }
}

TEST_F(RelaysTest, CommitsOfTheLogAloneAreNoneOfTheMemory) {
  SendLogAlone(host_);
  EXPECT_TRUE(dcast_sender_committed(host_.sender.get()));
  host_.Admit(2, DCAST_ADMIT_FULL);
  host_.Commit(1);  // was under way
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
  host_.packets.clear();
  EXPECT_FALSE(host_.RunToPhase(DCAST_PHASE_DONE, 2'000 * kMs));
  EXPECT_FALSE(host_.Sent(DCAST_SYMBOL).empty());
  host_.Commit(2);
  EXPECT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE, 500 * kMs));
}

TEST_F(RelaysTest, WaitHoldsTheMemoryUntilItExpires) {
  host_.Init();
  host_.Begin();
  host_.Hello(1);
  host_.Admit(1, DCAST_ADMIT_WAIT, 800);
  host_.Admit(2, DCAST_ADMIT_WAIT, 5000);
  host_.Admit(3, DCAST_ADMIT_LOG_ONLY);
  host_.Run([] { return false; }, 700 * kMs);
  for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
    EXPECT_LE(p->number() >> 48, DCAST_STREAM_LOG);
    EXPECT_EQ(p->hdr().block_class, 0);
  }
  EXPECT_EQ(dcast_sender_phase(host_.sender.get()), DCAST_PHASE_WALK);
  EXPECT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER, 500 * kMs));
}

// A relay's packets with a right MAC and anything inside.
TEST_F(RelaysTest, RandomAuthenticatedPacketsNeverBreakTheEngine) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FakeHost host({{0, kMiB}}, seed);
    host.keep_packets = false;
    host.config.linger_ns = 300 * kMs;
    host.config.time_limit_ns = 20'000 * kMs;
    host.config.lanes = static_cast<__u8>(1 + seed % 64);
    host.Init();
    std::mt19937 rng(seed);
    host.Begin();
    for (uint64_t i = 1; i < 3000; ++i) {
      std::vector<uint8_t> payload(rng() % 300);
      for (uint8_t& b : payload) b = static_cast<uint8_t>(rng() % 3 ? 0 : rng());
      if (payload.size() >= 8 && rng() % 2) {  // a NAK that is nearly right
        payload[0] = static_cast<uint8_t>(rng() % 12);
        payload[4] = 32;
        payload[5] = payload[6] = payload[7] = payload[1] = payload[2] = payload[3] = 0;
      }
      const auto type = static_cast<uint8_t>(64 + rng() % 7);
      const auto packet = host.MakeReply(1 + rng() % 70, i, type, payload.data(), payload.size());
      dcast_sender_input(host.sender.get(), host.now_ns, rng() % 3, packet.data(),
                         static_cast<__u32>(packet.size()));
      host.now_ns += 1 + rng() % 100'000;
      dcast_sender_step(host.sender.get(), host.now_ns);
    }
    EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 30'000 * kMs));
  }
}

}  // namespace
}  // namespace dumpcast
