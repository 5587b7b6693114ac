// SPDX-License-Identifier: Apache-2.0
#include "relay/repair.h"

#include <cstring>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

// Missing blocks are class 1, 0..n-1; time is in milliseconds; jitter is none, so that each
// moment can be named.
class RepairTest : public testing::Test {
 protected:
  RepairTest() : budget_(1 << 20, 1 << 20), assembler_(&budget_, &counters_) {}

  static std::vector<BlockName> Blocks(uint64_t n, uint64_t first = 0) {
    std::vector<BlockName> names;
    for (uint64_t i = 0; i < n; ++i) names.push_back({1, first + i});
    return names;
  }
  Repair::Requests Step(TimeNs ms, const std::vector<BlockName>& missing, bool peers = false,
                        bool sender = true) {
    return repair_.Step(ms * kMillisecond, missing, class0_, assembler_, peers, sender);
  }
  static uint64_t BlocksIn(const Repair::Requests& requests) {
    uint64_t blocks = 0;
    for (const auto& nak : requests.naks)
      for (const dcast_nak_entry& entry : nak) blocks += dcast_le32(entry.count);
    return blocks;
  }
  void Hear(const std::string& packet) {
    dcast_hdr hdr;
    std::memcpy(&hdr, packet.data(), sizeof(hdr));
    std::optional<Assembler::Block> block;
    (void)assembler_.Add(1, hdr, std::string_view(packet).substr(sizeof(hdr)), SenderDouble::Keys(),
                         &block);
  }
  static dcast_nak_entry Entry(uint64_t number, uint32_t count) {
    dcast_nak_entry entry{};
    entry.number = dcast_to_le64(number);
    entry.count = dcast_to_le32(count);
    entry.block_class = 1;
    return entry;
  }

  EngineConfig config_;
  Counters counters_;
  AssemblyBudget budget_;
  Class0 class0_{~uint64_t{0}};
  Assembler assembler_;
  uint64_t random_value_ = 0;
  std::function<uint64_t()> random_ = [this] { return random_value_; };
  Repair repair_{config_, &counters_, &random_};
};

TEST_F(RepairTest, NeighboursJoinInOneEntryAndGapsSplitIt) {
  std::vector<BlockName> missing = Blocks(5);
  missing.push_back({1, 7});
  missing.push_back({2, 8});
  const auto requests = Step(1000, missing);
  ASSERT_EQ(requests.naks.size(), 1u);
  ASSERT_EQ(requests.naks[0].size(), 3u);
  EXPECT_EQ(dcast_le64(requests.naks[0][0].number), 0u);
  EXPECT_EQ(dcast_le32(requests.naks[0][0].count), 5u);
  EXPECT_EQ(requests.naks[0][0].flags, 0);
  EXPECT_EQ(dcast_le64(requests.naks[0][1].number), 7u);
  EXPECT_EQ(requests.naks[0][2].block_class, 2);
  EXPECT_TRUE(requests.fetch.empty());
}

TEST_F(RepairTest, BlockThatHasBegunIsAskedForBySymbol) {
  SenderDouble sender;
  const std::string encoded(5 * SenderDouble::kSymbolSize, 'x');
  Hear(sender.Symbol(1, 3, encoded, 0));
  const auto requests = Step(1000, Blocks(5));
  ASSERT_EQ(requests.naks.size(), 1u);
  ASSERT_EQ(requests.naks[0].size(), 3u) << "before it, it, and after it";
  const dcast_nak_entry& entry = requests.naks[0][1];
  EXPECT_EQ(entry.flags, DCAST_NAK_HAS_DIGEST);
  EXPECT_EQ(dcast_le64(entry.digest), SenderDouble::Digest(1, 3, encoded));
  EXPECT_EQ(dcast_le64(entry.mask), assembler_.Find({1, 3})->wanted());
}

TEST_F(RepairTest, PeersComeBeforeTheSender) {
  auto requests = Step(1000, Blocks(10), true);
  EXPECT_TRUE(requests.naks.empty());
  ASSERT_EQ(requests.fetch.size(), 1u);
  EXPECT_EQ(requests.fetch[0].first, 0u);
  EXPECT_EQ(requests.fetch[0].count, 10u);
  // While they are asked, nobody else is.
  EXPECT_TRUE(repair_.fetch_open());
  requests = Step(5000, Blocks(10), true);
  EXPECT_TRUE(requests.naks.empty());
  EXPECT_TRUE(requests.fetch.empty());
  // They had half of it; the sender is asked for the rest.
  for (uint64_t i = 0; i < 5; ++i) repair_.NoteHeld({1, i});
  repair_.NoteFetched(5000 * kMillisecond, false);
  requests = Step(5001, Blocks(5, 5), true);
  EXPECT_EQ(BlocksIn(requests), 5u);
  EXPECT_EQ(counters_[Counter::kNakBlocks], 5u);
}

TEST_F(RepairTest, WithoutASenderPeersAreAskedAgainAndAgain) {
  TimeNs ms = 1000;
  for (int round = 0; round < 4; ++round) {
    const auto requests = Step(ms, Blocks(3), true, false);
    EXPECT_TRUE(requests.naks.empty());
    ASSERT_EQ(requests.fetch.size(), 1u) << "round " << round;
    repair_.NoteFetched(ms * kMillisecond, false);
    ms += 10000;
  }
  EXPECT_EQ(repair_.fruitless_fetches(), 4u);
  repair_.NoteFetchFruitful();
  EXPECT_EQ(repair_.fruitless_fetches(), 0u);
}

TEST_F(RepairTest, WithNeitherNobodyIsAsked) {
  for (TimeNs ms = 1000; ms < 100000; ms += 1000) {
    const auto requests = Step(ms, Blocks(3), false, false);
    EXPECT_TRUE(requests.naks.empty());
    EXPECT_TRUE(requests.fetch.empty());
  }
}

TEST_F(RepairTest, FetchesAreBoundedAndAtMostOneIsOpen) {
  const auto requests = Step(1000, Blocks(5000), true);
  uint64_t asked = 0;
  for (const BlockRun& run : requests.fetch) asked += run.count;
  EXPECT_EQ(asked, 1024u);
  EXPECT_TRUE(Step(1001, Blocks(5000), true).fetch.empty());
  repair_.NoteFetched(1002 * kMillisecond, true);
  EXPECT_FALSE(Step(1002, Blocks(5000), true).fetch.empty()) << "more was promised: at once";
}

TEST_F(RepairTest, RequestsBackOffUntilTheirBound) {
  std::vector<TimeNs> asked;
  for (TimeNs ms = 1000; ms < 60000; ++ms)
    if (BlocksIn(Step(ms, Blocks(1))) != 0) asked.push_back(ms);
  ASSERT_GT(asked.size(), 8u);
  for (size_t i = 2; i < asked.size(); ++i)
    EXPECT_GE(asked[i] - asked[i - 1], asked[i - 1] - asked[i - 2]);
  EXPECT_EQ(asked.back() - asked[asked.size() - 2], config_.repair_max_ns / 2 / kMillisecond);
  EXPECT_EQ(repair_.asked_again(), asked.size() - 1);
}

TEST_F(RepairTest, RequestsOfAnotherRelaySuppressOurs) {
  // Blocks are known missing and not yet asked for: the first request is delayed by jitter.
  random_value_ = config_.suppress_ns / 2 - 1;
  EXPECT_EQ(BlocksIn(Step(1000, Blocks(10))), 0u);
  repair_.NoteOtherNak(1000 * kMillisecond, Entry(2, 4), assembler_);
  EXPECT_EQ(counters_[Counter::kNakSuppressed], 4u);
  const TimeNs jitter_ms = config_.suppress_ns / kMillisecond / 2;
  auto requests = Step(1000 + jitter_ms, Blocks(10));
  EXPECT_EQ(BlocksIn(requests), 6u) << "all but the four that another asked for";
  // When its answer does not come, ours leaves.
  std::vector<BlockName> four = Blocks(4, 2);
  EXPECT_EQ(BlocksIn(Step(1000 + 3 * config_.suppress_ns / kMillisecond, four)), 4u);
}

TEST_F(RepairTest, RangesWiderThanEverythingMissingSuppressToo) {
  random_value_ = config_.suppress_ns / 2 - 1;
  (void)Step(1000, Blocks(3, 100));
  repair_.NoteOtherNak(1000 * kMillisecond, Entry(0, ~0u), assembler_);
  EXPECT_EQ(counters_[Counter::kNakSuppressed], 3u);
  // A run that would end beyond 2^64 names nothing below its first block.
  repair_.NoteOtherNak(1000 * kMillisecond, Entry(~uint64_t{0} - 1, ~0u), assembler_);
  EXPECT_EQ(counters_[Counter::kNakSuppressed], 3u);
}

TEST_F(RepairTest, SymbolsForAnotherSuppressOnlyWhenTheyServeUs) {
  SenderDouble sender;
  const std::string encoded(5 * SenderDouble::kSymbolSize, 'x');
  Hear(sender.Symbol(1, 0, encoded, 0));
  Hear(sender.Symbol(1, 0, encoded, 1));
  random_value_ = config_.suppress_ns / 2 - 1;
  (void)Step(1000, Blocks(1));
  dcast_nak_entry entry = Entry(0, 1);
  entry.flags = DCAST_NAK_HAS_DIGEST;
  entry.digest = dcast_to_le64(SenderDouble::Digest(1, 0, encoded));
  const auto suppressed = [&](uint64_t mask) {
    entry.mask = dcast_to_le64(mask);
    repair_.NoteOtherNak(1000 * kMillisecond, entry, assembler_);
    return counters_[Counter::kNakSuppressed];
  };
  EXPECT_EQ(suppressed(0b11), 0u) << "what is here already";
  EXPECT_EQ(suppressed(0b1100), 0u) << "two of the three that lack";
  entry.digest ^= 1;
  EXPECT_EQ(suppressed(0b11100), 0u) << "another encoding";
  entry.digest ^= 1;
  EXPECT_EQ(suppressed(0b11100), 1u);
}

TEST_F(RepairTest, NaksAreBoundedInRate) {
  config_.naks_per_second = 10;
  config_.nak_bytes = 104 + 2 * sizeof(dcast_nak_entry);
  // Every second block: no runs, two entries a packet.
  std::vector<BlockName> missing;
  for (uint64_t i = 0; i < 400; ++i) missing.push_back({1, 2 * i});
  size_t naks = Step(1000, missing).naks.size();
  EXPECT_LE(naks, 16u);
  for (TimeNs ms = 1001; ms <= 3000; ++ms) naks += Step(ms, missing).naks.size();
  EXPECT_LE(naks, 16u + 20u);
  EXPECT_GE(naks, 16u + 19u);
}

TEST_F(RepairTest, RepeatsPostponeWhileTheSenderAnswers) {
  EXPECT_EQ(BlocksIn(Step(1000, Blocks(1))), 1u);
  uint64_t asked = 0;
  TimeNs ms = 1001;
  for (; ms < 1500; ++ms) {
    repair_.NoteRepeat(ms * kMillisecond);
    asked += BlocksIn(Step(ms, Blocks(1)));
  }
  EXPECT_EQ(asked, 0u);
  // Not for ever: answers to others must not starve us.
  for (; ms < 10000; ++ms) {
    repair_.NoteRepeat(ms * kMillisecond);
    asked += BlocksIn(Step(ms, Blocks(1)));
  }
  EXPECT_GT(asked, 0u);
}

TEST_F(RepairTest, EachRequestNamesItsNextMoment) {
  EXPECT_EQ(repair_.WakeNs(), kNever);
  (void)Step(1000, Blocks(1));
  const TimeNs wake = repair_.WakeNs();
  ASSERT_NE(wake, kNever);
  EXPECT_EQ(BlocksIn(repair_.Step(wake - 1, Blocks(1), class0_, assembler_, false, true)), 0u);
  EXPECT_EQ(BlocksIn(repair_.Step(wake, Blocks(1), class0_, assembler_, false, true)), 1u);
}

}  // namespace
}  // namespace dumpcast
