// SPDX-License-Identifier: Apache-2.0
#include "relay/assemble.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "relay/decode.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

std::string Noise(size_t bytes, unsigned seed) {
  std::mt19937 rng(seed);
  std::string noise(bytes, '\0');
  for (char& c : noise) c = static_cast<char>(rng());
  return noise;
}

class AssembleTest : public testing::Test {
 protected:
  explicit AssembleTest(uint64_t bytes = 1 << 20)
      : budget_(2 * bytes, bytes), assembler_(&budget_, &counters_) {}

  Counter Add(Assembler& assembler, const std::string& packet, TimeNs now = 1) {
    dcast_hdr hdr;
    std::memcpy(&hdr, packet.data(), sizeof(hdr));
    block_.reset();
    const Counter outcome = assembler.Add(now, hdr, std::string_view(packet).substr(sizeof(hdr)),
                                          SenderDouble::Keys(), &block_);
    if (block_) {
      decoded_ = DecodeBlock(block_->key, block_->gathered, &block_->data);
      budget_.NoteDecoded(std::popcount(block_->gathered.have));
    }
    return outcome;
  }
  Counter Add(const std::string& packet, TimeNs now = 1) { return Add(assembler_, packet, now); }

  SenderDouble sender_;
  Counters counters_;
  AssemblyBudget budget_;
  Assembler assembler_;
  std::optional<Assembler::Block> block_;
  absl::Status decoded_;
};

TEST_F(AssembleTest, AnyKOfKAndParityInAnyOrder) {
  std::mt19937 rng(1);
  for (const size_t bytes : {16u, 100u, 1352u, 1353u, 20000u, 65536u + 16u}) {
    for (int round = 0; round < 10; ++round) {
      const uint64_t number = bytes * 100 + static_cast<unsigned>(round);
      const std::string encoded = Noise(bytes, static_cast<unsigned>(number));
      const unsigned k = SenderDouble::K(encoded);
      std::vector<unsigned> indices(64);
      for (unsigned i = 0; i < 64; ++i) indices[i] = i;
      std::shuffle(indices.begin(), indices.end(), rng);
      for (unsigned i = 0; i < k; ++i) {
        EXPECT_FALSE(block_) << "complete too early";
        EXPECT_EQ(Add(sender_.Symbol(1, number, encoded, indices[i])), Counter::kStored);
      }
      ASSERT_TRUE(block_) << "k " << k;
      EXPECT_TRUE(decoded_.ok()) << decoded_;
      EXPECT_EQ(block_->data == encoded, true) << "k " << k;
      EXPECT_EQ(block_->key.digest, SenderDouble::Digest(1, number, encoded));
      block_.reset();
    }
  }
  EXPECT_EQ(budget_.used(), 0u);
  EXPECT_EQ(budget_.waiting_symbols(), 0u);
}

TEST_F(AssembleTest, SecondCopyIsADuplicate) {
  const std::string encoded = Noise(5000, 1);
  const std::string symbol = sender_.Symbol(1, 9, encoded, 2);
  EXPECT_EQ(Add(symbol), Counter::kStored);
  EXPECT_EQ(Add(symbol), Counter::kDuplicate);
}

TEST_F(AssembleTest, EncodingsNeverMix) {
  const std::string before = Noise(5000, 1);
  const std::string after = Noise(5000, 2);
  const unsigned k = SenderDouble::K(before);
  for (unsigned i = 0; i + 1 < k; ++i) Add(sender_.Symbol(1, 9, before, i));
  // All but one of each: neither is complete.
  for (unsigned i = 1; i < k; ++i) Add(sender_.Symbol(1, 9, after, i));
  EXPECT_FALSE(block_);
  Add(sender_.Symbol(1, 9, after, 0));
  ASSERT_TRUE(block_);
  EXPECT_EQ(block_->data == after, true);
  EXPECT_EQ(counters_[Counter::kStale], k - 1);
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(AssembleTest, BlockThatChangesAtEachReadKeepsAFewEncodings) {
  for (unsigned version = 0; version < 20; ++version)
    Add(sender_.Symbol(1, 9, Noise(5000, version), 0));
  EXPECT_EQ(budget_.waiting_symbols(), Assembler::kMaxEncodings);
  const auto partial = assembler_.Find({1, 9});
  ASSERT_TRUE(partial);
  EXPECT_EQ(partial->digest, SenderDouble::Digest(1, 9, Noise(5000, 19)));
  EXPECT_TRUE(partial->changing);
  EXPECT_GT(std::popcount(partial->wanted()), 3) << "3 lack, and a new encoding needs parity";
}

TEST_F(AssembleTest, WantedIsParityThatNobodyHasAndAsMuchAsIsLacking) {
  const std::string encoded = Noise(10 * 1352, 3);
  for (const unsigned i : {0u, 3u, 10u}) Add(sender_.Symbol(1, 9, encoded, i));
  const auto partial = assembler_.Find({1, 9});
  ASSERT_TRUE(partial);
  const uint64_t wanted = partial->wanted();
  EXPECT_EQ(std::popcount(wanted), 7);
  EXPECT_EQ(wanted & (1ull << 0 | 1ull << 3 | 1ull << 10), 0u);
  EXPECT_EQ(wanted & ((1ull << 10) - 1), 0u) << "data of which another relay may lack others";
}

TEST_F(AssembleTest, WantedIsDataWhenParityIsUsedUp) {
  const std::string encoded = Noise(60 * 1352, 3);
  Add(sender_.Symbol(1, 9, encoded, 0));
  const uint64_t wanted = assembler_.Find({1, 9})->wanted();
  EXPECT_EQ(std::popcount(wanted), 59);
  EXPECT_EQ(wanted >> 60, 0xfu);
}

TEST_F(AssembleTest, BytesThatAreNotThoseOfTheDigestAreNoBlock) {
  const std::string encoded = Noise(3000, 4);
  std::vector<std::string> symbols = sender_.Symbols(1, 9, encoded);
  // A sender's fault: the MAC is right and the bytes are not those of the digest.
  dcast_hdr hdr;
  std::memcpy(&hdr, symbols[0].data(), sizeof(hdr));
  std::string payload = symbols[0].substr(sizeof(hdr));
  payload[7] ^= 1;
  symbols[0] = SenderDouble::Seal(hdr, payload);
  for (const std::string& symbol : symbols) Add(symbol);
  ASSERT_TRUE(block_);
  EXPECT_TRUE(absl::IsInvalidArgument(decoded_)) << decoded_;
  EXPECT_EQ(assembler_.blocks(), 0u);
}

TEST_F(AssembleTest, ContradictingLengthIsRefused) {
  const std::string encoded = Noise(3000, 4);
  Add(sender_.Symbol(1, 9, encoded, 0));
  const std::string packet = sender_.Symbol(1, 9, encoded, 1);
  dcast_hdr hdr;
  std::memcpy(&hdr, packet.data(), sizeof(hdr));
  hdr.encoded_len = dcast_to_le32(2999);
  std::optional<Assembler::Block> block;
  EXPECT_EQ(assembler_.Add(1, hdr, std::string_view(packet).substr(sizeof(hdr)),
                           SenderDouble::Keys(), &block),
            Counter::kMismatch);
}

// 70 KiB each, 1 MiB for this dump: 14 at once.
TEST_F(AssembleTest, OldestIncompleteBlockGoesFirstWhenAllAreOnTheirWay) {
  for (uint64_t number = 0; number < 40; ++number)
    EXPECT_EQ(Add(sender_.Symbol(1, number, Noise(65536, 1), 0)), Counter::kStored);
  EXPECT_LE(budget_.used(), 1u << 20);
  EXPECT_GT(counters_[Counter::kBlocksEvicted], 20u);
  EXPECT_FALSE(assembler_.Find({1, 0}));
  EXPECT_TRUE(assembler_.Find({1, 39}));
  // It can be asked for again.
  EXPECT_EQ(Add(sender_.Symbol(1, 0, Noise(65536, 1), 0)), Counter::kStored);
}

TEST_F(AssembleTest, WhatIsFurthestOnAndHasComeToRestGoesFirst) {
  const auto symbol = [this](uint64_t number, uint8_t index) {
    return Add(sender_.Symbol(1, number, Noise(65536, 1), index));
  };
  for (uint64_t number = 0; number < 11; ++number) symbol(number, 0);
  for (uint64_t number = 11; number < 14; ++number)
    for (uint8_t index = 0; index < 45; ++index) symbol(number, index);
  ASSERT_EQ(counters_[Counter::kBlocksEvicted], 0u);
  // Walks on; of all that rests, what answers will come for first stays.
  for (uint64_t number = 14; number < 40; ++number)
    for (uint8_t index = 0; index < 30; ++index) EXPECT_EQ(symbol(number, index), Counter::kStored);
  EXPECT_GT(counters_[Counter::kBlocksEvicted], 20u);
  for (uint64_t number : {0, 1, 2, 3, 4, 5, 39})
    EXPECT_TRUE(assembler_.Find({1, number})) << number;
  for (uint64_t number : {10, 13, 20, 30}) EXPECT_FALSE(assembler_.Find({1, number})) << number;
}

TEST_F(AssembleTest, AllDumpsTogetherAreBounded) {
  Assembler second(&budget_, &counters_);
  Assembler third(&budget_, &counters_);
  for (uint64_t number = 0; number < 14; ++number) {
    Add(assembler_, sender_.Symbol(1, number, Noise(65536, 1), 0));
    Add(second, sender_.Symbol(1, number, Noise(65536, 1), 0));
    Add(third, sender_.Symbol(1, number, Noise(65536, 1), 0));
    EXPECT_LE(budget_.used(), 2u << 20);
  }
  EXPECT_FALSE(assembler_.Find({1, 0}));
  EXPECT_TRUE(third.Find({1, 13}));
}

TEST_F(AssembleTest, QuietBlocksComeOldestFirst) {
  Add(sender_.Symbol(1, 1, Noise(5000, 1), 0), 100);
  Add(sender_.Symbol(1, 2, Noise(5000, 1), 0), 200);
  Add(sender_.Symbol(1, 1, Noise(5000, 1), 1), 300);
  const auto quiet = assembler_.Quiet(250, 10);
  ASSERT_EQ(quiet.size(), 1u);
  EXPECT_EQ(quiet[0].number, 2u);
  EXPECT_EQ(assembler_.Quiet(1000, 1).size(), 1u);
}

}  // namespace
}  // namespace dumpcast
