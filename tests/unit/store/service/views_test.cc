// SPDX-License-Identifier: Apache-2.0
#include "store/service/views.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "protos/wire/dumpcast_wire.h"
#include "tests/unit/store/store_fixture.h"
#include "tests/unit/store/stored_dump.h"

namespace dumpcast {
namespace {

using testing::FlipTables;
using testing::OpenOrDie;
using testing::StoredBlock;

TEST(ViewCache, WhatWasDamagedWhenItWasOpenedIsReadAnew) {
  const DumpKey dump = testing::DumpOf(1, 2), other = testing::DumpOf(9, 9);
  const testing::TempDir dir;
  std::unique_ptr<Store> store = OpenOrDie(dir.path());
  ASSERT_TRUE(store->PutDump(testing::RecordOf(dump)).ok());
  ASSERT_TRUE(store->PutDump(testing::RecordOf(other)).ok());
  const std::vector<StoredBlock> blocks = testing::SmallDump();
  const auto is_meta = [](const BlockKey& key) {
    return key.block_class == 0 && key.number == dcast_class0_number(DCAST_STREAM_META, 0);
  };
  // META is in a table of its own, which stays right: it is too small for FlipTables().
  testing::PutAll(store.get(), dump, blocks, is_meta);
  for (uint64_t number = 0; number < 8; ++number) {
    const auto bytes = testing::EncodeBlock(12, 1, 0, 0, testing::RandomBytes(number, 60000));
    ASSERT_TRUE(store->PutBlock(other, {1, number, number + 1}, bytes).ok());
  }
  testing::PutAll(store.get(), dump, blocks, [&](const BlockKey& key) { return !is_meta(key); });
  store.reset();
  ASSERT_GT(FlipTables(dir.path(), 128), 0u);
  store = OpenOrDie(dir.path());

  ViewCache cache(store.get());
  for (const v1::DumpFormat format : {v1::DUMP_FORMAT_ELF, v1::DUMP_FORMAT_KDUMP}) {
    const auto views = cache.Open(dump);
    ASSERT_TRUE(views.ok()) << views.status();
    const absl::Status damaged = (*views)->File(format).status();
    EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  }
  std::vector<std::pair<BlockKey, std::string>> healed;
  for (const StoredBlock& block : blocks) healed.emplace_back(block.key, block.encoded);
  ASSERT_TRUE(store->ReplaceBlocks(dump, healed).ok());
  for (const v1::DumpFormat format : {v1::DUMP_FORMAT_ELF, v1::DUMP_FORMAT_KDUMP}) {
    const auto views = cache.Open(dump);
    ASSERT_TRUE(views.ok()) << views.status();
    EXPECT_TRUE((*views)->File(format).ok()) << (*views)->File(format).status();
  }
}

}  // namespace
}  // namespace dumpcast
