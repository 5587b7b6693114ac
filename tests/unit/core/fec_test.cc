// SPDX-License-Identifier: Apache-2.0
#include <isa-l/erasure_code.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kmod/core/sender_internal.h"

namespace dumpcast {
namespace {

TEST(Fec, InversesAreThoseOfIsaL) {
  for (unsigned x = 1; x < 64; ++x) {
    EXPECT_EQ(dcast_fec_inverse(x), gf_inv(static_cast<unsigned char>(x))) << x;
    EXPECT_EQ(gf_mul(dcast_fec_inverse(x), static_cast<unsigned char>(x)), 1) << x;
  }
}

constexpr std::pair<unsigned, dcast_fec_way> kCases[] = {
    {1096, DCAST_FEC_WORDS}, {104, DCAST_FEC_WORDS}, {1096, DCAST_FEC_AVX2}, {104, DCAST_FEC_AVX2},
    {1096, DCAST_FEC_GFNI},  {104, DCAST_FEC_GFNI},  {8, DCAST_FEC_GFNI},    {128, DCAST_FEC_GFNI}};

class FecTest : public ::testing::TestWithParam<int> {
 protected:
  // k symbols of noise and all their parity.
  void Make(unsigned k, unsigned size, uint32_t seed, dcast_fec_way way = dcast_fec_best()) {
    std::mt19937 rng(seed);
    all_.assign(64, std::vector<uint8_t>(size));
    data_.resize(k * size);
    for (uint8_t& b : data_) b = static_cast<uint8_t>(rng());
    dcast_fec_lists lists;
    std::memset(&lists, 0xff, sizeof(lists));
    for (unsigned i = 0; i < 64; ++i) {
      if (i < k) {
        std::memcpy(all_[i].data(), &data_[i * size], size);
      } else {
        dcast_fec_parity_by(way, data_.data(), size, k, i, size, all_[i].data(), &lists);
      }
    }
  }
  std::vector<uint8_t> data_;
  std::vector<std::vector<uint8_t>> all_;
};

TEST_P(FecTest, EveryParitySymbolEqualsIsaL) {
  const int k = GetParam();
  // Whole vectors, groups of words and a word on its own; without vectors, as in a kernel.
  for (const auto& [size, way] : kCases) {
    if (way > dcast_fec_best()) continue;
    Make(static_cast<unsigned>(k), size, static_cast<uint32_t>(k), way);
    std::vector<uint8_t> matrix(64 * k), tables(32 * k * (64 - k));
    gf_gen_cauchy1_matrix(matrix.data(), 64, k);
    ec_init_tables(k, 64 - k, &matrix[k * k], tables.data());
    std::vector<std::vector<uint8_t>> parity(64 - k, std::vector<uint8_t>(size));
    std::vector<uint8_t*> in, out;
    for (int i = 0; i < k; ++i) in.push_back(&data_[i * size]);
    for (auto& p : parity) out.push_back(p.data());
    ec_encode_data(size, k, 64 - k, tables.data(), in.data(), out.data());
    for (int i = k; i < 64; ++i)
      EXPECT_EQ(all_[i], parity[i - k]) << "symbol " << i << " of " << size << ", way " << way;
  }
}

TEST_P(FecTest, AnyKSymbolsGiveTheDataBack) {
  const int k = GetParam();
  const unsigned size = 1088;
  Make(static_cast<unsigned>(k), size, static_cast<uint32_t>(100 + k));
  std::vector<uint8_t> matrix(64 * k);
  gf_gen_cauchy1_matrix(matrix.data(), 64, k);
  std::mt19937 rng(static_cast<uint32_t>(k));
  for (int round = 0; round < 8; ++round) {
    std::vector<int> chosen(64);
    std::iota(chosen.begin(), chosen.end(), 0);
    std::shuffle(chosen.begin(), chosen.end(), rng);
    if (round == 0) std::reverse(chosen.begin(), chosen.end());  // another pick, seeded
    std::vector<uint8_t> rows(k * k), inverse(k * k), tables(32 * k * k);
    std::vector<uint8_t*> in;
    for (int i = 0; i < k; ++i) {
      std::memcpy(&rows[i * k], &matrix[chosen[i] * k], k);
      in.push_back(all_[chosen[i]].data());
    }
    ASSERT_EQ(gf_invert_matrix(rows.data(), inverse.data(), k), 0);
    ec_init_tables(k, k, inverse.data(), tables.data());
    std::vector<uint8_t> back(k * size);
    std::vector<uint8_t*> out(k);
    for (int i = 0; i < k; ++i) out[i] = &back[i * size];
    ec_encode_data(size, k, k, tables.data(), in.data(), out.data());
    ASSERT_EQ(back, data_);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryK, FecTest, ::testing::Range(1, 62));

}  // namespace
}  // namespace dumpcast
