// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/encrypted_source.h"

#include <cstring>
#include <string_view>

#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"
#include "store/vmcore/dump_meta.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMaxKeysBytes = 1 << 20;  // 10922 recipients
// An encrypted encoding that is a header and nothing else.
constexpr size_t kHeaderAloneBytes =
    DCAST_ENCRYPTED_HDR_BYTES + sizeof(dcast_block_hdr) + DCAST_TAG_BYTES;

bool IsMeta(uint8_t block_class, uint64_t number) {
  return block_class == 0 && number == dcast_class0_number(DCAST_STREAM_META, 0);
}

bool IsClear(uint8_t block_class, uint64_t number) {
  return block_class == 0 &&
         dcast_stream_is_clear(static_cast<unsigned>(number >> DCAST_STREAM_SHIFT)) != 0;
}

// Whether the encrypted encoding is whole in its first kHeaderAloneBytes bytes.
bool IsHeaderAlone(std::string_view encrypted) {
  dcast_block_hdr outer;
  if (encrypted.size() < kHeaderAloneBytes) return false;
  std::memcpy(&outer, encrypted.data(), sizeof(outer));
  return dcast_le32(outer.raw_len) == sizeof(dcast_block_hdr);
}

absl::Status Named(uint8_t block_class, uint64_t number, const absl::Status& status) {
  return absl::Status(
      status.code(), absl::StrFormat("block (%d, %#x): %s", block_class, number, status.message()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const EncryptedSource>> EncryptedSource::Open(
    std::shared_ptr<const BlockSource> blocks, const std::array<uint8_t, DCAST_ID_BYTES>& dump_id,
    const Identity& identity) {
  const absl::StatusOr<MetaFields> clear = ReadMeta(*blocks);
  if (!clear.ok()) return clear.status();
  if (!clear->encrypted) {
    return absl::FailedPreconditionError("the dump is not encrypted: its blocks need no identity");
  }
  const absl::StatusOr<std::string> boxes =
      ReadStream(*blocks, *clear, DCAST_STREAM_KEYS, kMaxKeysBytes);
  if (!boxes.ok()) return boxes.status();
  const absl::StatusOr<EndToEndKey> key = OpenKeyBox(*boxes, identity);
  if (!key.ok()) return key.status();
  std::shared_ptr<const EncryptedSource> source(
      new EncryptedSource(std::move(blocks), dump_id, *key));
  const absl::StatusOr<MetaFields> whole = ReadMeta(*source);
  if (absl::IsNotFound(whole.status())) {
    return absl::NotFoundError("stream WHOLE_META: chunk 0 is not held");
  }
  if (!whole.ok()) return whole.status();
  if (whole->encrypted) {
    return absl::DataLossError(
        "stream WHOLE_META: its flags say that there is a fuller one: wanted all of META");
  }
  return source;
}

EncryptedSource::Bitmaps EncryptedSource::BitmapsOf(const std::string& encoding) {
  dcast_block_hdr header{};
  if (encoding.size() >= sizeof(header)) std::memcpy(&header, encoding.data(), sizeof(header));
  return {dcast_le16(header.present), dcast_le16(header.zero), dcast_le16(header.unreadable)};
}

absl::StatusOr<std::string> EncryptedSource::Decrypt(uint8_t block_class, uint64_t number,
                                                     std::string_view encrypted) const {
  absl::StatusOr<std::string> encoding =
      DecryptEncoding(keys_, dump_id_.data(), block_class, number, encrypted);
  if (!encoding.ok()) return Named(block_class, number, encoding.status());
  return encoding;
}

// Whether a header of this block was told with other bitmaps. `remember`: this tells one.
absl::Status EncryptedSource::Agree(uint8_t block_class, uint64_t number, const Bitmaps& bitmaps,
                                    bool remember) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::pair<uint8_t, uint64_t> key(block_class, number >> kPieceShift);
  auto it = told_.find(key);
  if (it == told_.end()) {
    if (!remember) return absl::OkStatus();
    it = told_.emplace(key, std::make_unique<Piece>()).first;
  }
  Bitmaps& told = (*it->second)[number % (uint64_t{1} << kPieceShift)];
  if (told.present != 0 && told != bitmaps) {
    return Named(block_class, number,
                 absl::DataLossError("its header is not the one that was given before: the relay "
                                     "that gave it, or its disk, cannot be trusted"));
  }
  if (remember) told = bitmaps;
  return absl::OkStatus();
}

absl::StatusOr<BlockState> EncryptedSource::ReadBlock(uint8_t block_class, uint64_t number,
                                                      std::string* encoded) const {
  if (IsMeta(block_class, number)) number = dcast_class0_number(DCAST_STREAM_WHOLE_META, 0);
  absl::StatusOr<BlockState> state = blocks_->ReadBlock(block_class, number, encoded);
  if (!state.ok() || *state != BlockState::kHeld || IsClear(block_class, number)) return state;
  absl::StatusOr<std::string> encoding = Decrypt(block_class, number, *encoded);
  if (!encoding.ok()) return encoding.status();
  if (absl::Status status = Agree(block_class, number, BitmapsOf(*encoding), /*remember=*/false);
      !status.ok()) {
    return status;
  }
  *encoded = *std::move(encoding);
  return state;
}

absl::StatusOr<std::vector<HeldRun>> EncryptedSource::HeldRuns(uint8_t block_class, uint64_t first,
                                                               uint64_t last) const {
  return blocks_->HeldRuns(block_class, first, last);
}

absl::StatusOr<BlockState> EncryptedSource::ReadBlockHeader(uint8_t block_class, uint64_t number,
                                                            std::string* header) const {
  if (block_class == 0) return ReadBlock(block_class, number, header);
  absl::StatusOr<BlockState> state = blocks_->ReadBlockHeader(block_class, number, header);
  if (!state.ok() || *state != BlockState::kHeld) return state;
  if (IsHeaderAlone(*header)) {
    absl::StatusOr<std::string> encoding =
        Decrypt(block_class, number, std::string_view(*header).substr(0, kHeaderAloneBytes));
    if (!encoding.ok()) return encoding.status();
    *header = *std::move(encoding);
    return state;
  }
  const absl::StatusOr<std::string> told = DecryptHeaderUnchecked(keys_, *header);
  const Bitmaps bitmaps = told.ok() ? BitmapsOf(*told) : Bitmaps{};
  // Also a source that keeps less of a header than is needed here ends there.
  if ((bitmaps.present & ~(bitmaps.zero | bitmaps.unreadable)) == 0) {
    return ReadBlock(block_class, number, header);
  }
  if (absl::Status status = Agree(block_class, number, bitmaps, /*remember=*/true); !status.ok()) {
    return status;
  }
  *header = *told;
  return state;
}

}  // namespace dumpcast
