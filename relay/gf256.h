// SPDX-License-Identifier: Apache-2.0
// Products over the field of the erasure code, GF(2^8) with polynomial 0x11d, of whole symbols.
#ifndef DUMPCAST_RELAY_GF256_H_
#define DUMPCAST_RELAY_GF256_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace dumpcast {

// targets[t][i] = sum over j of factors[t * sources.size() + j] * sources[j][i], for i < bytes.
// Targets overlap neither each other nor any source. With GFNI, a product by a constant is one
// instruction (Intel's manual, GF2P8AFFINEQB: any linear map of the bits of a byte); ISA-L does it
// by tables on processors without. Thread safety: pure.
void SumsOfProducts(std::span<const uint8_t* const> sources, const uint8_t* factors,
                    std::span<uint8_t* const> targets, size_t bytes);

// The same by ISA-L alone, for tests to compare with.
void SumsOfProductsByTables(std::span<const uint8_t* const> sources, const uint8_t* factors,
                            std::span<uint8_t* const> targets, size_t bytes);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_GF256_H_
