// SPDX-License-Identifier: Apache-2.0
// An encoded block, byte for byte as a relay would store it. Input: class and page shift in the
// first byte, then the block.
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "store/vmcore/block_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t block_class = data[0] & 3;
  const unsigned page_shift = 12 + (data[0] >> 2) % 5;
  const std::string_view encoded(reinterpret_cast<const char*>(data + 1), size - 1);
  const absl::StatusOr<dumpcast::BlockHeader> header =
      dumpcast::ParseBlockHeader(block_class, page_shift, encoded);
  const absl::StatusOr<dumpcast::DecodedBlock> block =
      dumpcast::DecodeBlock(block_class, page_shift, encoded);
  if (!block.ok()) return 0;
  // A block that decodes has a header that parses, and exactly the bytes that it promises.
  if (!header.ok() || block->raw.size() != header->raw_len) std::abort();
  if (block_class != 0 && block->raw.size() != static_cast<size_t>(std::popcount(header->carried()))
                                                   << page_shift) {
    std::abort();
  }
  return 0;
}
