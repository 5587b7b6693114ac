// SPDX-License-Identifier: Apache-2.0
#include "relay/fec.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

std::string Noise(size_t bytes, unsigned seed) {
  std::mt19937 rng(seed);
  std::string noise(bytes, '\0');
  for (char& c : noise) c = static_cast<char>(rng());
  return noise;
}

// Loses the data symbols of `lost` and recovers them from the parity symbols of `indices`.
void LoseAndRecover(unsigned k, uint32_t size, uint32_t parity_len,
                    const std::vector<unsigned>& lost, const std::vector<unsigned>& indices) {
  const std::string data = [&] {
    std::string d = Noise(size_t{k} * size, k * 77 + size);
    if (k == 1) d.replace(parity_len, size - parity_len, size - parity_len, '\0');
    return d;
  }();
  std::string damaged = data;
  uint64_t have = (uint64_t{1} << k) - 1;
  for (const unsigned l : lost) {
    damaged.replace(size_t{l} * size, size, size, '\0');
    have &= ~(uint64_t{1} << l);
  }
  std::vector<ParitySymbol> parity;
  parity.reserve(indices.size());
  for (const unsigned i : indices)
    parity.push_back({static_cast<uint8_t>(i), MakeParity(data.data(), size, k, i, parity_len)});
  ASSERT_TRUE(RecoverData(damaged.data(), size, k, have, parity, parity_len));
  EXPECT_EQ(damaged == data, true) << "k " << k << ", lost " << lost.size();
}

TEST(FecTest, EveryPatternOfLossOfASmallBlock) {
  constexpr unsigned kSymbols = 5;
  for (unsigned pattern = 1; pattern < 1u << kSymbols; ++pattern) {
    std::vector<unsigned> lost;
    std::vector<unsigned> parity;
    for (unsigned i = 0; i < kSymbols; ++i) {
      if ((pattern >> i & 1) == 0) continue;
      lost.push_back(i);
      parity.push_back(kSymbols + 3 * static_cast<unsigned>(parity.size()));
    }
    LoseAndRecover(kSymbols, 1088, 1088, lost, parity);
  }
}

TEST(FecTest, AnyParityOfTheWholeRangeServes) {
  std::mt19937 rng(5);
  for (unsigned k = 1; k <= 61; k += 4) {
    for (int round = 0; round < 8; ++round) {
      std::vector<unsigned> lost;
      for (unsigned i = 0; i < k; ++i) lost.push_back(i);
      std::vector<unsigned> parity;
      for (unsigned i = k; i < 64; ++i) parity.push_back(i);
      std::shuffle(lost.begin(), lost.end(), rng);
      std::shuffle(parity.begin(), parity.end(), rng);
      const size_t e = 1 + rng() % std::min<size_t>(k, 64 - k);
      lost.resize(e);
      parity.resize(e);
      LoseAndRecover(k, 1352, 1352, lost, parity);
    }
  }
}

TEST(FecTest, ShortBlockHasShortParity) {
  for (const uint32_t len : {16u, 17u, 31u, 500u, 1351u, 1352u})
    LoseAndRecover(1, 1352, len, {0}, {63});
}

TEST(FecTest, TooLittleParityIsRefused) {
  std::string data = Noise(4 * 1088, 1);
  std::vector<ParitySymbol> parity = {{4, MakeParity(data.data(), 1088, 4, 4, 1088)}};
  EXPECT_FALSE(RecoverData(data.data(), 1088, 4, 0b0011, parity, 1088));
}

TEST(FecTest, NothingLostNeedsNoParity) {
  std::string data = Noise(4 * 1088, 2);
  const std::string before = data;
  EXPECT_TRUE(RecoverData(data.data(), 1088, 4, 0b1111, {}, 1088));
  EXPECT_EQ(data == before, true);
}

}  // namespace
}  // namespace dumpcast
