// SPDX-License-Identifier: Apache-2.0
#include "relay/class0.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "protos/wire/bytes.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMetaNumber = 0;  // stream 0, chunk 0
static_assert(DCAST_STREAM_META == 0);

}  // namespace

Class0::Class0(uint64_t lane_mask) : lane_mask_(lane_mask) {
  meta_alone_.Add(kMetaNumber);
}

void Class0::NoteLane(uint8_t lane) {
  const uint64_t bit = uint64_t{1} << lane;
  if ((lane_mask_ & bit) != 0) return;
  lane_mask_ |= bit;
  received_ = {};
  if (lanes_ != 0 && !ReceivesAll()) AddReceived(expected_);
}

void Class0::AddReceived(const Expectation& expected) {
  for (uint8_t c = 1; c < DCAST_CLASSES; ++c)
    expected.numbers(c).ForEachRun([this, c](uint64_t first, uint64_t count) {
      for (uint64_t number = first; number - first < count; ++number)
        if (Received(c, number)) received_[c].Add(number);
      return true;
    });
}

absl::Status Class0::Add(uint64_t number, std::string_view encoded) {
  const uint64_t stream = number >> DCAST_STREAM_SHIFT;
  if (stream != DCAST_STREAM_META && stream != DCAST_STREAM_PRESENCE) return absl::OkStatus();
  if (number == kMetaNumber && meta_) return absl::OkStatus();
  // An EMPTY class 0 block says that the stream could not be read.
  if (encoded.empty()) return absl::DataLossError("the sender could not read it");
  const absl::StatusOr<DecodedBlock> block = DecodeBlock(0, 0, encoded);
  if (!block.ok()) return block.status();
  dcast_meta meta{};
  uint32_t lanes = 0;
  if (number == kMetaNumber && block->raw.size() >= DCAST_META_LEAST_BYTES) {
    std::memcpy(&meta, block->raw.data(), std::min(sizeof(meta), block->raw.size()));
    lanes = dcast_le32(meta.lanes);
    if (lanes == 0 || lanes > DCAST_MAX_LANES)
      return absl::DataLossError(absl::StrCat("META: wanted 1 to 64 lanes, found ", lanes));
  }
  if (!expected_.AddChunk(number, block->raw))
    return absl::DataLossError(
        absl::StrCat(stream == DCAST_STREAM_META ? "META" : "PRESENCE", " of ", block->raw.size(),
                     " bytes names more than a dump can have, or is cut short"));
  if (number == kMetaNumber) {
    meta_ = meta;
    lanes_ = lanes;
    if (!ReceivesAll()) AddReceived(expected_);
    expected_.numbers(0).ForEachRun([this](uint64_t first, uint64_t count) {
      if (first >> DCAST_STREAM_SHIFT != DCAST_STREAM_PRESENCE) log_numbers_.AddRange(first, count);
      return true;
    });
  } else if (lanes_ != 0 && !ReceivesAll()) {
    Expectation slice;
    slice.AddChunk(number, block->raw);
    AddReceived(slice);
  }
  return absl::OkStatus();
}

void Class0::SetLogOnly(bool log_only) {
  log_only_ = log_only;
}

const NumberSet& Class0::numbers(uint8_t block_class) const {
  if (block_class == 0 && !meta_) return meta_alone_;
  if (!log_only_) return expected_.numbers(block_class);
  return block_class == 0 ? log_numbers_ : none_;
}

const NumberSet& Class0::received(uint8_t block_class) const {
  if (block_class == 0 || log_only_ || lanes_ == 0 || ReceivesAll()) return numbers(block_class);
  return received_[block_class];
}

uint64_t Class0::blocks() const {
  if (log_only_ && meta_) return log_numbers_.Count();
  return meta_ ? expected_.blocks() : expected_.blocks() + 1;
}

}  // namespace dumpcast
