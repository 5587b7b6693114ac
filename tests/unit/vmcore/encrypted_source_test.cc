// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/encrypted_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "store/vmcore/block_codec.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"
#include "store/vmcore/log_reader.h"
#include "tests/unit/vmcore/dump_builder.h"
#include "tests/unit/vmcore/log_ring.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::array<uint8_t, DCAST_ID_BYTES> kDump = {1, 2, 3, 4, 5, 6, 7, 8,
                                                       9, 8, 7, 6, 5, 4, 3, 2};

// Windows 0 to 6; window 6 is only partly RAM. Window 3 is zero in class 1 and carried in class 2.
constexpr std::string_view kText = R"(
  ram 0x1000 0x68000
  page_offset 0xffff888000000000
  text 0xffffffff81000000 0x10000 0x20000
  info OSRELEASE=6.1.0-test
  log [    1.000000] Kernel panic - not syncing
  page 1-0xf 1 0x11
  page 0x10-0x1f 2 own
  page 0x20-0x27 3 zero
  page 0x28-0x2f 3 unreadable
  page 0x30 1 zero
  page 0x31-0x3f 2 own
  page 0x40-0x43 1 own
  page 0x44-0x47 2 zero
  page 0x50-0x5f 2 own
  page 0x60-0x67 3 own
  empty 2 5
)";

// Gives of a header what a relay's index has.
class IndexedSource : public BlockSource {
 public:
  IndexedSource(std::shared_ptr<const BlockSource> blocks, size_t header_bytes)
      : blocks_(std::move(blocks)), header_bytes_(header_bytes) {}
  absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                       std::string* encoded) const override {
    ++reads;
    return blocks_->ReadBlock(block_class, number, encoded);
  }
  absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                uint64_t last) const override {
    return blocks_->HeldRuns(block_class, first, last);
  }
  absl::StatusOr<BlockState> ReadBlockHeader(uint8_t block_class, uint64_t number,
                                             std::string* header) const override {
    absl::StatusOr<BlockState> state = blocks_->ReadBlock(block_class, number, header);
    header->resize(std::min(header->size(), header_bytes_));
    if (tamper) tamper(block_class, number, header);
    return state;
  }

  mutable int reads = 0;
  std::function<void(uint8_t, uint64_t, std::string*)> tamper;

 private:
  const std::shared_ptr<const BlockSource> blocks_;
  const size_t header_bytes_;
};

class EncryptedSourceTest : public ::testing::Test {
 protected:
  EncryptedSourceTest() {
    absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(kText);
    EXPECT_TRUE(builder.ok()) << builder.status();
    builder_ = *builder;
    plain_ = builder_.Build();
    Encrypt();
  }
  void Encrypt() {
    stored_ = builder_.BuildEncrypted(key_, kDump, {other_.recipient, me_.recipient});
    indexed_ = std::make_shared<IndexedSource>(stored_, 72);
  }
  absl::StatusOr<std::shared_ptr<const EncryptedSource>> Open() {
    return EncryptedSource::Open(indexed_, kDump, me_);
  }
  static absl::StatusOr<std::string> File(std::shared_ptr<const BlockSource> source, bool kdump) {
    auto memory = MemoryView::Open(std::move(source));
    if (!memory.ok()) return memory.status();
    auto view = kdump ? MakeKdumpView(*memory) : MakeElfView(*memory);
    if (!view.ok()) return view.status();
    std::string bytes((*view)->size(), '?');
    absl::Status status = (*view)->Read(0, bytes.size(), bytes.data());
    if (!status.ok()) return status;
    return bytes;
  }
  // The dump as a relay that lies about the header of one block gives it.
  absl::StatusOr<std::string> KdumpOfLies(uint8_t block_class, uint64_t number,
                                          const dcast_block_hdr& said, const dcast_block_hdr& is) {
    indexed_->tamper = [=](uint8_t c, uint64_t n, std::string* header) {
      if (c != block_class || n != number) return;
      const auto* from = reinterpret_cast<const char*>(&is);
      const auto* to = reinterpret_cast<const char*>(&said);
      for (size_t i = 0; i < sizeof(said); ++i) {
        (*header)[DCAST_ENCRYPTED_HDR_BYTES + i] ^= static_cast<char>(from[i] ^ to[i]);
      }
    };
    auto source = Open();
    EXPECT_TRUE(source.ok()) << source.status();
    return File(*source, /*kdump=*/true);
  }
  dcast_block_hdr HeaderOf(uint8_t block_class, uint64_t number) {
    dcast_block_hdr header;
    std::memcpy(&header, plain_->blocks().at({block_class, number}).data(), sizeof(header));
    return header;
  }

  DumpBuilder builder_;
  const EndToEndKey key_ = NewEndToEndKey();
  const Identity me_ = NewIdentity();
  const Identity other_ = NewIdentity();
  std::shared_ptr<MapBlockSource> plain_;
  std::shared_ptr<MapBlockSource> stored_;
  std::shared_ptr<IndexedSource> indexed_;
};

TEST_F(EncryptedSourceTest, FilesAreThoseOfTheSameDumpUnencrypted) {
  for (const size_t header_bytes : {size_t{16}, size_t{56}, size_t{72}, size_t{100000}}) {
    indexed_ = std::make_shared<IndexedSource>(stored_, header_bytes);
    for (const bool kdump : {false, true}) {
      auto source = Open();
      ASSERT_TRUE(source.ok()) << source.status();
      const absl::StatusOr<std::string> file = File(*source, kdump);
      ASSERT_TRUE(file.ok()) << file.status();
      EXPECT_EQ(*file, *File(plain_, kdump)) << header_bytes << " " << kdump;
    }
  }
}

TEST_F(EncryptedSourceTest, NothingOfMemoryIsInTheClear) {
  for (const auto& [id, encoded] : stored_->blocks()) {
    if (encoded.empty()) continue;
    const uint64_t stream = id.second >> DCAST_STREAM_SHIFT;
    if (id.first == 0 && (stream == 0 || stream == 5 || stream == 7)) continue;
    EXPECT_EQ(DecodeBlock(id.first, 12, encoded).status().code(), absl::StatusCode::kUnimplemented)
        << int{id.first} << " " << id.second;
    EXPECT_THAT(DecodeBlock(id.first, 12, encoded).status().message(), HasSubstr("--identity"));
  }
}

TEST_F(EncryptedSourceTest, TheLogIsReadFromEncryptedMemory) {
  for (uint64_t pfn = 1; pfn < 16; ++pfn) builder_.AddPage(pfn, 1);
  LogRing ring(&builder_, 0x1000, 0x2000, 0x3000, 0x4000);
  ring.Add(1'000'000'000, "from the ring");
  Encrypt();
  auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  const absl::StatusOr<KernelLog> log = ReadKernelLog(**MemoryView::Open(*source));
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(log->origin, LogOrigin::kMemory) << log->memory_status;
  EXPECT_THAT(log->text, HasSubstr("from the ring"));
}

TEST_F(EncryptedSourceTest, ARelayCannotMakeViewsOfIt) {
  const auto memory = MemoryView::Open(stored_);
  EXPECT_EQ(memory.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(memory.status().message(), HasSubstr("--identity FILE"));
}

TEST_F(EncryptedSourceTest, WhoseIdentityIsNotAmongTheRecipientsLearnsForHowManyItIs) {
  const auto source = EncryptedSource::Open(indexed_, kDump, NewIdentity());
  EXPECT_EQ(source.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(source.status().message(), HasSubstr("2 other recipients"));
}

TEST_F(EncryptedSourceTest, WhatHasNotArrivedIsNamed) {
  stored_->Drop(0, dcast_class0_number(DCAST_STREAM_WHOLE_META, 0));
  EXPECT_EQ(Open().status(), absl::NotFoundError("stream WHOLE_META: chunk 0 is not held"));
  stored_->Drop(0, dcast_class0_number(DCAST_STREAM_KEYS, 0));
  EXPECT_EQ(Open().status(), absl::NotFoundError("stream KEYS: chunk 0 is not held"));
  stored_->Drop(0, 0);
  EXPECT_EQ(Open().status(), absl::NotFoundError("stream META: chunk 0 is not held"));
}

TEST_F(EncryptedSourceTest, ADumpThatIsNotEncryptedIsRefused) {
  const auto source = EncryptedSource::Open(plain_, kDump, me_);
  EXPECT_EQ(source.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EncryptedSourceTest, TheWholeMetaMustBeWhole) {
  const std::string clear = stored_->blocks().at({0, 0});
  const uint64_t number = dcast_class0_number(DCAST_STREAM_WHOLE_META, 0);
  stored_->Put(0, number, EncryptEncoding(CipherKeys(key_), kDump.data(), 0, number, clear));
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(EncryptedSourceTest, ABlockInAnothersPlaceIsRefused) {
  const std::string first = stored_->blocks().at({2, 1});
  auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  std::string encoded;
  EXPECT_EQ(*(*source)->ReadBlock(2, 1, &encoded), BlockState::kHeld);
  stored_->Put(2, 3, first);
  absl::StatusOr<BlockState> state = (*source)->ReadBlock(2, 3, &encoded);
  EXPECT_EQ(state.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(state.status().message(), HasSubstr("block (2, 0x3)"));
  // Nor is one taken that nobody has encrypted.
  stored_->Put(2, 1, plain_->blocks().at({2, 1}));
  state = (*source)->ReadBlock(2, 1, &encoded);
  EXPECT_EQ(state.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(File(*source, false).status().message(), HasSubstr("block (2, 0x1)"));
}

TEST_F(EncryptedSourceTest, AnotherDumpsBlocksAreRefused) {
  auto dump = kDump;
  dump[0] ^= 1;
  EXPECT_EQ(EncryptedSource::Open(indexed_, dump, me_).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(EncryptedSourceTest, HeadersAreReadWithoutTheirBlocks) {
  auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  auto memory = *MemoryView::Open(*source);
  indexed_->reads = 0;
  ASSERT_TRUE(MakeKdumpView(memory).ok());
  EXPECT_EQ(indexed_->reads, 0);
}

TEST_F(EncryptedSourceTest, AHeaderThatWasAnotherWhenToldIsDataLossWhenThePagesAreRead) {
  const dcast_block_hdr is = HeaderOf(2, 1);
  dcast_block_hdr said = is;
  said.present = dcast_to_le16(0x7fff);
  said.raw_len = dcast_to_le32(15 << 12);
  const absl::StatusOr<std::string> file = KdumpOfLies(2, 1, said, is);
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(file.status().message(), HasSubstr("block (2, 0x1): its header is not the one"));
}

TEST_F(EncryptedSourceTest, PagesThatAreSaidToBeZeroAreCheckedAlthoughNobodyReadsThem) {
  // All zero: then the block would be its header.
  const dcast_block_hdr is = HeaderOf(2, 1);
  dcast_block_hdr said = is;
  said.zero = is.present;
  said.raw_len = 0;
  // The whole block is read instead, and says what it is.
  const absl::StatusOr<std::string> read = KdumpOfLies(2, 1, said, is);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, *File(plain_, true));

  // All but one page, which another class has as zero: no page of the window would be stored.
  const dcast_block_hdr shared = HeaderOf(2, 3);
  said = shared;
  said.present = dcast_to_le16(0xffff);
  said.zero = dcast_to_le16(0xfffe);
  said.raw_len = dcast_to_le32(1 << 12);
  absl::StatusOr<std::string> file = KdumpOfLies(2, 3, said, shared);
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(file.status().message(), HasSubstr("block (2, 0x3)"));

  // All but one, which is not RAM.
  const dcast_block_hdr edge = HeaderOf(3, 6);
  said = edge;
  said.present = dcast_to_le16(0x80ff);
  said.zero = dcast_to_le16(0x00ff);
  said.raw_len = dcast_to_le32(1 << 12);
  file = KdumpOfLies(3, 6, said, edge);
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(file.status().message(), HasSubstr("block (3, 0x6)"));
}

TEST_F(EncryptedSourceTest, AHeaderAloneIsCheckedWhenItIsTold) {
  const dcast_block_hdr is = HeaderOf(3, 2);
  dcast_block_hdr said = is;
  said.unreadable = 0;
  said.zero = is.present;
  const absl::StatusOr<std::string> file = KdumpOfLies(3, 2, said, is);
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(file.status().message(), HasSubstr("block (3, 0x2)"));
}

TEST_F(EncryptedSourceTest, AHeaderThatChangesBetweenTwoTellingsIsDataLoss) {
  auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  std::string header;
  ASSERT_EQ(*(*source)->ReadBlockHeader(2, 1, &header), BlockState::kHeld);
  EXPECT_EQ(header, plain_->blocks().at({2, 1}).substr(0, 16));
  indexed_->tamper = [](uint8_t, uint64_t, std::string* bytes) {
    (*bytes)[DCAST_ENCRYPTED_HDR_BYTES + 10] ^= 1;  // zero
  };
  EXPECT_EQ((*source)->ReadBlockHeader(2, 1, &header).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(*(*source)->ReadBlock(2, 1, &header), BlockState::kHeld);
}

TEST_F(EncryptedSourceTest, EmptyAndMissingBlocksStayWhatTheyAre) {
  auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  std::string encoded = "x";
  EXPECT_EQ(*(*source)->ReadBlock(2, 5, &encoded), BlockState::kEmpty);
  EXPECT_EQ(encoded, "");
  EXPECT_EQ(*(*source)->ReadBlockHeader(2, 5, &encoded), BlockState::kEmpty);
  EXPECT_EQ(*(*source)->ReadBlock(1, 5, &encoded), BlockState::kMissing);
  EXPECT_EQ(*(*source)->ReadBlockHeader(1, 5, &encoded), BlockState::kMissing);
  EXPECT_EQ(*(*source)->HeldRuns(2, 0, 100), *stored_->HeldRuns(2, 0, 100));
}

}  // namespace
}  // namespace dumpcast
