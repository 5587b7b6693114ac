// SPDX-License-Identifier: Apache-2.0
// The store where there is no room: on file systems of its own that really fill up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "store/store.h"
#include "store/vmcore/block_source.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using ::testing::HasSubstr;
using testing::RandomBytes;
using testing::SmallStore;
using testing::TempDir;

// A file system of its own that really fills up. Needs the right to mount.
class SmallDisk {
 public:
  SmallDisk(std::string path, const char* size)
      : path_(std::move(path)), mounted_(mount("tmpfs", path_.c_str(), "tmpfs", 0, size) == 0) {}
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  // Somebody else takes all but `left` bytes.
  void Eat(uint64_t left) {
    std::ofstream(eaten(), std::ios::binary) << "x";
    std::filesystem::resize_file(eaten(), 0);
    const uint64_t free = std::filesystem::space(path_).available;
    std::ofstream out(eaten(), std::ios::binary);
    const std::string page(4096, 'x');
    for (uint64_t taken = left; taken < free; taken += page.size()) out << page;
  }
  void GiveBack() { std::filesystem::remove(eaten()); }

 private:
  [[nodiscard]] std::string eaten() const { return path_ + "/eaten"; }
  const std::string path_;
  const bool mounted_;
};

TEST(StoreFullDiskTest, AFullDiskStopsNewBlocksAndLosesNoFlushedOne) {
  TempDir dir;
  SmallDisk disk(dir.path(), "size=48m");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  StoreOptions options = SmallStore(dir.path() + "/store");
  options.write_buffer_bytes = 4 << 20;
  const DumpKey dump = DumpOf(1, 1);
  uint64_t flushed = 0;
  {
    auto store = std::move(*Store::Open(options));
    absl::Status s;
    for (uint64_t n = 0; n < 2000 && s.ok(); n++) {
      s = store->PutBlock(dump, {1, n, 1}, RandomBytes(n, 60000));
      if (s.ok() && n % 50 == 49) {
        s = store->Flush();
        if (s.ok()) flushed = n + 1;
      }
    }
    ASSERT_FALSE(s.ok()) << "120 MB fitted into 48 MiB";
    std::string why;
    EXPECT_FALSE(store->accepting(&why));
    EXPECT_THAT(why, HasSubstr("are kept free"));
    EXPECT_FALSE(store->PutBlock(dump, {1, 5000, 1}, "x").ok());
    ASSERT_GT(flushed, 100u);
    for (uint64_t n = 0; n < flushed; n += 37) {
      EXPECT_EQ(*store->GetBlock(dump, {1, n, 1}), RandomBytes(n, 60000));
    }
  }
  // More room, and all that was promised is there.
  ASSERT_EQ(mount("tmpfs", dir.path().c_str(), "tmpfs", MS_REMOUNT, "size=96m"), 0);
  auto store = std::move(*Store::Open(options));
  for (uint64_t n = 0; n < flushed; n++) {
    ASSERT_EQ(*store->GetBlock(dump, {1, n, 1}), RandomBytes(n, 60000)) << n;
  }
  EXPECT_TRUE(store->PutBlock(dump, {1, 5000, 1}, "x").ok());
  EXPECT_TRUE(store->Flush().ok());
}

// Somebody else takes the last byte while blocks are buffered; then the space comes back.
TEST(StoreFullDiskTest, AWriteThatFindsNoRoomIsSurvivedAndMadeGood) {
  TempDir dir;
  SmallDisk disk(dir.path(), "size=96m");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  const DumpKey dump = DumpOf(1, 1);
  auto store = std::move(*Store::Open(SmallStore(dir.path() + "/store")));
  ASSERT_TRUE(store->PutBlock(dump, {1, 1, 1}, RandomBytes(1, 60000)).ok());
  ASSERT_TRUE(store->Flush().ok());
  ASSERT_TRUE(store->PutBlock(dump, {1, 2, 1}, RandomBytes(2, 60000)).ok());
  disk.Eat(0);
  EXPECT_FALSE(store->Flush().ok());
  EXPECT_FALSE(store->PutBlock(dump, {1, 3, 1}, "x").ok());
  for (int i = 0; i < 3; i++) EXPECT_FALSE(store->Flush().ok()) << "still no room";
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/store/new-0.sst"));
  EXPECT_EQ(*store->GetBlock(dump, {1, 1, 1}), RandomBytes(1, 60000));

  disk.GiveBack();
  absl::Status s;
  for (int i = 0; i < 600; i++) {  // it looks again every few seconds
    s = store->PutBlock(dump, {1, 3, 1}, "x");
    if (s.ok()) s = store->Flush();
    if (s.ok()) break;
    absl::SleepFor(absl::Milliseconds(100));
  }
  ASSERT_TRUE(s.ok()) << s;
  EXPECT_EQ(*store->GetBlock(dump, {1, 2, 1}), RandomBytes(2, 60000));
  store.reset();
  store = std::move(*Store::Open(SmallStore(dir.path() + "/store")));
  EXPECT_EQ(*store->GetBlock(dump, {1, 2, 1}), RandomBytes(2, 60000));
  EXPECT_EQ(*store->GetBlock(dump, {1, 3, 1}), "x");
}

// Nothing is left of a deleted dump, and there is hardly room to write even that down.
TEST(StoreFullDiskTest, ADeletionWaitsForRoomAndThenGivesSpaceBack) {
  for (const uint64_t left_kib : {0, 8, 16}) {
    SCOPED_TRACE(left_kib);
    TempDir dir;
    SmallDisk disk(dir.path(), "size=64m");
    if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
    const auto free_bytes = [&] { return std::filesystem::space(dir.path()).available; };
    const DumpKey kept = DumpOf(1, 1);
    auto store = std::move(*Store::Open(SmallStore(dir.path() + "/store")));
    ASSERT_TRUE(store->PutBlock(kept, {1, 1, 1}, RandomBytes(1, 60000)).ok());
    ASSERT_TRUE(store->Flush().ok());
    const uint64_t before = free_bytes();
    for (uint8_t d = 2; d < 4; d++) {
      for (uint64_t n = 0; n < 100; n++) {
        ASSERT_TRUE(store->PutBlock(DumpOf(1, d), {1, n, 1}, RandomBytes(n, 60000)).ok());
        if (n % 50 == 49) {
          ASSERT_TRUE(store->Flush().ok());
        }
      }
    }
    disk.Eat(left_kib << 10);
    // A deletion may find no room for itself: it is repeated then.
    std::vector<bool> deleted;
    for (uint8_t d = 2; d < 4; d++) deleted.push_back(store->DeleteDump(DumpOf(1, d), 1).ok());
    absl::SleepFor(absl::Milliseconds(50));
    EXPECT_EQ(*store->GetBlock(kept, {1, 1, 1}), RandomBytes(1, 60000));
    disk.GiveBack();
    for (uint8_t d = 2; d < 4; d++) {
      for (int i = 0; i < 600 && !deleted[d - 2]; i++) {
        deleted[d - 2] = store->DeleteDump(DumpOf(1, d), 1).ok();
        if (!deleted[d - 2]) absl::SleepFor(absl::Milliseconds(100));
      }
      EXPECT_TRUE(deleted[d - 2]) << int{d};
    }
    for (int i = 0; i < 600 && free_bytes() + (1 << 20) < before; i++) {
      absl::SleepFor(absl::Milliseconds(50));
    }
    EXPECT_GE(free_bytes() + (1 << 20), before);
    EXPECT_EQ(*store->GetBlock(kept, {1, 1, 1}), RandomBytes(1, 60000));
  }
}

TEST(StoreFullDiskTest, ADeletedDumpsSpaceComesBackWhenItsReadersEnd) {
  TempDir dir;
  SmallDisk disk(dir.path(), "size=64m");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  const auto free_bytes = [&] { return std::filesystem::space(dir.path()).available; };
  auto store = std::move(*Store::Open(SmallStore(dir.path() + "/store")));
  const uint64_t before = free_bytes();
  const auto put = [&](uint8_t d) {
    for (uint64_t n = 0; n < 100; n++) {
      ASSERT_TRUE(store->PutBlock(DumpOf(1, d), {1, n, 1}, RandomBytes(n, 60000)).ok());
    }
    ASSERT_TRUE(store->Flush().ok());
  };
  put(1);
  put(2);
  std::string encoded;
  absl::StatusOr<OpenedBlocks> opened = store->OpenBlocks(DumpOf(1, 1));
  ASSERT_TRUE(opened.ok());
  ASSERT_EQ(*opened->source->ReadBlock(1, 5, &encoded), BlockState::kHeld);
  ASSERT_TRUE(store->DeleteDump(DumpOf(1, 1), 1).ok());
  ASSERT_EQ(*opened->source->ReadBlock(1, 6, &encoded), BlockState::kHeld);
  EXPECT_EQ(encoded, RandomBytes(6, 60000));
  opened->source.reset();
  for (int i = 0; i < 600 && free_bytes() + (8 << 20) < before; i++) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_GE(free_bytes() + (8 << 20), before);
  EXPECT_EQ(*store->GetBlock(DumpOf(1, 2), {1, 1, 1}), RandomBytes(1, 60000));
}

}  // namespace
}  // namespace dumpcast
