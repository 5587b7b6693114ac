// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/rocks_format.h"
#include "store/vmcore/block_source.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using testing::EncodeBlock;
using testing::EncodeMeta;
using testing::EncodePresence;
using ::testing::HasSubstr;
using testing::OpenOrDie;
using testing::RandomBytes;
using testing::RecordOf;
using testing::SmallStore;
using testing::TempDir;

std::vector<BlockKey> KeysOf(const Store& store, const DumpKey& dump, uint8_t block_class) {
  std::vector<BlockKey> keys;
  EXPECT_TRUE(store
                  .ScanBlocks(dump, block_class, 0, ~0ull, false,
                              [&](const BlockKey& key, std::string_view) {
                                keys.push_back(key);
                                return true;
                              })
                  .ok());
  return keys;
}

TEST(IdsTest, HexGoesBothWaysAndNothingElseIsAccepted) {
  Id16 id;
  for (size_t i = 0; i < id.size(); i++) id[i] = static_cast<uint8_t>(17 * i);
  EXPECT_EQ(ToHex(id), "00112233445566778899aabbccddeeff");
  EXPECT_EQ(*Id16FromHex("00112233445566778899AABBCCDDEEFF"), id);
  for (const char* bad :
       {"", "00", "00112233445566778899aabbccddeefg", "00112233445566778899aabbccddeeff0",
        "0x112233445566778899aabbccddeeff"}) {
    EXPECT_EQ(Id16FromHex(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(Id16FromBytes("short").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DumpOf(1, 0xab).ResourceName(),
            "hosts/01010101010101010101010101010101/dumps/abababababababababababababababab");
}

TEST(StoreTest, KeysStayInOrderAcrossClassesDigestsAndDumps) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  const DumpKey neighbour = DumpOf(1, 3);
  const std::vector<BlockKey> keys = {{2, 255, 9}, {1, 1ull << 40, 1}, {1, 256, 1},
                                      {1, 256, 0}, {1, 255, 3},        {1, 255, 2}};
  for (const BlockKey& key : keys) {
    ASSERT_TRUE(store->PutBlock(dump, key, key.digest == 0 ? "" : "0123456789abcdef").ok());
    ASSERT_TRUE(store->PutBlock(neighbour, {1, 255, 77}, "0123456789abcdef").ok());
  }
  EXPECT_EQ(KeysOf(*store, dump, 1),
            (std::vector<BlockKey>{
                {1, 255, 2}, {1, 255, 3}, {1, 256, 0}, {1, 256, 1}, {1, 1ull << 40, 1}}));
  EXPECT_EQ(KeysOf(*store, dump, 2), (std::vector<BlockKey>{{2, 255, 9}}));
  EXPECT_TRUE(KeysOf(*store, dump, 0).empty());
}

TEST(StoreTest, ViewsGetTheLowestDigestAndEmptyOnlyWhenAlone) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  const std::string low = EncodeBlock(12, 1, 1, 0, "");
  const std::string high = EncodeBlock(12, 3, 3, 0, "");
  ASSERT_TRUE(store->PutBlock(dump, {1, 8, 200}, high).ok());
  ASSERT_TRUE(store->PutBlock(dump, {1, 8, 100}, low).ok());
  ASSERT_TRUE(store->PutBlock(dump, {1, 8, 0}, "").ok());
  ASSERT_TRUE(store->PutBlock(dump, {1, 9, 0}, "").ok());
  BlockKey key;
  EXPECT_EQ(*store->GetBestBlock(dump, 1, 8, &key), low);
  EXPECT_EQ(key, (BlockKey{1, 8, 100}));
  EXPECT_EQ(*store->GetBestBlock(dump, 1, 9, &key), "");
  EXPECT_EQ(key.digest, 0u);
  EXPECT_EQ(store->GetBestBlock(dump, 1, 10, &key).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*store->GetBlock(dump, {1, 8, 200}), high);
  EXPECT_EQ(store->GetBlock(dump, {1, 8, 300}).status().code(), absl::StatusCode::kNotFound);

  std::vector<std::pair<BlockKey, std::string>> headers;
  ASSERT_TRUE(store
                  ->ScanHeaders(dump, 1, 0, ~0ull,
                                [&](const BlockKey& k, std::string_view header) {
                                  headers.emplace_back(k, header);
                                  return true;
                                })
                  .ok());
  EXPECT_EQ(headers,
            (std::vector<std::pair<BlockKey, std::string>>{{{1, 8, 100}, low}, {{1, 9, 0}, ""}}));
}

TEST(StoreTest, TheSameKeyTwiceIsOneKey) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  const std::string block = EncodeBlock(12, 1, 1, 0, "");
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(store->PutBlock(dump, {1, 8, 100}, block).ok());
    ASSERT_TRUE(store->Flush().ok());
  }
  ASSERT_TRUE(store
                  ->ReadBlockSets(dump,
                                  [&](const DumpBlocks& blocks) {
                                    EXPECT_EQ(blocks.held.keys(), 1u);
                                    EXPECT_EQ(blocks.durable.keys(), 1u);
                                    EXPECT_EQ(blocks.held.encoded_bytes(), block.size());
                                  })
                  .ok());
}

TEST(StoreTest, ImpossibleBlocksAreRefused) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  EXPECT_EQ(store->PutBlock(dump, {4, 0, 1}, "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->PutBlock(dump, {1, 0, 0}, "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->PutBlock(dump, {1, 0, 1}, "").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->PutBlock(dump, {1, 0, 1}, std::string(DCAST_MAX_ENCODED_BYTES + 1, 'x')).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(StoreTest, BufferedBlocksAreHeldButNotDurableUntilFlush) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  ASSERT_TRUE(store->PutBlock(dump, {1, 1, 1}, RandomBytes(1, 100)).ok());
  ASSERT_TRUE(store->Flush().ok());
  ASSERT_TRUE(store->PutBlock(dump, {1, 2, 2}, RandomBytes(2, 100)).ok());
  const auto check = [&](uint64_t held, uint64_t durable) {
    ASSERT_TRUE(store
                    ->ReadBlockSets(dump,
                                    [&](const DumpBlocks& blocks) {
                                      EXPECT_EQ(blocks.held.keys(), held);
                                      EXPECT_EQ(blocks.durable.keys(), durable);
                                    })
                    .ok());
  };
  check(2, 1);
  ASSERT_TRUE(store->Flush().ok());
  check(2, 2);
  EXPECT_EQ(*store->GetBlock(dump, {1, 2, 2}), RandomBytes(2, 100));
}

TEST(StoreTest, WhatWaitsForAFlushIsReadInEveryWay) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  // In turns on disk and in memory, the even ones in memory.
  for (uint64_t n = 1; n < 100; n += 2)
    ASSERT_TRUE(store->PutBlock(dump, {1, n, n}, RandomBytes(n, 1000)).ok());
  ASSERT_TRUE(store->Flush().ok());
  for (uint64_t n = 2; n < 100; n += 2)
    ASSERT_TRUE(store->PutBlock(dump, {1, n, n}, RandomBytes(n, 1000)).ok());
  const absl::StatusOr<OpenedBlocks> before = store->OpenBlocks(dump);
  ASSERT_TRUE(before.ok());
  const auto check = [&](const OpenedBlocks& opened) {
    uint64_t next = 1;
    ASSERT_TRUE(store
                    ->ScanBlocks(dump, 1, 0, ~0ull, true,
                                 [&](const BlockKey& key, std::string_view encoded) {
                                   EXPECT_EQ(key.number, next);
                                   EXPECT_EQ(encoded, RandomBytes(next++, 1000));
                                   return true;
                                 })
                    .ok());
    EXPECT_EQ(next, 100u);
    for (uint64_t n = 1; n < 100; ++n) {
      EXPECT_EQ(*store->GetBlock(dump, {1, n, n}), RandomBytes(n, 1000)) << n;
      std::string encoded;
      ASSERT_EQ(*opened.source->ReadBlock(1, n, &encoded), BlockState::kHeld) << n;
      EXPECT_EQ(encoded, RandomBytes(n, 1000)) << n;
    }
  };
  check(*before);
  ASSERT_TRUE(store->Flush().ok());
  check(*before);
  check(*store->OpenBlocks(dump));
}

TEST(StoreTest, MoreThanMayWaitIsFlushedByAPut) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 2);
  const uint64_t limit = SmallStore(dir.path()).write_buffer_bytes;
  uint64_t put = 0;
  for (uint64_t n = 1; put < 3 * limit; ++n) {
    ASSERT_TRUE(store->PutBlock(dump, {1, n, n}, RandomBytes(n, 60000)).ok());
    put += 60000;
    ASSERT_TRUE(store
                    ->ReadBlockSets(dump,
                                    [&](const DumpBlocks& blocks) {
                                      const uint64_t durable = blocks.durable.keys() * 60000;
                                      EXPECT_LE(put - durable, limit) << n;
                                    })
                    .ok());
  }
}

uint64_t TablesIn(const std::string& path) {
  uint64_t tables = 0;
  for (const auto& file : std::filesystem::directory_iterator(path))
    tables += file.path().extension() == ".sst";
  return tables;
}

// Two tables each time, that touch no other.
TEST(StoreTest, MoreTablesThanFilesMayBeOpen) {
  TempDir dir;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 100;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const absl::Cleanup restore = [&] { setrlimit(RLIMIT_NOFILE, &before); };
  const DumpKey dump = DumpOf(1, 2);
  constexpr uint64_t kFlushes = 70, kBlocks = 140, kBytes = 62000;
  const std::string bytes = RandomBytes(1, kBytes);
  auto store = OpenOrDie(dir.path());
  for (uint64_t flush = 0; flush < kFlushes; ++flush) {
    for (uint64_t n = 0; n < kBlocks; ++n)
      ASSERT_TRUE(store->PutBlock(dump, {1, flush * kBlocks + n, 1}, bytes).ok());
    ASSERT_EQ(store->Flush(), absl::OkStatus());
  }
  EXPECT_GT(TablesIn(dir.path()), 100u);
  store = nullptr;
  store = OpenOrDie(dir.path());
  for (uint64_t n = 0; n < kFlushes * kBlocks; n += 61)
    ASSERT_EQ(*store->GetBlock(dump, {1, n, 1}), bytes) << n;
}

// After a crash between the link and the end of a flush, a table has two names.
TEST(StoreTest, WhatAFlushHasLeftIsRemovedAndNeverWrittenOver) {
  TempDir dir;
  const DumpKey dump = DumpOf(1, 2);
  const std::string left = dir.path() + "/new-0.sst";
  std::string table;
  {
    auto store = OpenOrDie(dir.path());
    ASSERT_TRUE(store->PutBlock(dump, {1, 1, 1}, RandomBytes(1, 60000)).ok());
    ASSERT_TRUE(store->Flush().ok());
    for (const auto& file : std::filesystem::directory_iterator(dir.path()))
      if (file.path().extension() == ".sst" && file.file_size() > 60000) table = file.path();
    ASSERT_FALSE(table.empty());
    EXPECT_FALSE(std::filesystem::exists(left));
  }
  std::filesystem::create_hard_link(table, left);
  auto store = OpenOrDie(dir.path());
  EXPECT_FALSE(std::filesystem::exists(left));
  std::filesystem::create_hard_link(table, left);
  constexpr uint64_t kBlocks = 200;  // of two tables
  for (uint64_t n = 2; n <= kBlocks; ++n)
    ASSERT_TRUE(store->PutBlock(dump, {1, n, n}, RandomBytes(n, 60000)).ok());
  ASSERT_TRUE(store->Flush().ok());
  EXPECT_FALSE(std::filesystem::exists(left));
  store = nullptr;
  store = OpenOrDie(dir.path());
  for (uint64_t n = 1; n <= kBlocks; ++n)
    EXPECT_EQ(*store->GetBlock(dump, {1, n, n}), RandomBytes(n, 60000)) << n;
}

TEST(StoreTest, SetsAreTheSameAfterReopening) {
  TempDir dir;
  const DumpKey dump = DumpOf(1, 2);
  uint64_t key_sum = 0;
  const auto look = [&](const Store& store) {
    ASSERT_TRUE(store
                    .ReadBlockSets(dump,
                                   [&](const DumpBlocks& blocks) {
                                     EXPECT_EQ(blocks.held.keys(), 202u);
                                     EXPECT_TRUE(blocks.expected.known());
                                     EXPECT_EQ(blocks.expected.blocks(), 2u + 300u);
                                     EXPECT_EQ(MissingBlocks(blocks.expected, blocks.durable, 10),
                                               (std::vector<BlockRun>{{1, 200, 100}}));
                                     if (key_sum == 0) key_sum = blocks.held.key_sum();
                                     EXPECT_EQ(blocks.held.key_sum(), key_sum);
                                   })
                    .ok());
  };
  uint64_t relay_id = 0;
  {
    auto store = OpenOrDie(dir.path());
    relay_id = store->relay_id();
    EXPECT_NE(relay_id, 0u);
    std::vector<uint32_t> windows;
    for (uint32_t w = 0; w < 300; w++) windows.push_back(w);
    for (uint32_t w = 0; w < 200; w++) {
      ASSERT_TRUE(store->PutBlock(dump, {1, w, w + 1}, RandomBytes(w, 1000)).ok());
    }
    ASSERT_TRUE(
        store->PutBlock(dump, {0, 0, 5}, EncodeMeta({}, {752, 0, 0, 0, 0, sizeof(dcast_presence)}))
            .ok());
    ASSERT_TRUE(store
                    ->PutBlock(dump, {0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0), 6},
                               EncodePresence({windows, {}, {}}))
                    .ok());
    ASSERT_TRUE(store->Flush().ok());
    look(*store);
  }
  auto store = OpenOrDie(dir.path());
  EXPECT_EQ(store->relay_id(), relay_id);
  look(*store);
}

TEST(StoreTest, ManyDumpsMoreThanAreKeptInMemory) {
  TempDir dir;
  StoreOptions options = SmallStore(dir.path());
  options.loaded_dumps = 20;
  auto store = std::move(*Store::Open(options));
  for (int round = 0; round < 2; round++) {
    for (int d = 0; d < 150; d++) {
      const BlockKey key{1, static_cast<uint64_t>(round), 1};
      ASSERT_TRUE(store->PutBlock(DumpOf(1, static_cast<uint8_t>(d)), key, "0123456789").ok());
      if (d % 40 == 0) {
        ASSERT_TRUE(store->Flush().ok());
      }
    }
  }
  ASSERT_TRUE(store->Flush().ok());
  for (int d = 0; d < 150; d++) {
    ASSERT_TRUE(store
                    ->ReadBlockSets(DumpOf(1, static_cast<uint8_t>(d)),
                                    [&](const DumpBlocks& blocks) {
                                      EXPECT_EQ(blocks.held.keys(), 2u) << d;
                                      EXPECT_EQ(blocks.durable.keys(), 2u) << d;
                                    })
                    .ok());
  }
}

TEST(StoreTest, ADeletedDumpIsGoneAndNeverComesBack) {
  TempDir dir;
  const DumpKey dump = DumpOf(0xff, 0xff);  // has no successor
  const DumpKey kept = DumpOf(0xff, 0xfe);
  const auto gone = [&](Store& store) {
    EXPECT_TRUE(KeysOf(store, dump, 1).empty());
    EXPECT_EQ(store.GetBlock(dump, {1, 1, 1}).status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(store.PutBlock(dump, {1, 1, 1}, "x").code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(store.PutDump(RecordOf(dump)).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(store.GetDump(dump)->deleted());
    EXPECT_EQ(store.GetDump(dump)->delete_unix_ns(), 42);
    EXPECT_EQ(KeysOf(store, kept, 1).size(), 1u);
    ASSERT_TRUE(store
                    .ReadBlockSets(
                        dump, [](const DumpBlocks& blocks) { EXPECT_EQ(blocks.held.keys(), 0u); })
                    .ok());
  };
  {
    auto store = OpenOrDie(dir.path());
    ASSERT_TRUE(store->PutDump(RecordOf(dump)).ok());
    ASSERT_TRUE(store->PutDump(RecordOf(kept)).ok());
    ASSERT_TRUE(store->PutBlock(dump, {1, 1, 1}, "x").ok());
    ASSERT_TRUE(store->PutBlock(kept, {1, 1, 1}, "x").ok());
    ASSERT_TRUE(store->Flush().ok());
    ASSERT_TRUE(store->PutBlock(dump, {1, 2, 2}, "buffered").ok());
    ASSERT_TRUE(store->DeleteDump(dump, 42).ok());
    ASSERT_TRUE(store->DeleteDump(dump, 43).ok());
    gone(*store);
    ASSERT_TRUE(store->Flush().ok());
    // One that was never seen.
    ASSERT_TRUE(store->DeleteDump(DumpOf(5, 5), 44).ok());
  }
  auto store = OpenOrDie(dir.path());
  gone(*store);
  EXPECT_EQ(store->PutBlock(DumpOf(5, 5), {1, 1, 1}, "x").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store->ListDumps().size(), 3u);
}

TEST(StoreTest, PutsThatRaceWithADeleteLeaveNothing) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const DumpKey dump = DumpOf(1, 1);
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 3; t++) {
    writers.emplace_back([&, t] {
      for (uint64_t i = 0;; i++) {
        const absl::Status s = store->PutBlock(dump, {1, i * 3 + t, 1}, "0123456789");
        if (!s.ok()) {
          EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
          return;
        }
      }
    });
  }
  while (KeysOf(*store, dump, 1).size() < 100) std::this_thread::yield();
  ASSERT_TRUE(store->Flush().ok());
  ASSERT_TRUE(store->DeleteDump(dump, 1).ok());
  for (std::thread& writer : writers) writer.join();
  EXPECT_TRUE(KeysOf(*store, dump, 1).empty());
}

TEST(StoreTest, DeletesInARowWhileOthersWrite) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  std::atomic<bool> stop{false};
  const DumpKey kept = DumpOf(90, 1);
  std::thread writer([&] {
    for (uint64_t i = 0; !stop; i++) {
      EXPECT_TRUE(store->PutBlock(kept, {1, i, 1}, RandomBytes(i, 2000)).ok());
      if (i % 50 == 49) {
        EXPECT_TRUE(store->Flush().ok());
      }
    }
  });
  for (int round = 0; round < 20; round++) {
    const auto dump = [round](int i) {
      return DumpOf(static_cast<uint8_t>(50 + i * 25), static_cast<uint8_t>(round));
    };
    for (int i = 0; i < 4; i++) {
      for (uint64_t n = 0; n < 40; n++)
        ASSERT_TRUE(store->PutBlock(dump(i), {1, n, 1}, RandomBytes(n, 20000)).ok());
      ASSERT_TRUE(store->Flush().ok());
    }
    for (int i = 0; i < 4; i++) ASSERT_TRUE(store->DeleteDump(dump(i), round + 1).ok());
    for (int i = 0; i < 4; i++) EXPECT_TRUE(KeysOf(*store, dump(i), 1).empty());
  }
  stop = true;
  writer.join();
  EXPECT_FALSE(KeysOf(*store, kept, 1).empty());
}

TEST(StoreTest, RecordsSurviveAndMalformedIdsAreRefused) {
  TempDir dir;
  {
    auto store = OpenOrDie(dir.path());
    v1::HostRecord host;
    host.set_host_id(std::string(16, 'h'));
    host.set_hostname("db7");
    ASSERT_TRUE(store->PutHost(host).ok());
    v1::DumpRecord dump = RecordOf(DumpOf(1, 2), 77);
    ASSERT_TRUE(store->PutDump(dump).ok());
    host.set_host_id("short");
    EXPECT_EQ(store->PutHost(host).code(), absl::StatusCode::kInvalidArgument);
    dump.set_dump_id("short");
    EXPECT_EQ(store->PutDump(dump).code(), absl::StatusCode::kInvalidArgument);
    dump = RecordOf(DumpOf(1, 3));
    dump.set_deleted(true);
    EXPECT_EQ(store->PutDump(dump).code(), absl::StatusCode::kInvalidArgument);
  }
  auto store = OpenOrDie(dir.path());
  ASSERT_EQ(store->ListHosts().size(), 1u);
  EXPECT_EQ(store->ListHosts()[0].hostname(), "db7");
  ASSERT_EQ(store->ListDumps().size(), 1u);
  EXPECT_EQ(store->GetDump(DumpOf(1, 2))->receive_unix_ns(), 77);
  EXPECT_EQ(store->GetDump(DumpOf(9, 9)).status().code(), absl::StatusCode::kNotFound);
}

TEST(StoreTest, ASecondOpenSaysWhoHasIt) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  const absl::Status s = Store::Open(SmallStore(dir.path())).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr("open in another process"));
}

TEST(StoreTest, AFolderThatCannotBeMadeIsNamed) {
  TempDir dir;
  std::ofstream(dir.path() + "/file") << "x";
  const absl::Status s = Store::Open(SmallStore(dir.path() + "/file/store")).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr(dir.path() + "/file/store"));
}

TEST(StoreTest, AnotherFormatVersionIsRefusedByName) {
  TempDir dir;
  OpenOrDie(dir.path());
  {
    std::vector<rocksdb::ColumnFamilyHandle*> families;
    rocksdb::DB* db = nullptr;
    rocksdb::Options options;
    ASSERT_TRUE(rocksdb::DB::Open(options, dir.path(),
                                  {{"default", {}}, {"blocks", {}}, {"index", {}}}, &families, &db)
                    .ok());
    ASSERT_TRUE(db->Put({}, families[0], "format", "dumpcast-store 2").ok());
    for (auto* family : families) ASSERT_TRUE(db->DestroyColumnFamilyHandle(family).ok());
    delete db;
  }
  const absl::Status s = Store::Open(SmallStore(dir.path())).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr("dumpcast-store 2"));
}

TEST(StoreTest, AnUnknownPartIsRefusedByName) {
  TempDir dir;
  OpenOrDie(dir.path());
  {
    std::vector<rocksdb::ColumnFamilyHandle*> families;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), dir.path(),
                                  {{"default", {}}, {"blocks", {}}, {"index", {}}}, &families, &db)
                    .ok());
    rocksdb::ColumnFamilyHandle* archive = nullptr;
    ASSERT_TRUE(db->CreateColumnFamily({}, "archive", &archive).ok());
    families.push_back(archive);
    for (auto* family : families) ASSERT_TRUE(db->DestroyColumnFamilyHandle(family).ok());
    delete db;
  }
  const absl::Status s = Store::Open(SmallStore(dir.path())).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr("\"archive\""));
}

TEST(StoreTest, BelowTheWatermarkBlocksAreRefusedAndRecordsAreNot) {
  TempDir dir;
  StoreOptions options = SmallStore(dir.path());
  options.min_free_bytes = ~0ull;
  auto store = std::move(*Store::Open(options));
  std::string why;
  EXPECT_FALSE(store->accepting(&why));
  EXPECT_THAT(why, HasSubstr("are kept free"));
  EXPECT_EQ(store->PutBlock(DumpOf(1, 1), {1, 1, 1}, "x").code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(store->PutDump(RecordOf(DumpOf(1, 1))).ok());
  EXPECT_TRUE(KeysOf(*store, DumpOf(1, 1), 1).empty());
}

// Finds the table file that has `needle` and damages it there.
void DamageTableWith(const std::string& folder, const std::string& needle) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".sst") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const size_t at = bytes.find(needle);
    if (at == std::string::npos) continue;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    std::ofstream(entry.path(), std::ios::binary) << bytes;
    return;
  }
  FAIL() << "no table holds the block";
}

TEST(StoreTest, AFlippedBitOnDiskIsDataLossAndNoOtherBlockSuffers) {
  TempDir dir;
  const std::string victim = RandomBytes(7, 60000);
  const std::string other = RandomBytes(8, 60000);
  {
    auto store = OpenOrDie(dir.path());
    ASSERT_TRUE(store->PutBlock(DumpOf(1, 1), {1, 1, 1}, victim).ok());
    ASSERT_TRUE(store->PutBlock(DumpOf(1, 1), {1, 900, 1}, other).ok());
    ASSERT_TRUE(store->Flush().ok());
  }
  DamageTableWith(dir.path(), victim.substr(30000, 64));
  auto store = OpenOrDie(dir.path());
  EXPECT_EQ(store->GetBlock(DumpOf(1, 1), {1, 1, 1}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(*store->GetBlock(DumpOf(1, 1), {1, 900, 1}), other);
}

TEST(StoreTest, WorksWhereThereIsNoDirectIo) {
  TempDir dir;
  StoreOptions options = SmallStore(dir.path());
  options.direct_io = false;
  auto store = std::move(*Store::Open(options));
  ASSERT_TRUE(store->PutBlock(DumpOf(1, 1), {1, 1, 1}, "x").ok());
  ASSERT_TRUE(store->Flush().ok());
  EXPECT_EQ(*store->GetBlock(DumpOf(1, 1), {1, 1, 1}), "x");
}

}  // namespace
}  // namespace dumpcast
