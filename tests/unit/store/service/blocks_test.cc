// SPDX-License-Identifier: Apache-2.0
// Calls that read blocks as they are stored.
#include <gmock/gmock.h>

#include <map>

#include "store/vmcore/encrypted_source.h"
#include "store/vmcore/kdump_view.h"
#include "tests/unit/store/service/server_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using testing::EncryptedSmallDump;
using ::testing::HasSubstr;
using testing::PutAll;
using testing::SmallDump;
using testing::StoredBlock;

using BlocksTest = ServerTest;

TEST_F(BlocksTest, BlocksAreGivenAsTheyAreStored) {
  const DumpKey dump = DumpOf(1, 1);
  std::vector<StoredBlock> blocks = SmallDump();
  blocks.push_back({{3, 0x90, 0}, ""});  // EMPTY
  AddDump(dump, blocks, kNow, true);
  std::map<std::pair<uint8_t, uint64_t>, std::string> wanted;
  for (const StoredBlock& block : blocks) {
    wanted[{block.key.block_class, block.key.number}] = block.encoded;
  }
  v1::Dump described;
  ASSERT_TRUE(Get(dump.ResourceName(), &described).ok());
  for (const uint32_t prefix : {0u, 16u, 72u}) {
    size_t found = 0;
    for (uint32_t block_class = 0; block_class < DCAST_CLASSES; block_class++) {
      std::vector<v1::HeldRun> runs;
      std::string etag;
      ASSERT_TRUE(Runs(dump.ResourceName(), block_class, &etag, &runs).ok());
      EXPECT_EQ(etag, described.etag());
      for (const v1::HeldRun& run : runs) {
        v1::ReadBlocksRequest request;
        request.set_name(dump.ResourceName());
        request.set_block_class(block_class);
        request.set_first(run.first());
        request.set_last(run.first() + run.count() - 1);
        request.set_prefix_bytes(prefix);
        std::vector<v1::StoredBlock> read;
        const grpc::Status s = Blocks(request, &etag, &read);
        ASSERT_TRUE(s.ok()) << s.error_message();
        EXPECT_EQ(etag, described.etag());
        ASSERT_EQ(read.size(), run.count());
        for (uint64_t i = 0; i < run.count(); i++) {
          EXPECT_EQ(read[i].number(), run.first() + i);
          const std::string& whole =
              wanted.at({static_cast<uint8_t>(block_class), read[i].number()});
          EXPECT_EQ(read[i].encoded(), prefix == 0 ? whole : whole.substr(0, prefix));
        }
        found += read.size();
      }
    }
    EXPECT_EQ(found, wanted.size());
  }
}

TEST_F(BlocksTest, ARangeOfBlocksIsNotReadBeyondItsEnds) {
  const DumpKey dump = DumpOf(1, 1);
  AddDump(dump, SmallDump(), kNow, true);
  v1::ReadBlocksRequest request;
  request.set_name(dump.ResourceName());
  request.set_block_class(2);
  request.set_first(0x12);
  request.set_last(0x201);
  std::vector<v1::StoredBlock> read;
  std::string etag;
  ASSERT_TRUE(Blocks(request, &etag, &read).ok());
  ASSERT_EQ(read.size(), 16u);
  EXPECT_EQ(read[0].number(), 0x12u);
  EXPECT_EQ(read[13].number(), 0x1fu);
  EXPECT_EQ(read[15].number(), 0x201u);
  request.set_first(0x20);
  request.set_last(0x20);
  read.clear();
  ASSERT_TRUE(Blocks(request, &etag, &read).ok());
  EXPECT_TRUE(read.empty());
  EXPECT_FALSE(etag.empty()) << "names the set also when nothing of it is in the range";

  request.set_last(0x1f);
  EXPECT_EQ(Blocks(request, &etag, &read).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.set_last(0x20);
  request.set_block_class(4);
  EXPECT_EQ(Blocks(request, &etag, &read).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  std::vector<v1::HeldRun> runs;
  EXPECT_EQ(Runs(dump.ResourceName(), 4, &etag, &runs).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Runs(DumpOf(1, 2).ResourceName(), 1, &etag, &runs).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(BlocksTest, WhoReadsBlocksKeepsToTheSetThatTheyBeganWith) {
  const DumpKey dump = DumpOf(1, 1);
  const std::vector<StoredBlock> blocks = SmallDump();
  AddDump(dump, {}, 0, false);
  PutAll(store_.get(), dump, blocks, [](const BlockKey& key) { return key.block_class == 0; });
  v1::Dump at_first;
  ASSERT_TRUE(Get(dump.ResourceName(), &at_first).ok());
  PutAll(store_.get(), dump, blocks, [](const BlockKey& key) { return key.block_class == 1; });
  std::string begun;
  std::vector<v1::HeldRun> runs;
  ASSERT_TRUE(Runs(dump.ResourceName(), 1, &begun, &runs).ok());
  PutAll(store_.get(), dump, blocks, [](const BlockKey& key) { return key.block_class > 1; });

  v1::ReadBlocksRequest request;
  request.set_name(dump.ResourceName());
  request.set_block_class(2);
  request.set_last(~uint64_t{0});
  request.set_etag(begun);
  std::string etag;
  std::vector<v1::StoredBlock> read;
  ASSERT_TRUE(Blocks(request, &etag, &read).ok());
  EXPECT_EQ(etag, begun);
  EXPECT_TRUE(read.empty()) << "class 2 came later";
  request.set_etag("");
  ASSERT_TRUE(Blocks(request, &etag, &read).ok());
  EXPECT_NE(etag, begun);
  EXPECT_FALSE(read.empty());
  // Nobody has begun to read this one, so that nothing of it is left.
  request.set_etag(at_first.etag());
  const grpc::Status s = Blocks(request, &etag, &read);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(s.error_message(), HasSubstr("read again from the beginning"));
}

TEST_F(BlocksTest, AnEncryptedDumpTellsTheLeastAndIsReadByItsBlocksAlone) {
  const DumpKey dump = DumpOf(1, 1);
  const Identity me = NewIdentity();
  AddDump(dump, EncryptedSmallDump(dump, NewEndToEndKey(), me.recipient), kNow, true);
  v1::Dump described;
  ASSERT_TRUE(Get(dump.ResourceName(), &described).ok());
  EXPECT_TRUE(described.encrypted());
  EXPECT_EQ(described.signature(), "000102030405060708090a0b0c0d0e0f");
  EXPECT_EQ(described.hostname(), "db7");
  EXPECT_EQ(described.blocks_held(), described.blocks_expected());
  EXPECT_TRUE(described.holders(0).complete());
  EXPECT_EQ(described.reason(), "");
  EXPECT_EQ(described.elf_bytes(), 0u);
  EXPECT_EQ(described.kdump_bytes(), 0u);
  EXPECT_EQ(described.memory_bytes(), 0u);
  EXPECT_EQ(described.unreadable_pages(), 0u);

  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  std::string bytes;
  v1::ReadDumpResponse first;
  grpc::Status s = Read(request, &bytes, &first);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(s.error_message(), HasSubstr("`dumpcast get` or `dumpcast log` with --identity"));
  grpc::ClientContext context;
  v1::ReadLogRequest log_request;
  log_request.set_name(dump.ResourceName());
  auto reader = dumps_->ReadLog(&context, log_request);
  v1::ReadLogResponse response;
  EXPECT_FALSE(reader->Read(&response));
  s = reader->Finish();
  EXPECT_EQ(s.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(s.error_message(), ::testing::StartsWith("the dump is encrypted"));
}

TEST_F(BlocksTest, FilesOfAnEncryptedDumpAreMadeOfItsStoredBlocks) {
  const DumpKey dump = DumpOf(1, 1);
  const Identity me = NewIdentity();
  PutAll(store_.get(), dump, EncryptedSmallDump(dump, NewEndToEndKey(), me.recipient));
  const DumpKey plain = DumpOf(1, 2);
  PutAll(store_.get(), plain, SmallDump([](DumpBuilder* builder) {
           for (size_t i = 0; i < sizeof(builder->meta.signature); i++) {
             builder->meta.signature[i] = static_cast<uint8_t>(i);
           }
         }));
  const auto decrypted = EncryptedSource::Open(store_->OpenBlocks(dump)->source, dump.dump_id, me);
  ASSERT_TRUE(decrypted.ok()) << decrypted.status();
  const auto a = *MakeKdumpView(*MemoryView::Open(*decrypted));
  const auto b = *MakeKdumpView(*MemoryView::Open(store_->OpenBlocks(plain)->source));
  std::string a_bytes(a->size(), '?');
  std::string b_bytes(b->size(), '?');
  ASSERT_TRUE(a->Read(0, a_bytes.size(), a_bytes.data()).ok());
  ASSERT_TRUE(b->Read(0, b_bytes.size(), b_bytes.data()).ok());
  EXPECT_TRUE(a_bytes == b_bytes);
  // The index alone has what the header of an encrypted block takes.
  std::string header;
  ASSERT_TRUE(store_->OpenBlocks(dump)->source->ReadBlockHeader(2, 0x200, &header).ok());
  EXPECT_EQ(header.size(), 72u);
}

}  // namespace
}  // namespace dumpcast
