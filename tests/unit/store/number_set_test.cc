// SPDX-License-Identifier: Apache-2.0
#include "store/number_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace dumpcast {
namespace {

TEST(NumberSetTest, AgreesWithAnOrderedSetOnRandomWork) {
  std::mt19937_64 random(1);
  NumberSet set;
  NumberSet other;
  std::set<uint64_t> model;
  std::set<uint64_t> other_model;
  for (int i = 0; i < 4000; i++) {
    const uint64_t number = (random() % 5) << 48 | random() % 3000;
    EXPECT_EQ(set.Add(number), model.insert(number).second);
    other.Add(number ^ 1);
    other_model.insert(number ^ 1);
  }
  EXPECT_EQ(set.Count(), model.size());
  std::set<uint64_t> minus_model;
  for (uint64_t n : model) {
    EXPECT_TRUE(set.Contains(n));
    if (!other_model.contains(n)) minus_model.insert(n);
  }
  const NumberSet minus = set.Minus(other);
  EXPECT_EQ(minus.Count(), minus_model.size());
  EXPECT_EQ(set.CountMinus(other), minus_model.size());
  std::set<uint64_t> from_runs;
  uint64_t last_end = 0;
  for (const NumberRun& run : minus.Runs()) {
    EXPECT_TRUE(from_runs.empty() || run.first > last_end) << "runs touch";
    for (uint64_t i = 0; i < run.count; i++) from_runs.insert(run.first + i);
    last_end = run.first + run.count;
  }
  EXPECT_EQ(from_runs, minus_model);
  for (int i = 0; i < 200; i++) {
    const uint64_t first = (random() % 5) << 48 | random() % 3000;
    const uint64_t count = random() % (2ull << 48);
    const auto in_model = std::distance(model.lower_bound(first), model.lower_bound(first + count));
    EXPECT_EQ(set.CountIn(first, count), static_cast<uint64_t>(in_model));
  }
}

TEST(NumberSetTest, RunsAndRangesCrossChunkBoundaries) {
  NumberSet set;
  const uint64_t edge = 1ull << 32;
  set.AddRange(edge - 2, 4);
  EXPECT_EQ(set.Runs(), (std::vector<NumberRun>{{edge - 2, 4}}));
  EXPECT_EQ(set.Slice(edge, 10).Runs(), (std::vector<NumberRun>{{0, 2}}));
  NumberSet top;
  top.AddRange(~0ull - 1, 100);
  EXPECT_EQ(top.Count(), 2u);
}

TEST(NumberSetTest, SerializedChunksComeBackAndGarbageDoesNot) {
  NumberSet set;
  set.AddRange(100, 70000);
  set.Add(5ull << 32 | 7);
  NumberSet copy;
  for (uint32_t i = 0; i < set.chunk_end(); i++) {
    ASSERT_TRUE(copy.AddSerializedChunk(i, set.SerializeChunk(i)).ok());
  }
  EXPECT_EQ(copy, set);
  EXPECT_EQ(copy.AddSerializedChunk(0, "no bitmap").code(), absl::StatusCode::kInvalidArgument);
  const std::string good = set.SerializeChunk(0);
  EXPECT_FALSE(copy.AddSerializedChunk(0, std::string_view(good).substr(0, good.size() - 1)).ok());
  EXPECT_EQ(copy, set);
}

}  // namespace
}  // namespace dumpcast
