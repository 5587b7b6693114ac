// SPDX-License-Identifier: Apache-2.0
#include "relay/fec.h"

#include <isa-l/erasure_code.h>

#include <algorithm>

#include "relay/gf256.h"

namespace dumpcast {
namespace {

uint8_t Coefficient(unsigned index, unsigned j) {
  return gf_inv(static_cast<unsigned char>(index ^ j));
}

uint8_t* Bytes(char* p) {
  return reinterpret_cast<uint8_t*>(p);
}
const uint8_t* Bytes(const char* p) {
  return reinterpret_cast<const uint8_t*>(p);
}

}  // namespace

bool RecoverData(char* data, uint32_t symbol_size, unsigned k, uint64_t have,
                 const std::vector<ParitySymbol>& parity, uint32_t parity_len) {
  std::vector<unsigned> lost;
  std::vector<unsigned> known;
  for (unsigned i = 0; i < k; ++i) (have >> i & 1 ? known : lost).push_back(i);
  const size_t e = lost.size();
  if (e == 0) return true;
  if (parity.size() < e) return false;

  // Only the e x e part of the code that joins lost data and parity is inverted.
  std::vector<uint8_t> square(e * e);
  std::vector<uint8_t> inverse(e * e);
  for (size_t p = 0; p < e; ++p)
    for (size_t l = 0; l < e; ++l) square[p * e + l] = Coefficient(parity[p].index, lost[l]);
  if (gf_invert_matrix(square.data(), inverse.data(), static_cast<int>(e)) != 0) return false;

  // Each lost symbol as a sum over the known data symbols, then the parity symbols.
  std::vector<const uint8_t*> sources;
  sources.reserve(k);
  for (const unsigned j : known) sources.push_back(Bytes(data) + size_t{j} * symbol_size);
  for (size_t p = 0; p < e; ++p) sources.push_back(Bytes(parity[p].bytes.data()));
  std::vector<uint8_t> code(e * known.size());
  std::vector<uint8_t> rows(e * k);
  std::vector<const uint8_t*> of_parity;
  std::vector<uint8_t*> of_lost;
  std::vector<uint8_t*> targets;
  for (size_t i = 0; i < e; ++i) {
    for (size_t j = 0; j < known.size(); ++j)
      code[i * known.size() + j] = Coefficient(parity[i].index, known[j]);
    of_parity.push_back(code.data() + i * known.size());
    of_lost.push_back(rows.data() + i * k);
    std::copy_n(inverse.data() + i * e, e, rows.data() + i * k + known.size());
    targets.push_back(Bytes(data) + size_t{lost[i]} * symbol_size);
  }
  SumsOfProducts(of_parity, inverse.data(), of_lost, known.size());
  SumsOfProducts(sources, rows.data(), targets, parity_len);
  return true;
}

std::string MakeParity(const char* data, uint32_t symbol_size, unsigned k, unsigned index,
                       uint32_t parity_len) {
  std::vector<uint8_t> row(k);
  std::vector<const uint8_t*> sources(k);
  for (unsigned j = 0; j < k; ++j) {
    row[j] = Coefficient(index, j);
    sources[j] = Bytes(data) + size_t{j} * symbol_size;
  }
  std::string out(parity_len, '\0');
  uint8_t* const target = Bytes(out.data());
  SumsOfProducts(sources, row.data(), {&target, 1}, parity_len);
  return out;
}

}  // namespace dumpcast
