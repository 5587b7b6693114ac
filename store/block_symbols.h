// SPDX-License-Identifier: Apache-2.0
// Data symbols of a stored encoding: what a relay that has most of a block needs of a peer.
#ifndef DUMPCAST_STORE_BLOCK_SYMBOLS_H_
#define DUMPCAST_STORE_BLOCK_SYMBOLS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "store/ids.h"

namespace dumpcast {

struct BlockSymbols {
  BlockKey key;
  uint16_t symbol_size = 0;  // as in dcast_hdr
  uint64_t mask = 0;         // bit i: data symbol i
  std::string bytes;         // these symbols, ascending, end to end; empty in a request
};

// The symbols of `mask`; nothing when `encoded` does not have all of them, or no sender cuts it so.
std::optional<std::string> CutSymbols(std::string_view encoded, uint16_t symbol_size,
                                      uint64_t mask);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_BLOCK_SYMBOLS_H_
