// SPDX-License-Identifier: Apache-2.0
#include "relay/gf256.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

// Product in the field, as its definition has it.
uint8_t Times(unsigned a, unsigned b) {
  unsigned product = 0;
  for (; b != 0; b >>= 1) {
    if (b & 1) product ^= a;
    a = a << 1 ^ (a & 0x80 ? 0x11d : 0);
  }
  return static_cast<uint8_t>(product);
}

using Rows = std::vector<std::vector<uint8_t>>;

Rows Noise(std::mt19937* rng, size_t rows, size_t bytes) {
  Rows noise(rows, std::vector<uint8_t>(bytes));
  for (auto& row : noise)
    for (uint8_t& byte : row) byte = static_cast<uint8_t>((*rng)());
  return noise;
}

// Of every way to compute them; a byte after each target must stay.
void Compare(std::mt19937* rng, size_t sources, size_t targets, size_t bytes) {
  const Rows from = Noise(rng, sources, bytes);
  const std::vector<uint8_t> factors = Noise(rng, 1, sources * targets)[0];
  Rows wanted = Noise(rng, targets, bytes + 1);
  for (size_t t = 0; t < targets; ++t)
    for (size_t i = 0; i < bytes; ++i) {
      wanted[t][i] = 0;
      for (size_t j = 0; j < sources; ++j)
        wanted[t][i] ^= Times(factors[t * sources + j], from[j][i]);
    }
  std::vector<const uint8_t*> source_pointers;
  for (const auto& row : from) source_pointers.push_back(row.data());
  for (const auto sums : {SumsOfProducts, SumsOfProductsByTables}) {
    Rows got = wanted;
    std::vector<uint8_t*> target_pointers;
    for (auto& row : got) {
      for (size_t i = 0; i < bytes; ++i) row[i] ^= 0x55;
      target_pointers.push_back(row.data());
    }
    sums(source_pointers, factors.data(), target_pointers, bytes);
    EXPECT_EQ(got, wanted) << sources << " sources, " << targets << " targets, " << bytes
                           << " bytes" << (sums == SumsOfProducts ? "" : ", by tables");
  }
}

TEST(Gf256Test, SumsAreThoseOfTheField) {
  std::mt19937 rng(7);
  for (size_t targets = 1; targets <= 9; ++targets)
    for (const size_t sources : {1, 2, 7, 50, 61})
      for (const size_t bytes : {1, 7, 63, 64, 65, 127, 128, 129, 1304, 1352})
        Compare(&rng, sources, targets, bytes);
}

TEST(Gf256Test, EveryFactorTimesEveryByte) {
  std::vector<uint8_t> bytes(256);
  for (unsigned i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
  const uint8_t* const source = bytes.data();
  for (unsigned factor = 0; factor < 256; ++factor) {
    std::vector<uint8_t> products(256);
    uint8_t* const target = products.data();
    const auto one = static_cast<uint8_t>(factor);
    SumsOfProducts({&source, 1}, &one, {&target, 1}, 256);
    for (unsigned i = 0; i < 256; ++i) ASSERT_EQ(products[i], Times(factor, i)) << factor;
  }
}

}  // namespace
}  // namespace dumpcast
