// SPDX-License-Identifier: Apache-2.0
// The disk changes bytes of tables: what is read, what is named, and what a peer's copy mends.
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/vmcore/block_source.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using testing::FlipTables;
using testing::RandomBytes;
using testing::RecordOf;
using testing::SmallStore;
using testing::TempDir;

constexpr uint64_t kBlocks = 64;

BlockKey KeyOf(uint64_t number) {
  return {1, number, number + 1};
}
std::string BytesOf(uint64_t number) {
  return testing::EncodeBlock(12, 1, 0, 0, RandomBytes(number, 60000));
}

class StoreDamageTest : public ::testing::Test {
 protected:
  StoreDamageTest() {
    Open();
    EXPECT_TRUE(store_->PutDump(RecordOf(dump_)).ok());
    Put(dump_, 0, kBlocks);
  }
  void Put(const DumpKey& dump, uint64_t first, uint64_t count) {
    for (uint64_t number = first; number < first + count; ++number)
      EXPECT_TRUE(store_->PutBlock(dump, KeyOf(number), BytesOf(number)).ok());
    EXPECT_TRUE(store_->Flush().ok());
  }
  // A bit of every 256 KiB is another one when the store is opened again.
  void Damage() {
    store_.reset();
    EXPECT_GE(FlipTables(dir_.path(), 256 << 10), 8u);
    Open();
  }
  void Open() {
    StoreOptions options = SmallStore(dir_.path());
    options.log = [this](const std::string& line) {
      const std::lock_guard<std::mutex> lock(log_mu_);
      log_ += line + "\n";
    };
    store_ = std::move(*Store::Open(options));
  }
  bool Logged(const std::string& text) {
    const std::lock_guard<std::mutex> lock(log_mu_);
    return log_.find(text) != std::string::npos;
  }
  std::set<uint64_t> Unreadable() const {
    std::set<uint64_t> numbers;
    for (uint64_t number = 0; number < kBlocks; ++number) {
      const auto got = store_->GetBlock(dump_, KeyOf(number));
      if (got.ok()) {
        EXPECT_EQ(*got, BytesOf(number)) << number;
        continue;
      }
      EXPECT_TRUE(absl::IsDataLoss(got.status())) << got.status();
      numbers.insert(number);
    }
    return numbers;
  }
  std::set<uint64_t> Damaged() const {
    std::set<uint64_t> numbers;
    for (const DamagedDump& damaged : store_->Damaged()) {
      EXPECT_EQ(damaged.dump, dump_);
      for (const BlockKey& key : damaged.keys) numbers.insert(key.number);
    }
    return numbers;
  }
  void Replace(const std::set<uint64_t>& numbers) {
    std::vector<std::pair<BlockKey, std::string>> blocks;
    for (const uint64_t number : numbers) blocks.emplace_back(KeyOf(number), BytesOf(number));
    EXPECT_TRUE(store_->ReplaceBlocks(dump_, blocks).ok());
  }
  // In every way that there is to read them.
  void ExpectAllRight() const {
    EXPECT_TRUE(Unreadable().empty());
    uint64_t seen = 0;
    EXPECT_TRUE(store_
                    ->ScanBlocks(dump_, 1, 0, kBlocks, true,
                                 [&](const BlockKey& key, std::string_view encoded) {
                                   EXPECT_EQ(encoded, BytesOf(key.number));
                                   ++seen;
                                   return true;
                                 })
                    .ok());
    EXPECT_EQ(seen, kBlocks);
    const absl::StatusOr<OpenedBlocks> opened = store_->OpenBlocks(dump_);
    ASSERT_TRUE(opened.ok());
    for (uint64_t number = 0; number < kBlocks; ++number) {
      std::string encoded;
      const auto state = opened->source->ReadBlock(1, number, &encoded);
      ASSERT_TRUE(state.ok()) << state.status();
      EXPECT_EQ(encoded, BytesOf(number));
    }
  }

  const DumpKey dump_ = DumpOf(1, 2);
  TempDir dir_;
  std::mutex log_mu_;
  std::string log_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreDamageTest, WhatIsReadIsNamedAndAllOfItByVerify) {
  Damage();
  EXPECT_TRUE(store_->Damaged().empty()) << "nobody has read anything";
  ASSERT_EQ(store_->Verify(dump_), absl::OkStatus());
  const std::set<uint64_t> named = Damaged();
  EXPECT_GE(named.size(), 8u);
  EXPECT_LT(named.size(), kBlocks);
  EXPECT_EQ(Unreadable(), named);
}

TEST_F(StoreDamageTest, ScrubbingComesToAllOfIt) {
  Damage();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(store_->Scrub(100'000).ok());
  EXPECT_EQ(Damaged(), Unreadable());
  EXPECT_GE(Damaged().size(), 8u);
}

TEST_F(StoreDamageTest, ScrubbingFindsNothingWhereNothingIs) {
  const DumpKey other = DumpOf(1, 3);
  Put(other, 0, 4);
  ASSERT_TRUE(store_->DeleteDump(other, 1).ok());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(store_->Scrub(100'000).ok());
  EXPECT_TRUE(store_->Damaged().empty());
}

TEST_F(StoreDamageTest, WhatIsWrittenAgainIsReadFromThenOn) {
  Damage();
  const std::set<uint64_t> lost = Unreadable();
  ASSERT_FALSE(lost.empty());
  Replace(lost);
  EXPECT_TRUE(store_->Damaged().empty());
  ExpectAllRight();
  ASSERT_EQ(store_->Verify(dump_), absl::OkStatus());
  EXPECT_TRUE(store_->Damaged().empty());
  store_.reset();
  Open();
  ExpectAllRight();
}

TEST_F(StoreDamageTest, AViewThatWasOpenBeforeSeesWhatWasWrittenAgain) {
  Damage();
  const absl::StatusOr<OpenedBlocks> opened = store_->OpenBlocks(dump_);
  ASSERT_TRUE(opened.ok());
  const std::set<uint64_t> lost = Unreadable();
  std::string encoded;
  EXPECT_TRUE(absl::IsDataLoss(opened->source->ReadBlock(1, *lost.begin(), &encoded).status()));
  Replace(lost);
  ASSERT_TRUE(opened->source->ReadBlock(1, *lost.begin(), &encoded).ok());
  EXPECT_EQ(encoded, BytesOf(*lost.begin()));
}

TEST_F(StoreDamageTest, ADamagedTableDoesNotKeepTheStoreFromTakingMore) {
  Damage();
  const std::set<uint64_t> lost = Unreadable();
  Replace(lost);
  // So many tables from before the dump to after it that they are merged, the damaged one with
  // them.
  uint64_t table = 0;
  const auto put_around = [&] {
    for (const DumpKey& dump : {DumpOf(1, 1), DumpOf(1, 3)})
      ASSERT_TRUE(store_->PutBlock(dump, KeyOf(table), BytesOf(table)).ok());
    ASSERT_TRUE(store_->Flush().ok());
    ++table;
  };
  while (table < 80) put_around();
  const auto told = [&] { return Logged("tables are merged no more"); };
  for (int i = 0; i < 100 && !told(); ++i) {
    put_around();
    std::string why;
    ASSERT_TRUE(store_->accepting(&why)) << why;
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_TRUE(told()) << "nothing was merged, and so nothing met the damage";
  put_around();
  // So much that it would be two tables, and the damaged one is in the way.
  for (uint64_t number = 5000; number < 5100; ++number)
    for (const DumpKey& dump : {DumpOf(1, 1), DumpOf(1, 3)})
      ASSERT_TRUE(store_->PutBlock(dump, KeyOf(number), BytesOf(number)).ok());
  ASSERT_EQ(store_->Flush(), absl::OkStatus());
  EXPECT_EQ(*store_->GetBlock(DumpOf(1, 3), KeyOf(5000)), BytesOf(5000));
  ExpectAllRight();
}

TEST_F(StoreDamageTest, ADeletedDumpIsNotNamed) {
  Damage();
  ASSERT_FALSE(Unreadable().empty());
  ASSERT_TRUE(store_->DeleteDump(dump_, 1).ok());
  EXPECT_TRUE(store_->Damaged().empty());
  EXPECT_TRUE(store_->ReplaceBlocks(dump_, {{KeyOf(1), BytesOf(1)}}).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->GetBlock(dump_, KeyOf(1)).status()));
}

}  // namespace
}  // namespace dumpcast
