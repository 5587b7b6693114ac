// SPDX-License-Identifier: Apache-2.0
#include "relay/arbitrate.h"

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

TEST(SeqWindowTest, TheSameNumberTwiceIsSeen) {
  SeqWindow window;
  EXPECT_EQ(window.Note(5), SeqVerdict::kNew);
  EXPECT_EQ(window.Note(5), SeqVerdict::kSeen);
  EXPECT_EQ(window.Note(6), SeqVerdict::kNew);
  EXPECT_EQ(window.Note(5), SeqVerdict::kSeen);
}

TEST(SeqWindowTest, ReorderedNumbersAreNewAndNotLost) {
  SeqWindow window;
  for (const uint64_t seq : {1, 4, 3, 2, 6}) EXPECT_EQ(window.Note(seq), SeqVerdict::kNew);
  EXPECT_EQ(window.lost(), 1u);
  EXPECT_EQ(window.Note(5), SeqVerdict::kNew);
  EXPECT_EQ(window.lost(), 0u);
  EXPECT_EQ(window.came(), 6u);
}

TEST(SeqWindowTest, GapsAreLoss) {
  SeqWindow window;
  window.Note(100);
  window.Note(200);
  EXPECT_EQ(window.lost(), 99u);
  window.Note(200 + 5 * SeqWindow::kBits);
  EXPECT_EQ(window.lost(), 99u + 5 * SeqWindow::kBits - 1);
}

TEST(SeqWindowTest, WhatIsTooOldCannotBeTold) {
  SeqWindow window;
  window.Note(1);
  window.Note(1 + SeqWindow::kBits);
  EXPECT_EQ(window.Note(1), SeqVerdict::kOld);
  EXPECT_EQ(window.Note(2), SeqVerdict::kNew);
}

TEST(SeqWindowTest, ASlidingWindowForgetsNothingInsideIt) {
  SeqWindow window;
  for (uint64_t seq = 1; seq < 4 * SeqWindow::kBits; seq += 2) window.Note(seq);
  const uint64_t newest = 4 * SeqWindow::kBits - 1;
  for (uint64_t seq = newest; seq > newest - SeqWindow::kBits; --seq)
    EXPECT_EQ(window.Note(seq), seq % 2 == 1 ? SeqVerdict::kSeen : SeqVerdict::kNew);
}

TEST(SeqTableTest, PathsLanesAndOriginsCountByThemselves) {
  SeqTable table;
  EXPECT_EQ(table.Note(1, 1, 0, 0, 7), SeqVerdict::kNew);
  EXPECT_EQ(table.Note(1, 1, 1, 0, 7), SeqVerdict::kNew);
  EXPECT_EQ(table.Note(1, 1, 0, 1, 7), SeqVerdict::kNew);
  EXPECT_EQ(table.Note(1, 2, 0, 0, 7), SeqVerdict::kNew);
  EXPECT_EQ(table.Note(1, 1, 0, 0, 7), SeqVerdict::kSeen);
  table.Note(1, 1, 0, 0, 10);
  table.Note(1, 1, 0, 1, 9);
  EXPECT_EQ(table.Lost(1, 0), 2u + 1u);
  EXPECT_EQ(table.Lost(1, 1), 0u);
}

TEST(SeqTableTest, AnnouncesMustRise) {
  SeqTable table;
  table.Note(1, 1, 0, 0, 5);
  EXPECT_TRUE(table.Rising(1, 0, 0, 5));
  table.Note(1, 1, 0, 0, 4);  // never came before, and yet too late
  EXPECT_FALSE(table.Rising(1, 0, 0, 4));
  EXPECT_FALSE(table.Rising(1, 0, 0, 5));
  EXPECT_TRUE(table.Rising(1, 0, 0, 6));
}

TEST(SeqTableTest, ManyOriginsDoNotGrowItWithoutBound) {
  SeqTable table;
  for (uint64_t origin = 0; origin < 3 * SeqTable::kMaxWindows; ++origin)
    table.Note(origin, origin, 0, 0, 1);
  // The newest are still known, the oldest are not.
  EXPECT_EQ(table.Note(1, 3 * SeqTable::kMaxWindows - 1, 0, 0, 1), SeqVerdict::kSeen);
  EXPECT_EQ(table.Note(1, 0, 0, 0, 1), SeqVerdict::kNew);
}

}  // namespace
}  // namespace dumpcast
