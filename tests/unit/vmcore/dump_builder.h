// SPDX-License-Identifier: Apache-2.0
// Makes the blocks of a small dump from a description, for tests of whatever reads blocks.
#ifndef DUMPCAST_TESTS_UNIT_VMCORE_DUMP_BUILDER_H_
#define DUMPCAST_TESTS_UNIT_VMCORE_DUMP_BUILDER_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/keys/end_to_end.h"
#include "protos/wire/dumpcast_wire.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

// Blocks in a map. Not synchronized: change it before others read it.
class MapBlockSource : public BlockSource {
 public:
  void Put(uint8_t block_class, uint64_t number, std::string encoded) {
    blocks_[{block_class, number}] = std::move(encoded);
  }
  void PutEmpty(uint8_t block_class, uint64_t number) { blocks_[{block_class, number}].clear(); }
  void Drop(uint8_t block_class, uint64_t number) { blocks_.erase({block_class, number}); }
  // What ReadBlock() of this number fails with from now on.
  void Fail(uint8_t block_class, uint64_t number, absl::Status status) {
    failures_[{block_class, number}] = std::move(status);
  }
  // (class, number) -> encoding, empty for EMPTY.
  const std::map<std::pair<uint8_t, uint64_t>, std::string>& blocks() const { return blocks_; }

  absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                       std::string* encoded) const override;
  absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                uint64_t last) const override;

 private:
  std::map<std::pair<uint8_t, uint64_t>, std::string> blocks_;
  std::map<std::pair<uint8_t, uint64_t>, absl::Status> failures_;
};

// One block of class 1..3 or 0, in wire format. `raw` is what goes through the codec.
std::string EncodeBlock(uint8_t codec, uint8_t page_shift, uint16_t present, uint16_t zero,
                        uint16_t unreadable, std::string_view raw);

class DumpBuilder {
 public:
  DumpBuilder();

  // One statement a line, # starts a comment; numbers are decimal or 0x:
  //   page_shift SHIFT               4 KiB pages without it; must come first
  //   codec none|lz4                 lz4 without it
  //   ram START END                  a range of the memory map, bytes
  //   page PFN[-PFN] CLASS FILL      FILL: zero | unreadable | BYTE | own (the page number,
  //   repeated) bytes PADDR HEX                into pages that exist already text VADDR PADDR BYTES
  //   where the kernel image is page_offset VADDR info LINE                      a line of
  //   vmcoreinfo log LINE                       a line of stream LOG drop CLASS NUMBER the block
  //   exists and is not held empty CLASS NUMBER             ... and is held as EMPTY drop_stream
  //   STREAM [CHUNK]     by number (enum dcast_stream)
  // INVALID_ARGUMENT names the line.
  static absl::StatusOr<DumpBuilder> FromText(std::string_view text);

  // Fields of META that no statement sets are the test's to change. Lengths are set by Build().
  dcast_meta meta;
  uint8_t codec = 1;  // enum dcast_codec
  std::vector<std::pair<uint64_t, uint64_t>> ram;
  std::string vmcoreinfo;
  std::string notes;  // as the stream; empty: none
  std::string log;

  // Adds a page, all zeros.
  void AddPage(uint64_t pfn, uint8_t block_class);
  void AddUnreadable(uint64_t pfn, uint8_t block_class);
  // Adds a page with these bytes (page size). All zero becomes a bit.
  void AddPage(uint64_t pfn, uint8_t block_class, std::string_view bytes);
  // Writes into pages that were added. False when one of them was not.
  bool Write(uint64_t paddr, std::string_view bytes);
  bool Write64(uint64_t paddr, uint64_t value);
  bool Write32(uint64_t paddr, uint32_t value);

  // The blocks of all that, presence included. May be called again.
  std::shared_ptr<MapBlockSource> Build() const;
  // The same as a host sends it that is armed for these recipients. `dump_id` is the dump's.
  std::shared_ptr<MapBlockSource> BuildEncrypted(const EndToEndKey& key,
                                                 const std::array<uint8_t, DCAST_ID_BYTES>& dump_id,
                                                 const std::vector<Recipient>& recipients) const;

  uint64_t page_bytes() const { return uint64_t{1} << meta.page_shift; }

 private:
  struct Page {
    uint8_t block_class;
    bool unreadable;
    std::string bytes;  // empty: zeros
  };
  absl::Status Statement(std::string_view line);
  void PutStream(MapBlockSource* source, dcast_stream stream, std::string_view bytes) const;

  std::map<uint64_t, Page> pages_;  // by pfn
  std::vector<std::pair<uint8_t, uint64_t>> dropped_;
  std::vector<std::pair<uint8_t, uint64_t>> empty_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_VMCORE_DUMP_BUILDER_H_
