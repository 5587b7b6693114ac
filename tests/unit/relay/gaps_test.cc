// SPDX-License-Identifier: Apache-2.0
#include "relay/gaps.h"

#include <cstring>

#include "gtest/gtest.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

// A dump of class 1 windows 0..99, META and PRESENCE held.
class GapsTest : public testing::Test {
 protected:
  GapsTest() : budget_(1 << 20, 1 << 20), assembler_(&budget_, &counters_) {
    const auto encodings = SenderDouble::Class0Encodings(100);
    const uint64_t presence = dcast_class0_number(DCAST_STREAM_PRESENCE, 0);
    EXPECT_TRUE(class0_.Add(0, encodings[0]).ok());
    EXPECT_TRUE(class0_.Add(presence, encodings[1]).ok());
    held_[0].Add(0);
    held_[0].Add(presence);
  }
  // The walk brings windows first..last, one each millisecond, but those of `lost`.
  void Walk(uint64_t first, uint64_t last, const std::vector<uint64_t>& lost = {}) {
    for (uint64_t w = first; w <= last; ++w) {
      now_ += kMillisecond;
      if (std::find(lost.begin(), lost.end(), w) != lost.end()) continue;
      gaps_.NoteHeard(now_);
      gaps_.NoteBlock(now_, 1, w, false);
      held_[1].Add(w);
    }
  }
  std::vector<uint64_t> Missing(TimeNs later, size_t limit = 1000) {
    std::vector<uint64_t> numbers;
    for (const BlockName& name : gaps_.Missing(now_ + later, class0_, held_, assembler_, limit))
      numbers.push_back(name.number);
    return numbers;
  }

  EngineConfig config_;
  Counters counters_;
  AssemblyBudget budget_;
  Assembler assembler_;
  Class0 class0_{~uint64_t{0}};
  GapDetector::Held held_;
  GapDetector gaps_{config_};
  TimeNs now_ = kSecond;
};

TEST_F(GapsTest, WhatTheWalkHasPassedIsMissingAfterAQuietWhile) {
  Walk(0, 19, {3, 4});
  EXPECT_TRUE(Missing(0).empty()) << "may be interleaved, or late";
  gaps_.NoteHeard(now_ + gaps_.quiet_ns());
  EXPECT_EQ(Missing(gaps_.quiet_ns()), (std::vector<uint64_t>{3, 4}));
}

TEST_F(GapsTest, WhatIsStillToComeIsNotMissing) {
  Walk(0, 19);
  now_ += gaps_.quiet_ns();
  gaps_.NoteHeard(now_);
  EXPECT_TRUE(Missing(0).empty());
}

TEST_F(GapsTest, AfterTheEndEverythingIsDue) {
  Walk(0, 19, {3});
  gaps_.NoteWalkDone();
  EXPECT_EQ(Missing(0).size(), 81u);
  EXPECT_EQ(Missing(0, 5).size(), 5u);
}

TEST_F(GapsTest, ASenderThatFellSilentOwesEverything) {
  Walk(0, 19);
  EXPECT_TRUE(Missing(config_.stall_ns - 1).empty());
  EXPECT_EQ(Missing(config_.stall_ns).size(), 80u);
}

TEST_F(GapsTest, RepeatsDoNotMoveTheWalk) {
  Walk(0, 9);
  for (int i = 0; i < 100; ++i) {
    now_ += 10 * kMillisecond;
    gaps_.NoteHeard(now_);
    gaps_.NoteBlock(now_, 1, 99, true);  // another relay had asked for it
  }
  EXPECT_TRUE(Missing(0).empty());
}

TEST_F(GapsTest, ABlockThatHasBegunWaitsUntilItIsQuiet) {
  Walk(0, 19, {5});
  now_ += gaps_.quiet_ns();
  gaps_.NoteHeard(now_);
  SenderDouble sender;
  const std::string packet = sender.Symbol(1, 5, std::string(5000, 'x'), 0);
  dcast_hdr hdr;
  std::memcpy(&hdr, packet.data(), sizeof(hdr));
  std::optional<Assembler::Block> block;
  (void)assembler_.Add(now_, hdr, std::string_view(packet).substr(sizeof(hdr)),
                       SenderDouble::Keys(), &block);
  EXPECT_TRUE(Missing(0).empty());
  EXPECT_EQ(Missing(gaps_.quiet_ns()), std::vector<uint64_t>{5});
}

TEST_F(GapsTest, ASlowSenderIsGivenMoreTime) {
  const TimeNs fast = gaps_.quiet_ns();
  for (uint64_t w = 0; w < 50; ++w) {
    now_ += 20 * kMillisecond;
    gaps_.NoteBlock(now_, 1, w, false);
  }
  EXPECT_GT(gaps_.quiet_ns(), 10 * fast);
  EXPECT_LE(gaps_.quiet_ns(), 5 * kSecond);
}

TEST_F(GapsTest, MetaIsAskedForFirstWhenNothingElseIsKnown) {
  Class0 none(~uint64_t{0});
  GapDetector::Held held;
  gaps_.NoteHeard(now_);
  gaps_.NoteBlock(now_, 1, 7, false);
  const auto missing = gaps_.Missing(now_ + gaps_.quiet_ns(), none, held, assembler_, 10);
  ASSERT_FALSE(missing.empty());
  EXPECT_EQ(missing[0], (BlockName{0, 0}));
}

}  // namespace
}  // namespace dumpcast
