// SPDX-License-Identifier: Apache-2.0
#include "store/block_set.h"

#include <gtest/gtest.h>

#include "store/vmcore/block_codec.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::EncodeMeta;
using testing::EncodePresence;

std::string Raw(const std::string& encoded) {
  return encoded.substr(sizeof(dcast_block_hdr));
}
uint64_t Presence(uint64_t slice) {
  return dcast_class0_number(DCAST_STREAM_PRESENCE, slice);
}

TEST(BlockSetTest, SumsDoNotDependOnOrderAndSeeDigests) {
  const BlockKey a{1, 10, 5};
  const BlockKey b{1, 5000, 6};
  const BlockKey b_other{1, 5000, 7};
  BlockSet ab;
  ab.Add(a, 100);
  ab.Add(b, 50);
  BlockSet ba;
  ba.Add(b, 50);
  ba.Add(a, 100);
  EXPECT_EQ(ab.key_sum(), ba.key_sum());
  EXPECT_EQ(ab.encoded_bytes(), 150u);
  BlockSet divergent;
  divergent.Add(a, 100);
  divergent.Add(b_other, 50);
  EXPECT_NE(ab.key_sum(), divergent.key_sum());
  EXPECT_EQ(ab.bucket_sums(1).at(0), divergent.bucket_sums(1).at(0));
  EXPECT_NE(ab.bucket_sums(1).at(1), divergent.bucket_sums(1).at(1));
  // A second encoding is another key of the same block.
  ab.Add(b_other, 50);
  EXPECT_EQ(ab.keys(), 3u);
  EXPECT_EQ(ab.blocks(), 2u);
}

TEST(ExpectationTest, NothingIsKnownBeforeMetaAndEverySlice) {
  Expectation expected;
  BlockSet held;
  EXPECT_FALSE(expected.known());
  EXPECT_EQ(MissingBlocks(expected, held, 10), (std::vector<BlockRun>{{0, 0, 1}}));

  ASSERT_TRUE(expected.AddChunk(Presence(0), Raw(EncodePresence({{1, 2, 3}, {7}, {}}))));
  EXPECT_FALSE(expected.known());
  // META 752 bytes, LOG 70000 bytes (two chunks), two slices of presence.
  ASSERT_TRUE(expected.AddChunk(
      0, Raw(EncodeMeta({}, {sizeof(dcast_meta), 0, 0, 0, 70000, 2 * sizeof(dcast_presence)}))));
  EXPECT_TRUE(expected.has_meta());
  EXPECT_FALSE(expected.known());
  EXPECT_EQ(expected.missing_slices(), (std::vector<NumberRun>{{1, 1}}));
  ASSERT_TRUE(expected.AddChunk(Presence(1), Raw(EncodePresence({{}, {}, {0, 32767}}))));
  EXPECT_TRUE(expected.known());
  EXPECT_EQ(expected.blocks(), 1u + 2u + 2u + 4u + 2u);

  const uint64_t log = dcast_class0_number(DCAST_STREAM_LOG, 0);
  EXPECT_EQ(MissingBlocks(expected, held, 100), (std::vector<BlockRun>{{0, 0, 1},
                                                                       {0, log, 2},
                                                                       {0, Presence(0), 2},
                                                                       {1, 1, 3},
                                                                       {2, 7, 1},
                                                                       {3, 32768, 1},
                                                                       {3, 65535, 1}}));
  EXPECT_EQ(MissingBlocks(expected, held, 2).size(), 2u);
}

TEST(ExpectationTest, CompleteOnlyWithTheLastBlock) {
  Expectation expected;
  ASSERT_TRUE(expected.AddChunk(
      0, Raw(EncodeMeta({}, {sizeof(dcast_meta), 0, 0, 0, 0, sizeof(dcast_presence)}))));
  ASSERT_TRUE(expected.AddChunk(Presence(0), Raw(EncodePresence({{4}, {}, {}}))));
  BlockSet held;
  held.Add({0, 0, 1}, 1);
  held.Add({0, Presence(0), 1}, 1);
  held.Add({2, 4, 1}, 1);  // not expected: another class
  EXPECT_FALSE(IsComplete(expected, held));
  EXPECT_EQ(CountExpectedHeld(expected, held), 2u);
  held.Add({1, 4, 0}, 0);  // EMPTY counts as held
  EXPECT_TRUE(IsComplete(expected, held));
  EXPECT_TRUE(MissingBlocks(expected, held, 10).empty());
}

TEST(ExpectationTest, TwoEncodingsOfASliceAreJoined) {
  Expectation expected;
  ASSERT_TRUE(expected.AddChunk(Presence(0), Raw(EncodePresence({{1}, {}, {}}))));
  ASSERT_TRUE(expected.AddChunk(Presence(0), Raw(EncodePresence({{2}, {}, {}}))));
  EXPECT_EQ(expected.numbers(1).Runs(), (std::vector<NumberRun>{{1, 2}}));
}

TEST(ExpectationTest, MalformedChunksChangeNothing) {
  Expectation expected;
  EXPECT_FALSE(expected.AddChunk(0, std::string(DCAST_META_LEAST_BYTES - 1, '\0')));
  EXPECT_FALSE(expected.AddChunk(Presence(0), "short"));
  EXPECT_FALSE(expected.AddChunk(Presence(1ull << 30), std::string(sizeof(dcast_presence), '\1')));
  EXPECT_FALSE(expected.AddChunk(0, Raw(EncodeMeta({}, {0, 0, 0, 0, ~0ull, 0}))));
  EXPECT_FALSE(expected.has_meta());
  EXPECT_EQ(expected.blocks(), 0u);
}

}  // namespace
}  // namespace dumpcast
