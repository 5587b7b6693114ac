// SPDX-License-Identifier: Apache-2.0
#include "relay/pace.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

constexpr TimeNs kPeriod = 200 * kMillisecond;

class PaceTest : public testing::Test {
 protected:
  // One period in which this much came, was stored, waits for the store, and was dropped.
  bool Period(uint64_t received, uint64_t stored = 0, uint64_t pending = 0, uint64_t drops = 0) {
    pace_.NoteReceived(now_, received);
    now_ += kPeriod;
    pace_.NoteStored(stored);
    if (drops != 0) pace_.NoteSocketDrops(drops);
    return pace_.Update(now_, pending, 0);
  }
  // Periods of a sender that sends `rate` bytes/s, or what it is told if that is less, through a
  // network that lets `through(rate)` of it pass; what came in the last, bytes/s.
  double Send(int periods, double rate, const std::function<double(double)>& through) {
    constexpr double kPacket = 1400;
    double came = 0;
    for (int i = 0; i < periods; ++i) {
      const double told = pace_.KibPerSecond(1) * 1024.0;
      sent_ = told == 0 ? rate : std::min(rate, told);
      came = through(sent_);
      const auto packets = static_cast<int>(came / 5 / kPacket);
      const auto lost = static_cast<int>((sent_ - came) / 5 / kPacket);
      for (int p = 0; p < packets; ++p) pace_.NoteInSequence(p == 0 ? lost : 0);
      pace_.NoteReceived(now_, static_cast<uint64_t>(came / 5));
      now_ += kPeriod;
      if (lost * 25 > packets) ++lacking_;
      pace_.Update(now_, 0, lacking_);
    }
    return came;
  }
  uint64_t lacking_ = 0;
  double sent_ = 0;
  EngineConfig config_;
  Pace pace_{config_};
  TimeNs now_ = kSecond;
};

TEST_F(PaceTest, NothingHurtsMeansNoLimit) {
  for (int i = 0; i < 20; ++i) Period(100 << 20, 100 << 20);
  EXPECT_EQ(pace_.KibPerSecond(1), 0u);
}

TEST_F(PaceTest, NumbersLeftOutByTheBillionStillMakeALimit) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (uint64_t lacking = 1; lacking < 10; ++lacking) {
    pace_.NoteReceived(now_, 20 << 20);
    for (int i = 0; i < 3; ++i) pace_.NoteInSequence(kMost);
    pace_.Update(now_ += kPeriod, 0, lacking);
  }
  EXPECT_GT(pace_.KibPerSecond(1), 0u);
}

TEST_F(PaceTest, SocketDropsLimitBelowWhatCame) {
  Period(0);
  EXPECT_TRUE(Period(20 << 20, 20 << 20, 0, 5)) << "told at once";
  const uint32_t came_kib_s = 5 * 20 * 1024;
  EXPECT_LT(pace_.KibPerSecond(1), came_kib_s);
  EXPECT_GT(pace_.KibPerSecond(1), came_kib_s / 2);
}

TEST_F(PaceTest, ADumpThatBeganWithinThePeriodIsNotTakenForASlowOne) {
  Period(0);
  now_ += kPeriod * 3 / 4;
  pace_.NoteReceived(now_, 20 << 20);
  pace_.NoteSocketDrops(5);
  now_ += kPeriod / 4;
  EXPECT_TRUE(pace_.Update(now_, 0, 0));
  const uint32_t came_kib_s = 20 * 20 * 1024;
  EXPECT_LT(pace_.KibPerSecond(1), came_kib_s);
  EXPECT_GT(pace_.KibPerSecond(1), came_kib_s / 2);
}

TEST_F(PaceTest, LongStoreQueueLimitsToWhatTheStoreTook) {
  Period(0);
  Period(20 << 20, 2 << 20, config_.store_queue_bytes);
  EXPECT_LE(pace_.KibPerSecond(1), 5u * 2 * 1024);
  EXPECT_GT(pace_.KibPerSecond(1), 0u);
}

TEST_F(PaceTest, AStoreThatStandsStillNeverStopsTheSenderAltogether) {
  Period(0);
  for (int i = 0; i < 50; ++i) Period(20 << 20, 0, config_.store_queue_bytes, 1);
  EXPECT_EQ(pace_.KibPerSecond(1), 256u);
  EXPECT_GE(pace_.KibPerSecond(100000), 1u) << "0 would mean no limit";
}

TEST_F(PaceTest, LimitRisesAndIsForgottenInTheEnd) {
  Period(0);
  Period(20 << 20, 20 << 20, 0, 5);
  const uint32_t limit = pace_.KibPerSecond(1);
  Period(1 << 20, 1 << 20);
  EXPECT_GT(pace_.KibPerSecond(1), limit);
  for (int i = 0; i < 100; ++i) Period(1 << 20, 1 << 20);
  EXPECT_EQ(pace_.KibPerSecond(1), 0u);
}

TEST_F(PaceTest, ANetworkThatIsTooSlowSetsTheRate) {
  const auto bottleneck = [](double rate) { return std::min(rate, 25e6); };
  Send(20, 200e6, bottleneck);
  double sent = 0;
  for (int i = 0; i < 50; ++i) {
    EXPECT_GE(Send(1, 200e6, bottleneck), 20e6) << "it is used";
    sent += sent_ / 50;
  }
  EXPECT_LT(sent, 35e6);
  // And when it is fast again, so is the sender.
  Send(50, 200e6, [](double rate) { return rate; });
  EXPECT_EQ(sent_, 200e6);
}

TEST_F(PaceTest, WhenMostIsLostOnePeriodTellsIt) {
  const auto bottleneck = [](double rate) { return std::min(rate, 25e6); };
  Period(0);
  Send(1, 200e6, bottleneck);
  Send(1, 200e6, bottleneck);
  EXPECT_LT(sent_, 30e6);
}

TEST_F(PaceTest, ANetworkThatLosesALittleAtItsLimitIsNotAskedForMoreAtOnce) {
  const auto bottleneck = [](double rate) { return std::min(rate, 25e6); };
  Send(20, 200e6, bottleneck);
  for (int i = 0; i < 5; ++i) {
    Send(1, 200e6, [](double rate) { return rate * 0.95; });
    EXPECT_LT(sent_, 30e6);
  }
}

TEST_F(PaceTest, ASenderThatHasLessToSendForAWhileIsNotJudgedByIt) {
  const auto bottleneck = [](double rate) { return std::min(rate, 25e6); };
  Send(20, 200e6, bottleneck);
  Send(20, 2e6, [](double rate) { return rate * 0.8; });
  EXPECT_GE(Send(3, 200e6, bottleneck), 20e6);
  EXPECT_LT(sent_, 40e6);
}

TEST_F(PaceTest, LossThatDoesNotComeOfTheRateDoesNotSlowTheSender) {
  const auto lossy = [](double rate) { return rate * 0.7; };
  double came = 0;
  for (int i = 0; i < 500; ++i) came += Send(1, 100e6, lossy) / 500;
  EXPECT_GT(came, 0.95 * 70e6);
}

TEST_F(PaceTest, LossThatNoBlockSuffersFromIsNone) {
  // Another path brings what one loses.
  for (int i = 0; i < 20; ++i) {
    for (int p = 0; p < 100; ++p) pace_.NoteInSequence(1);
    pace_.NoteReceived(now_, 20 << 20);
    now_ += kPeriod;
    pace_.Update(now_, 0, 7);
  }
  EXPECT_EQ(pace_.KibPerSecond(1), 0u);
}

TEST_F(PaceTest, DumpsShareTheLimit) {
  Period(0);
  Period(20 << 20, 20 << 20, 0, 5);
  EXPECT_NEAR(pace_.KibPerSecond(4), pace_.KibPerSecond(1) / 4.0, 1);
}

TEST_F(PaceTest, ARelayThatSaysNothingForASecondHasNoSayAndSoRepeats) {
  int told = 0;
  for (int i = 0; i < 26; ++i) told += Period(1 << 20, 1 << 20);
  EXPECT_GE(told, 5);
  EXPECT_LE(told, 7);
}

TEST_F(PaceTest, ALongPauseIsNoMeasurement) {
  Period(0);
  now_ += 60 * kSecond;
  Period(1, 0, config_.store_queue_bytes, 1);
  EXPECT_EQ(pace_.KibPerSecond(1), 0u);
}

}  // namespace
}  // namespace dumpcast
