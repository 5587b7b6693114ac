// SPDX-License-Identifier: Apache-2.0
#include "store/block_symbols.h"

#include <bit>

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

bool CutSymbols(std::string_view encoded, BlockSymbols* symbols) {
  const size_t size = symbols->symbol_size;
  if (size < DCAST_MIN_SYMBOL_BYTES || size > DCAST_MAX_SYMBOL_BYTES || encoded.empty())
    return false;
  const size_t k = (encoded.size() + size - 1) / size;
  if (k >= DCAST_MAX_SYMBOLS) return false;
  uint64_t given = 0;
  uint64_t left = symbols->mask & ((uint64_t{1} << k) - 1);
  for (; left != 0 && symbols->count > 0; left &= left - 1, --symbols->count) {
    given |= left & -left;
    symbols->bytes += encoded.substr(size * static_cast<size_t>(std::countr_zero(left)), size);
  }
  if (given == 0) return false;
  symbols->mask = given;
  symbols->count = 0;
  return true;
}

}  // namespace dumpcast
