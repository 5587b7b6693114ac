// SPDX-License-Identifier: Apache-2.0
// Where the vmcore views get a dump's blocks from. A store is one; tests have a map.
#ifndef DUMPCAST_STORE_VMCORE_BLOCK_SOURCE_H_
#define DUMPCAST_STORE_VMCORE_BLOCK_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dumpcast {

// A half-open run of block numbers of one class: [first, first + count).
struct HeldRun {
  uint64_t first = 0;
  uint64_t count = 0;
  bool operator==(const HeldRun&) const = default;
};

enum class BlockState {
  kMissing,  // nothing is held under this number
  kEmpty,    // held as EMPTY: its pages went away before they could be sent
  kHeld,     // an encoding is held
};

// The blocks of one dump.
//
// Determinism: two sources that hold the same keys must give the same answers, so that the views of
// two relays are the same bytes: the best encoding of a number is the one with the lowest digest,
// and EMPTY only where there is no other.
//
// Thread safety: all methods may be called from any thread at once.
class BlockSource {
 public:
  virtual ~BlockSource() = default;

  // Gives the best encoding of a block (dcast_block_hdr and what follows). `*encoded` is replaced;
  // it is empty unless the state is kHeld. block_class: 0..3; number: class 0
  // stream << 48 | chunk, else the window.
  // DATA_LOSS when stored bytes fail their checksum and no peer could heal them.
  virtual absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                               std::string* encoded) const = 0;

  // The numbers in [first, last] for which ReadBlock() gives kEmpty or kHeld, as ascending runs
  // that neither touch nor overlap. Views call this once for each class when they are opened, so it
  // should be answered from keys, not from blocks.
  virtual absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                        uint64_t last) const = 0;

  // As ReadBlock(), but only the first 16 bytes (dcast_block_hdr) are wanted in `*header`, of an
  // encrypted block the first 72; more do no harm. The kdump-compressed view asks this once of each
  // block of memory. A source that keeps page bitmaps
  // apart from the blocks answers faster than this default, which reads the whole block.
  virtual absl::StatusOr<BlockState> ReadBlockHeader(uint8_t block_class, uint64_t number,
                                                     std::string* header) const {
    return ReadBlock(block_class, number, header);
  }
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_BLOCK_SOURCE_H_
