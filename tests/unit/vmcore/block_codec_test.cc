// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/block_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "protos/wire/bytes.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

std::string Pages(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += std::string(4096, static_cast<char>('a' + i));
  return bytes;
}

// `encoded` with one field of its header changed.
template <typename Change>
std::string With(std::string encoded, Change change) {
  dcast_block_hdr header;
  std::memcpy(&header, encoded.data(), sizeof(header));
  change(header);
  std::memcpy(encoded.data(), &header, sizeof(header));
  return encoded;
}

void ExpectRefused(uint8_t block_class, std::string_view encoded, absl::StatusCode code,
                   const std::string& words) {
  const absl::StatusOr<DecodedBlock> block = DecodeBlock(block_class, 12, encoded);
  EXPECT_EQ(block.status().code(), code) << block.status();
  EXPECT_THAT(std::string(block.status().message()), HasSubstr(words));
}

// A compressed block of two pages whose header says one, or three.
void ExpectOtherPagesRefused(const std::string& two_pages, const std::string& words_of_one,
                             const std::string& words_of_three) {
  for (const int pages : {1, 3}) {
    const std::string other = With(two_pages, [&](dcast_block_hdr& h) {
      h.present = dcast_to_le16(static_cast<uint16_t>((1 << pages) - 1));
      h.raw_len = dcast_to_le32(static_cast<uint32_t>(pages) * 4096);
    });
    ExpectRefused(1, other, absl::StatusCode::kDataLoss,
                  pages == 1 ? words_of_one : words_of_three);
  }
}

TEST(BlockCodec, CarriedPagesComeBackInOrderThroughEveryCodec) {
  for (const uint8_t codec : {DCAST_CODEC_NONE, DCAST_CODEC_LZ4, DCAST_CODEC_ZSTD}) {
    const std::string encoded =
        EncodeBlock(codec, 12, 0b1111'0000, 0b0001'0000, 0b0100'0000, Pages(2));
    const absl::StatusOr<DecodedBlock> block = DecodeBlock(1, 12, encoded);
    ASSERT_TRUE(block.ok()) << block.status();
    EXPECT_EQ(block->header.codec, codec);
    EXPECT_EQ(block->raw, Pages(2));
    EXPECT_EQ(block->header.carried(), 0b1010'0000);
    EXPECT_EQ(block->header.CarriedIndex(5), 0);
    EXPECT_EQ(block->header.CarriedIndex(7), 1);
  }
}

TEST(BlockCodec, FullWindowAndAllZeroWindow) {
  const absl::StatusOr<DecodedBlock> full =
      DecodeBlock(3, 12, EncodeBlock(DCAST_CODEC_LZ4, 12, 0xffff, 0, 0, Pages(16)));
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->raw.size(), size_t{DCAST_WINDOW_BYTES});
  const absl::StatusOr<DecodedBlock> zero =
      DecodeBlock(3, 12, EncodeBlock(DCAST_CODEC_NONE, 12, 0xffff, 0xffff, 0, ""));
  ASSERT_TRUE(zero.ok()) << zero.status();
  EXPECT_TRUE(zero->raw.empty());
}

TEST(BlockCodec, PageOfTheWholeWindow) {
  const std::string page(DCAST_WINDOW_BYTES, 'x');
  const absl::StatusOr<DecodedBlock> block =
      DecodeBlock(1, 16, EncodeBlock(DCAST_CODEC_LZ4, 16, 1, 0, 0, page));
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->raw, page);
  EXPECT_FALSE(DecodeBlock(1, 16, EncodeBlock(DCAST_CODEC_LZ4, 16, 3, 2, 0, page)).ok());
}

TEST(BlockCodec, StreamChunk) {
  const absl::StatusOr<DecodedBlock> block =
      DecodeBlock(0, 12, EncodeBlock(DCAST_CODEC_LZ4, 0, 0, 0, 0, "Linux version 6.1"));
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->raw, "Linux version 6.1");
}

TEST(BlockCodec, LongerHeaderOfANewerMinorIsSkipped) {
  std::string encoded = With(EncodeBlock(DCAST_CODEC_NONE, 12, 1, 0, 0, Pages(1)),
                             [](dcast_block_hdr& header) { header.hdr_len = 24; });
  encoded.insert(16, 8, '?');
  const absl::StatusOr<DecodedBlock> block = DecodeBlock(1, 12, encoded);
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->raw, Pages(1));
}

TEST(BlockCodec, HeaderAloneParses) {
  const std::string encoded = EncodeBlock(DCAST_CODEC_LZ4, 12, 3, 2, 0, Pages(1));
  ASSERT_TRUE(ParseBlockHeader(1, 12, std::string_view(encoded).substr(0, 16)).ok());
  EXPECT_EQ(ParseBlockHeader(1, 12, std::string_view(encoded).substr(0, 15)).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(BlockCodec, EveryWrongFieldIsRefusedByName) {
  const std::string good = EncodeBlock(DCAST_CODEC_NONE, 12, 3, 0, 0, Pages(2));
  using H = dcast_block_hdr;
  const auto loss = absl::StatusCode::kDataLoss;
  ExpectRefused(1, With(good, [](H& h) { h.hdr_len = 8; }), loss, "hdr_len 8");
  ExpectRefused(1, With(good, [](H& h) { h.raw_len = dcast_to_le32(65537); }), loss,
                "raw_len 65537");
  ExpectRefused(1, With(good, [](H& h) { h.raw_len = dcast_to_le32(4096); }), loss, "raw_len 4096");
  ExpectRefused(1, With(good, [](H& h) { h.page_shift = 13; }), loss, "page_shift 13");
  ExpectRefused(1, With(good, [](H& h) { h.zero = dcast_to_le16(4); }), loss, "zero 0x0004");
  ExpectRefused(1, With(good, [](H& h) { h.unreadable = dcast_to_le16(8); }), loss,
                "unreadable 0x0008");
  ExpectRefused(1, With(good, [](H& h) { h.zero = h.unreadable = dcast_to_le16(1); }), loss,
                "disjoint");
  ExpectRefused(0, good, loss, "class 0 block with pages");
  EXPECT_THAT(
      std::string(DecodeBlock(1, 14, EncodeBlock(0, 14, 0x10, 0, 0, std::string(16384, 'x')))
                      .status()
                      .message()),
      HasSubstr("a window has 4 pages"));
}

TEST(BlockCodec, PayloadOfAnotherLengthIsRefused) {
  const std::string none = EncodeBlock(DCAST_CODEC_NONE, 12, 1, 0, 0, Pages(1));
  ExpectRefused(1, none.substr(0, none.size() - 1), absl::StatusCode::kDataLoss,
                "4095 bytes stored");
  ExpectRefused(1, none + "x", absl::StatusCode::kDataLoss, "4097 bytes stored");
  const std::string lz4 = EncodeBlock(DCAST_CODEC_LZ4, 12, 1, 0, 0, Pages(1));
  ExpectRefused(1, lz4.substr(0, lz4.size() - 1), absl::StatusCode::kDataLoss, "LZ4");
  ExpectRefused(1, EncodeBlock(DCAST_CODEC_NONE, 12, 1, 1, 0, "") + "x",
                absl::StatusCode::kDataLoss, "raw_len 0");
  ExpectRefused(1, With(none.substr(0, 16), [](dcast_block_hdr& h) { h.hdr_len = 200; }),
                absl::StatusCode::kDataLoss, "16 bytes");
}

TEST(BlockCodec, Lz4ThatGivesMoreOrLessThanSaidIsRefused) {
  std::string two_pages = EncodeBlock(DCAST_CODEC_LZ4, 12, 3, 0, 0, Pages(2));
  ExpectOtherPagesRefused(two_pages, "LZ4", "LZ4 gave 8192");
}

TEST(BlockCodec, ZstdThatGivesAnotherLengthIsRefused) {
  const std::string good = EncodeBlock(DCAST_CODEC_ZSTD, 12, 3, 0, 0, Pages(2));
  ASSERT_TRUE(DecodeBlock(1, 12, good).ok());
  ExpectOtherPagesRefused(good, "zstd gave Destination buffer is too small",
                          "zstd gave 8192 bytes");
  ExpectRefused(1, good.substr(0, good.size() - 1), absl::StatusCode::kDataLoss, "zstd gave ");
}

TEST(BlockCodec, WhatThisBuildCannotReadIsNamed) {
  const std::string good = EncodeBlock(DCAST_CODEC_NONE, 12, 1, 0, 0, Pages(1));
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  ExpectRefused(1, With(good, [](dcast_block_hdr& h) { h.codec = 9; }), unimplemented, "codec 9");
  ExpectRefused(1, With(good, [](dcast_block_hdr& h) { h.cipher = 1; }), unimplemented, "cipher 1");
}

TEST(BlockCodec, RandomBytesNeverGiveABlockOfAnotherLength) {
  std::mt19937 random(1);
  for (int round = 0; round < 40000; ++round) {
    const uint8_t codec = round % 2 ? DCAST_CODEC_LZ4 : DCAST_CODEC_ZSTD;
    std::string encoded = EncodeBlock(codec, 12, 0x00ff, 0x000f, 0, Pages(4));
    for (int i = 0; i < 3; ++i) {
      encoded[random() % encoded.size()] = static_cast<char>(random());
    }
    const absl::StatusOr<DecodedBlock> block = DecodeBlock(1, 12, encoded);
    if (!block.ok()) continue;
    ASSERT_EQ(block->raw.size(), std::popcount(block->header.carried()) * size_t{4096})
        << "round " << round;
  }
}

}  // namespace
}  // namespace dumpcast
