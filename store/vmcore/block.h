// SPDX-License-Identifier: Apache-2.0
// The encoding of one block (struct dcast_block_hdr of protos/wire/dumpcast_wire.h, then the
// payload through the codec): parsing and decoding.
#ifndef DUMPCAST_STORE_VMCORE_BLOCK_H_
#define DUMPCAST_STORE_VMCORE_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast::vmcore {

inline constexpr uint64_t kWindowBytes = DCAST_WINDOW_BYTES;
inline constexpr size_t kBlockHeaderBytes = sizeof(dcast_block_hdr);

// dcast_block_hdr in host order. Bit i of a bitmap is page i of the window.
struct BlockHeader {
  uint32_t raw_len = 0;  // bytes before the codec
  uint8_t codec = 0;     // enum dcast_codec
  uint8_t cipher = 0;
  uint8_t page_shift = 0;  // 0 for class 0
  uint8_t hdr_len = 0;
  uint16_t present = 0;
  uint16_t zero = 0;
  uint16_t unreadable = 0;

  // Pages whose bytes the block carries.
  uint16_t carried() const { return static_cast<uint16_t>(present & ~zero & ~unreadable); }
};

// Reads and checks the header that starts `encoded`, which may be cut anywhere after it.
// A block of pages is consistent afterwards: bitmaps lie within the window, zero and unreadable are
// subsets of present, raw_len is the bytes of carried().
// DATA_LOSS says which field is wrong; UNIMPLEMENTED names a codec or cipher of a newer version.
absl::StatusOr<BlockHeader> ParseBlockHeader(uint8_t block_class, std::string_view encoded);

// Decodes a whole block. Result: header.raw_len bytes (class 1..3: the carried pages, ascending).
// Errors as ParseBlockHeader; DATA_LOSS when the payload does not decode to raw_len bytes.
absl::StatusOr<std::string> DecodeBlock(uint8_t block_class, std::string_view encoded,
                                        BlockHeader* header);

}  // namespace dumpcast::vmcore

#endif  // DUMPCAST_STORE_VMCORE_BLOCK_H_
