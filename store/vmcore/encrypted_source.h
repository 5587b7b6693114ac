// SPDX-License-Identifier: Apache-2.0
// The blocks of an encrypted dump as if it were not: views over this need to know of no cipher.
#ifndef DUMPCAST_STORE_VMCORE_ENCRYPTED_SOURCE_H_
#define DUMPCAST_STORE_VMCORE_ENCRYPTED_SOURCE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/keys/end_to_end.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

// Decrypts what another source holds. META is answered with the whole META of stream 6; PRESENCE
// and KEYS, which are in the clear, and EMPTY blocks come as they are.
//
// ReadBlock() gives nothing that does not open under the dump's key for exactly this block. A
// header alone cannot be checked, but one that was told is remembered (6 bytes of it, for each
// block of the windows that were asked for), and ReadBlock() refuses a block whose header is
// another one. A block that carries no page, which nobody would read afterwards, is checked at
// once. So whoever reads every page that headers promise has had all of them checked.
//
// Thread safety: as BlockSource says.
class EncryptedSource final : public BlockSource {
 public:
  // dump_id: of the dump whose blocks these are; `blocks` is kept.
  // NOT_FOUND: META, stream KEYS or stream WHOLE_META is not held (yet). FAILED_PRECONDITION: the
  // dump is not encrypted. PERMISSION_DENIED: it is, for others than this identity. DATA_LOSS:
  // malformed, or not what its host encrypted. Errors of the source as they are.
  static absl::StatusOr<std::shared_ptr<const EncryptedSource>> Open(
      std::shared_ptr<const BlockSource> blocks, const std::array<uint8_t, DCAST_ID_BYTES>& dump_id,
      const Identity& identity);

  // DATA_LOSS, with the block's class and number, when it does not open, or its header is not the
  // one that was told before.
  absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                       std::string* encoded) const override;
  absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                uint64_t last) const override;
  absl::StatusOr<BlockState> ReadBlockHeader(uint8_t block_class, uint64_t number,
                                             std::string* header) const override;

 private:
  // Of a header, what views take from it. present is 0 where none was told.
  struct Bitmaps {
    uint16_t present = 0;
    uint16_t zero = 0;
    uint16_t unreadable = 0;
    bool operator==(const Bitmaps&) const = default;
  };
  static constexpr uint64_t kPieceShift = 12;
  using Piece = std::array<Bitmaps, 1 << kPieceShift>;  // of as many windows

  EncryptedSource(std::shared_ptr<const BlockSource> blocks,
                  const std::array<uint8_t, DCAST_ID_BYTES>& dump_id, const EndToEndKey& key)
      : blocks_(std::move(blocks)), dump_id_(dump_id), keys_(key) {}

  static Bitmaps BitmapsOf(const std::string& encoding);
  absl::StatusOr<std::string> Decrypt(uint8_t block_class, uint64_t number,
                                      std::string_view encrypted) const;
  absl::Status Agree(uint8_t block_class, uint64_t number, const Bitmaps& bitmaps,
                     bool remember) const;

  const std::shared_ptr<const BlockSource> blocks_;
  const std::array<uint8_t, DCAST_ID_BYTES> dump_id_;
  const CipherKeys keys_;

  // Not absl::Mutex: as in MemoryView. Guards told_, which is by class and window >> kPieceShift.
  mutable std::mutex mutex_;
  mutable absl::flat_hash_map<std::pair<uint8_t, uint64_t>, std::unique_ptr<Piece>> told_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_ENCRYPTED_SOURCE_H_
