// SPDX-License-Identifier: Apache-2.0
// Paths that stop, come back, or never were; and the rate they run at.
#include <map>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMs = 1'000'000;

class PathsTest : public ::testing::TestWithParam<dcast_path_mode> {
 protected:
  PathsTest() : host_({{0, 8 * kMiB}}) {
    host_.config.paths = 2;
    host_.config.mode = static_cast<__u8>(GetParam());
    host_.config.rate_kib_s = 40 * 1024;  // so that the dump takes a while of its clock
    got_.keys = host_.secrets.wire;
    host_.on_packet = [this](const SentPacket& p) { got_.Add(p); };
  }
  void ExpectAllBlocks() {
    for (const auto& [pfn, cls] : host_.class_override) {
      if (cls != 0) {
        ASSERT_TRUE(got_.blocks.count({cls, pfn / 16}))
            << "class " << unsigned{cls} << " page " << pfn;
      }
    }
  }
  uint64_t Skipped(unsigned path) const {
    return dcast_sender_stats(host_.sender.get())->skipped[path];
  }
  FakeHost host_;
  Reassembler got_;
};

TEST_P(PathsTest, PathThatLosesItsCarrierIsPassedByAndComesBack) {
  host_.Init();
  host_.Begin();
  host_.Run([&] { return host_.packets.size() > 1000; });
  host_.path_up[1] = false;
  const size_t cut = host_.packets.size();
  host_.Run([&] { return host_.packets.size() > cut + 1000; });
  for (size_t i = cut; i < host_.packets.size(); ++i) EXPECT_EQ(host_.packets[i].path, 0u);
  EXPECT_GT(Skipped(1), 100u);
  EXPECT_EQ(Skipped(0), 0u);
  host_.path_up[1] = true;
  const uint64_t back = host_.now_ns;
  host_.Run([&] { return host_.packets.back().path == 1; }, 30 * kMs);
  EXPECT_EQ(host_.packets.back().path, 1u) << "not tried within 30 ms";
  EXPECT_LE(host_.now_ns - back, 21 * kMs);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  ExpectAllBlocks();
}

TEST_P(PathsTest, PathWithoutBuffersIsWaitedForFiveMilliseconds) {
  host_.Init();
  host_.Begin();
  host_.Run([&] { return host_.packets.size() > 1000; });
  host_.path_blocked[0] = true;
  const uint64_t blocked = host_.now_ns;
  const size_t cut = host_.packets.size();
  host_.Run([&] { return host_.packets.size() > cut + 50; });
  if (GetParam() == DCAST_MIRROR) {
    EXPECT_GE(host_.now_ns - blocked, 5 * kMs);
  }
  EXPECT_LE(host_.now_ns - blocked, 40 * kMs);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  ExpectAllBlocks();
}

TEST_P(PathsTest, AllPathsDownLosesNothing) {
  host_.Init();
  host_.Begin();
  host_.Run([&] { return host_.packets.size() > 1000; });
  host_.path_up[0] = host_.path_up[1] = false;
  const size_t cut = host_.packets.size();
  host_.Run([] { return false; }, 500 * kMs);
  EXPECT_EQ(host_.packets.size(), cut);
  host_.path_up[0] = host_.path_up[1] = true;
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  ExpectAllBlocks();
}

TEST_P(PathsTest, DumpWithoutAnyPathEndsAtItsTimeLimit) {
  host_.config.time_limit_ns = 2'000 * kMs;
  host_.Init();
  host_.path_up[0] = host_.path_up[1] = false;
  host_.Begin();
  EXPECT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE, 3'000 * kMs));
  EXPECT_TRUE(host_.packets.empty());
  EXPECT_EQ(dcast_sender_wake_ns(host_.sender.get()), ~0ull);
}

INSTANTIATE_TEST_SUITE_P(Modes, PathsTest, ::testing::Values(DCAST_MIRROR, DCAST_STRIPE));

// Payload bytes per second of one path's symbols in a stretch of the middle of the dump.
double KibPerSecond(FakeHost& host, unsigned path, uint64_t stretch_ns) {
  host.Run([] { return false; }, 100 * kMs);
  const uint64_t before = dcast_sender_stats(host.sender.get())->bytes[path];
  const uint64_t from = host.now_ns;
  host.Run([] { return false; }, stretch_ns);
  const double bytes =
      static_cast<double>(dcast_sender_stats(host.sender.get())->bytes[path] - before);
  return bytes / 1024 / (static_cast<double>(host.now_ns - from) / 1e9);
}

class PaceTest : public ::testing::Test {
 protected:
  PaceTest() : host_({{0, 32 * kMiB}}) {
    host_.keep_packets = false;
    host_.config.slots = 16;
  }
  FakeHost host_;
};

TEST_F(PaceTest, CeilingHoldsToAPercent) {
  host_.config.rate_kib_s = 10'000;
  host_.Init();
  host_.Begin();
  EXPECT_NEAR(KibPerSecond(host_, 0, 1'000 * kMs), 10'000, 150);
}

TEST_F(PaceTest, StripeRunsEachPathAtTheCeiling) {
  host_.config.rate_kib_s = 5'000;
  host_.config.paths = 2;
  host_.config.mode = DCAST_STRIPE;
  host_.Init();
  host_.Begin();
  EXPECT_NEAR(KibPerSecond(host_, 0, 500 * kMs), 5'000, 150);
  EXPECT_NEAR(KibPerSecond(host_, 1, 500 * kMs), 5'000, 150);
}

TEST_F(PaceTest, RunsAtTheSecondFastestOfThreeRelaysWhenTwoCommitsAreWanted) {
  host_.config.commits_wanted = 2;
  host_.Init();
  host_.Begin();
  host_.Hello(1, 1'000);
  host_.Hello(2, 8'000);
  host_.Hello(3, 0);  // no limit
  EXPECT_NEAR(KibPerSecond(host_, 0, 1'000 * kMs), 8'000, 150);
}

TEST_F(PaceTest, PaceMessageChangesTheRateAndTheCeilingStillHolds) {
  host_.config.rate_kib_s = 6'000;
  host_.Init();
  host_.Begin();
  host_.Hello(1, 3'000);
  EXPECT_NEAR(KibPerSecond(host_, 0, 500 * kMs), 3'000, 100);
  const dcast_pace pace = {dcast_to_le32(100'000), 0};
  host_.Reply(1, DCAST_PACE, &pace, sizeof(pace));
  EXPECT_NEAR(KibPerSecond(host_, 0, 500 * kMs), 6'000, 150);
}

TEST_F(PaceTest, RelayHeardOnBothMirroredPathsGetsItsPaceInAll) {
  host_.config.paths = 2;
  host_.Init();
  host_.Begin();
  host_.Hello(1, 8'000, 0);
  host_.Hello(1, 8'000, 1);
  EXPECT_NEAR(KibPerSecond(host_, 0, 500 * kMs), 4'000, 150);
}

TEST_F(PaceTest, RelaySilentForFiveSecondsHasNoSay) {
  host_.config.commits_wanted = 2;
  host_.config.rate_kib_s = 2'500;
  host_.Init();
  host_.Begin();
  host_.Hello(1, 300);
  host_.Hello(2, 0);
  EXPECT_NEAR(KibPerSecond(host_, 0, 1'000 * kMs), 300, 20);
  for (int i = 0; i < 5; ++i) {
    host_.Run([] { return false; }, 1'000 * kMs);
    host_.Hello(2, 0);
  }
  EXPECT_NEAR(KibPerSecond(host_, 0, 1'000 * kMs), 2'500, 60);
}

}  // namespace
}  // namespace dumpcast
