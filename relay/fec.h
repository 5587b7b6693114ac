// SPDX-License-Identifier: Apache-2.0
// Erasure code of a block: any k of its symbols give it back.
//
// The code is Cauchy Reed-Solomon over GF(2^8), polynomial 0x11d: symbol i < k is data symbol i;
// symbol i >= k is the sum over j < k of inverse(i ^ j) * data[j]. A row depends on (k, i) alone,
// never on m (WIRE.md, "FEC").
#ifndef DUMPCAST_RELAY_FEC_H_
#define DUMPCAST_RELAY_FEC_H_

#include <cstdint>
#include <string>
#include <vector>

namespace dumpcast {

struct ParitySymbol {
  uint8_t index = 0;  // k..63
  std::string bytes;  // symbol_size bytes, or encoded_len when that is less
};

// Fills the data symbols that are missing from `data`, k * symbol_size bytes zero-padded.
// `have` has bit i set for each data symbol held; `parity` holds at least as many symbols as
// are missing, each of `parity_len` bytes. False when there are too few.
[[nodiscard]] bool RecoverData(char* data, uint32_t symbol_size, unsigned k, uint64_t have,
                               const std::vector<ParitySymbol>& parity, uint32_t parity_len);

// Parity symbol `index` (k..63) of `data`, laid out as above. Used by tests.
std::string MakeParity(const char* data, uint32_t symbol_size, unsigned k, unsigned index,
                       uint32_t parity_len);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_FEC_H_
