// SPDX-License-Identifier: Apache-2.0
// From the bytes of an encoded block to pages. The format is dcast_block_hdr of
// protos/wire/dumpcast_wire.h, version 1.
#ifndef DUMPCAST_STORE_VMCORE_BLOCK_CODEC_H_
#define DUMPCAST_STORE_VMCORE_BLOCK_CODEC_H_

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dumpcast {

// A checked dcast_block_hdr in host order. Bit i of a bitmap is page i of the window.
struct BlockHeader {
  uint32_t raw_len = 0;
  uint8_t codec = 0;       // enum dcast_codec
  uint8_t page_shift = 0;  // 0 for class 0
  uint8_t header_len = 0;  // bytes before the payload
  uint16_t present = 0;
  uint16_t zero = 0;
  uint16_t unreadable = 0;

  // Pages whose bytes the block carries, in ascending order.
  uint16_t carried() const { return present & static_cast<uint16_t>(~(zero | unreadable)); }
  // Index of `page` among the carried ones. REQUIRES: bit `page` of carried() is set.
  int CarriedIndex(unsigned page) const {
    return std::popcount(static_cast<uint16_t>(carried() & ((1u << page) - 1)));
  }
};

// Checks the header alone: `encoded` may end after it.
// page_shift: of the dump, 12..16; ignored for class 0.
// DATA_LOSS: what follows cannot be what the header says, with field and value.
// UNIMPLEMENTED: encrypted.
absl::StatusOr<BlockHeader> ParseBlockHeader(uint8_t block_class, unsigned page_shift,
                                             std::string_view encoded);

struct DecodedBlock {
  BlockHeader header;
  std::string raw;  // header.raw_len bytes: carried pages, or a piece of a class 0 stream
};

// Decodes a whole block. Allocates at most 64 KiB, whatever the bytes say.
// DATA_LOSS as above, and when the payload does not give exactly raw_len bytes;
// UNIMPLEMENTED for a codec that this build has not, naming it.
absl::StatusOr<DecodedBlock> DecodeBlock(uint8_t block_class, unsigned page_shift,
                                         std::string_view encoded);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_BLOCK_CODEC_H_
