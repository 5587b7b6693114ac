// SPDX-License-Identifier: Apache-2.0
#include "relay/gf256.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dumpcast {
namespace {

// What ec_init_tables() wants for one factor.
constexpr size_t kTableBytes = 32;

#if defined(__x86_64__)

constexpr size_t kMostTargets = 4;  // at a time: two registers each

// The map "times factor" as GF2P8AFFINEQB has it: byte 7 - i of it has the bits of which bit i of
// the product is the sum.
constexpr uint64_t MatrixOf(unsigned factor) {
  uint64_t matrix = 0;
  for (unsigned j = 0; j < 8; ++j) {
    for (unsigned i = 0; i < 8; ++i)
      if (factor >> i & 1) matrix |= uint64_t{1} << (8 * (7 - i) + j);
    factor = factor << 1 ^ (factor & 0x80 ? 0x11d : 0);
  }
  return matrix;
}

constexpr std::array<uint64_t, 256> Matrices() {
  std::array<uint64_t, 256> matrices{};
  for (unsigned factor = 0; factor < 256; ++factor) matrices[factor] = MatrixOf(factor);
  return matrices;
}
constexpr std::array<uint64_t, 256> kMatrices = Matrices();

bool HasGfni() {
  return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512bw");
}

// matrices: those of a source side by side, kTargets each.
template <size_t kTargets>
[[gnu::target("gfni,avx512f,avx512bw")]] void Sums(std::span<const uint8_t* const> sources,
                                                   const uint64_t* matrices,
                                                   uint8_t* const* targets, size_t bytes) {
  constexpr size_t kWide = sizeof(__m512i);
  for (size_t at = 0; at < bytes; at += 2 * kWide) {
    const size_t left = bytes - at;
    const __mmask64 first = left >= kWide ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const __mmask64 second = left >= 2 * kWide ? ~__mmask64{0}
                             : left <= kWide   ? __mmask64{0}
                                               : (__mmask64{1} << (left - kWide)) - 1;
    __m512i a[kTargets];
    __m512i b[kTargets];
    for (size_t t = 0; t < kTargets; ++t) a[t] = b[t] = _mm512_setzero_si512();
    const uint64_t* matrix = matrices;
    for (const uint8_t* source : sources) {
      const __m512i x = _mm512_maskz_loadu_epi8(first, source + at);
      const __m512i y = _mm512_maskz_loadu_epi8(second, source + at + kWide);
#pragma GCC unroll 4
      for (size_t t = 0; t < kTargets; ++t) {
        const __m512i times = _mm512_set1_epi64(static_cast<int64_t>(*matrix++));
        a[t] = _mm512_xor_si512(a[t], _mm512_gf2p8affine_epi64_epi8(x, times, 0));
        b[t] = _mm512_xor_si512(b[t], _mm512_gf2p8affine_epi64_epi8(y, times, 0));
      }
    }
    for (size_t t = 0; t < kTargets; ++t) {
      _mm512_mask_storeu_epi8(targets[t] + at, first, a[t]);
      _mm512_mask_storeu_epi8(targets[t] + at + kWide, second, b[t]);
    }
  }
}

#endif

}  // namespace

void SumsOfProductsByTables(std::span<const uint8_t* const> sources, const uint8_t* factors,
                            std::span<uint8_t* const> targets, size_t bytes) {
  const int k = static_cast<int>(sources.size());
  const int rows = static_cast<int>(targets.size());
  std::vector<uint8_t> tables(kTableBytes * sources.size() * targets.size());
  ec_init_tables(k, rows, const_cast<uint8_t*>(factors), tables.data());
  std::vector<uint8_t*> from;
  for (const uint8_t* source : sources) from.push_back(const_cast<uint8_t*>(source));
  std::vector<uint8_t*> to(targets.begin(), targets.end());
  ec_encode_data(static_cast<int>(bytes), k, rows, tables.data(), from.data(), to.data());
}

void SumsOfProducts(std::span<const uint8_t* const> sources, const uint8_t* factors,
                    std::span<uint8_t* const> targets, size_t bytes) {
#if defined(__x86_64__)
  if (HasGfni()) {
    std::vector<uint64_t> matrices(sources.size() * kMostTargets);
    while (!targets.empty()) {
      const size_t rows = std::min(targets.size(), kMostTargets);
      for (size_t j = 0; j < sources.size(); ++j)
        for (size_t t = 0; t < rows; ++t)
          matrices[j * rows + t] = kMatrices[factors[t * sources.size() + j]];
      constexpr std::array kSums = {Sums<1>, Sums<2>, Sums<3>, Sums<4>};
      kSums[rows - 1](sources, matrices.data(), targets.data(), bytes);
      factors += rows * sources.size();
      targets = targets.subspan(rows);
    }
    return;
  }
#endif
  SumsOfProductsByTables(sources, factors, targets, bytes);
}

}  // namespace dumpcast
