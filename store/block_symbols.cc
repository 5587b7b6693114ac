// SPDX-License-Identifier: Apache-2.0
#include "store/block_symbols.h"

#include <bit>

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

std::optional<std::string> CutSymbols(std::string_view encoded, uint16_t symbol_size,
                                      uint64_t mask) {
  if (symbol_size < DCAST_MIN_SYMBOL_BYTES || symbol_size > DCAST_MAX_SYMBOL_BYTES)
    return std::nullopt;
  const size_t k = (encoded.size() + symbol_size - 1) / symbol_size;
  if (k >= DCAST_MAX_SYMBOLS || mask >> k != 0) return std::nullopt;
  std::string bytes;
  for (; mask != 0; mask &= mask - 1)
    bytes += encoded.substr(size_t{symbol_size} * static_cast<size_t>(std::countr_zero(mask)),
                            symbol_size);
  return bytes;
}

}  // namespace dumpcast
