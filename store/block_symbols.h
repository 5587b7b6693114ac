// SPDX-License-Identifier: Apache-2.0
// Symbols of one encoding: what a relay that has some of a block wants of a peer.
#ifndef DUMPCAST_STORE_BLOCK_SYMBOLS_H_
#define DUMPCAST_STORE_BLOCK_SYMBOLS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "store/ids.h"

namespace dumpcast {

struct BlockSymbols {
  BlockKey key;
  uint16_t symbol_size = 0;  // as in dcast_hdr
  uint64_t mask = 0;         // bit i: symbol i; wanted, or in bytes
  uint32_t count = 0;        // so many of those wanted suffice
  std::string bytes;         // ascending, end to end
};

// Makes the answer of a request: data symbols cut from the encoding. False, and nothing is
// changed, when it has none of those wanted, or no sender cuts it so.
bool CutSymbols(std::string_view encoded, BlockSymbols* symbols);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_BLOCK_SYMBOLS_H_
