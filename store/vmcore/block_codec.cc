// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/block_codec.h"

#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("block encoding: ", absl::string_view(what.data(), what.size())));
}

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

absl::Status CheckBitmaps(const BlockHeader& header, unsigned page_shift) {
  const unsigned pages = DCAST_WINDOW_BYTES >> page_shift;
  if (header.page_shift != page_shift) {
    return Malformed(
        absl::StrFormat("page_shift %d: the dump's META says %d", header.page_shift, page_shift));
  }
  if (header.present >> pages != 0) {
    return Malformed(
        absl::StrFormat("present %#06x: a window has %d pages", header.present, pages));
  }
  if ((header.zero & ~header.present) != 0 || (header.unreadable & ~header.present) != 0 ||
      (header.zero & header.unreadable) != 0) {
    return Malformed(
        absl::StrFormat("zero %#06x and unreadable %#06x: wanted disjoint subsets of present %#06x",
                        header.zero, header.unreadable, header.present));
  }
  const uint32_t wanted = static_cast<uint32_t>(std::popcount(header.carried())) << page_shift;
  if (header.raw_len != wanted) {
    return Malformed(
        absl::StrFormat("raw_len %d: its bitmaps carry %d bytes", header.raw_len, wanted));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BlockHeader> ParseBlockHeader(uint8_t block_class, unsigned page_shift,
                                             std::string_view encoded) {
  dcast_block_hdr raw;
  if (encoded.size() < sizeof(raw)) {
    return Malformed(
        absl::StrFormat("%d bytes: wanted a header of %d", encoded.size(), sizeof(raw)));
  }
  std::memcpy(&raw, encoded.data(), sizeof(raw));
  BlockHeader header;
  header.raw_len = dcast_le32(raw.raw_len);
  header.codec = raw.codec;
  header.page_shift = raw.page_shift;
  header.header_len = raw.hdr_len;
  header.present = dcast_le16(raw.present);
  header.zero = dcast_le16(raw.zero);
  header.unreadable = dcast_le16(raw.unreadable);
  if (header.header_len < sizeof(raw)) {
    return Malformed(
        absl::StrFormat("hdr_len %d: wanted at least %d", header.header_len, sizeof(raw)));
  }
  if (header.raw_len > DCAST_WINDOW_BYTES) {
    return Malformed(
        absl::StrFormat("raw_len %d: wanted at most %d", header.raw_len, DCAST_WINDOW_BYTES));
  }
  if (raw.cipher != 0) {
    return absl::UnimplementedError(absl::StrFormat(
        "block encoding: cipher %d: the block is encrypted; `dumpcast get` and `dumpcast log` read "
        "it with --identity FILE",
        raw.cipher));
  }
  if (block_class == 0) {
    if (header.page_shift != 0 || header.present != 0 || header.zero != 0 ||
        header.unreadable != 0) {
      return Malformed("a class 0 block with pages: wanted page_shift and bitmaps 0");
    }
    return header;
  }
  if (absl::Status status = CheckBitmaps(header, page_shift); !status.ok()) return status;
  return header;
}

absl::StatusOr<DecodedBlock> DecodeBlock(uint8_t block_class, unsigned page_shift,
                                         std::string_view encoded) {
  absl::StatusOr<BlockHeader> header = ParseBlockHeader(block_class, page_shift, encoded);
  if (!header.ok()) return header.status();
  if (encoded.size() < header->header_len) {
    return Malformed(absl::StrFormat("%d bytes: hdr_len says that the header alone has %d",
                                     encoded.size(), header->header_len));
  }
  const std::string_view payload = encoded.substr(header->header_len);
  DecodedBlock block{*header, {}};
  if (header->raw_len == 0) {
    if (!payload.empty()) {
      return Malformed(absl::StrFormat("raw_len 0 and %d bytes after the header", payload.size()));
    }
    return block;
  }
  switch (header->codec) {
    case DCAST_CODEC_NONE:
      if (payload.size() != header->raw_len) {
        return Malformed(
            absl::StrFormat("%d bytes stored: raw_len says %d", payload.size(), header->raw_len));
      }
      block.raw.assign(payload);
      return block;
    case DCAST_CODEC_LZ4: {
      if (payload.size() > DCAST_MAX_ENCODED_BYTES) {
        return Malformed(absl::StrFormat("%d bytes of LZ4: wanted at most %d", payload.size(),
                                         DCAST_MAX_ENCODED_BYTES));
      }
      block.raw.resize(header->raw_len);
      const int got =
          LZ4_decompress_safe(payload.data(), block.raw.data(), static_cast<int>(payload.size()),
                              static_cast<int>(block.raw.size()));
      if (got < 0 || static_cast<uint32_t>(got) != header->raw_len) {
        return Malformed(absl::StrFormat("LZ4 gave %d bytes of %d: raw_len says %d", got,
                                         payload.size(), header->raw_len));
      }
      return block;
    }
    case DCAST_CODEC_ZSTD: {
      thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
      if (context == nullptr) return absl::ResourceExhaustedError("no memory for zstd");
      block.raw.resize(header->raw_len);
      const size_t got = ZSTD_decompressDCtx(context.get(), block.raw.data(), block.raw.size(),
                                             payload.data(), payload.size());
      if (ZSTD_isError(got) || got != header->raw_len) {
        return Malformed(absl::StrFormat(
            "zstd gave %s of %d bytes: raw_len says %d",
            ZSTD_isError(got) ? ZSTD_getErrorName(got) : absl::StrCat(got, " bytes").c_str(),
            payload.size(), header->raw_len));
      }
      return block;
    }
    default:
      return absl::UnimplementedError(absl::StrFormat(
          "block encoding: codec %d is unknown: this build reads none (0), lz4 (1) and zstd (2); a "
          "newer one may read it",
          header->codec));
  }
}

}  // namespace dumpcast
