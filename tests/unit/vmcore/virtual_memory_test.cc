// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/virtual_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kImage = 0xffffffff81000000;
constexpr uint64_t kVmalloc = 0xffffc90000000000;
constexpr uint64_t kPresent = 1;
constexpr uint64_t kLarge = 0x80;

// Page tables at 0x10000 (top), 0x11000, ... as `levels` wants; page n holds its own number.
class VirtualMemoryTest : public ::testing::Test {
 protected:
  VirtualMemoryTest() {
    absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(R"(
      ram 0 0x100000
      page 0x20-0x2f 1 own
      page 0x10-0x15 1 zero
      page_offset 0xffff888000000000
      text 0xffffffff81000000 0x20000 0x4000
      info SYMBOL(swapper_pg_dir)=ffffffff80010000
      info NUMBER(phys_base)=0
    )");
    builder_ = *builder;
  }

  // Entry for vaddr in the table at physical `table` of `level`.
  void Map(uint64_t table, int level, uint64_t vaddr, uint64_t entry) {
    const uint64_t index = vaddr >> (12 + 9 * (level - 1)) & 511;
    ASSERT_TRUE(builder_.Write64(table + 8 * index, entry));
  }
  void MapFourLevels(uint64_t vaddr, uint64_t entry) {
    Map(0x10000, 4, vaddr, 0x11000 | kPresent);
    Map(0x11000, 3, vaddr, 0x12000 | kPresent);
    Map(0x12000, 2, vaddr, 0x13000 | kPresent);
    Map(0x13000, 1, vaddr, entry);
  }
  absl::StatusOr<uint64_t> Translate(uint64_t vaddr) {
    memory_ = *MemoryView::Open(builder_.Build());
    return VirtualMemory(*memory_).Translate(vaddr);
  }

  DumpBuilder builder_;
  std::shared_ptr<const MemoryView> memory_;
};

TEST_F(VirtualMemoryTest, ImageAndDirectMapNeedNoTables) {
  EXPECT_EQ(*Translate(kImage + 0x1234), 0x21234u);
  EXPECT_EQ(*Translate(0xffff888000000000 + 0x2f008), 0x2f008u);
  EXPECT_EQ(Translate(kImage + 0x4000).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VirtualMemoryTest, FourLevels) {
  MapFourLevels(kVmalloc, 0x25000 | kPresent | uint64_t{1} << 63);  // NX is no address bit
  EXPECT_EQ(*Translate(kVmalloc + 0xabc), 0x25abcu);
  const VirtualMemory memory(*memory_);
  EXPECT_EQ(*memory.Read64(kVmalloc + 8), 0x25u);
  EXPECT_EQ(*memory.Read32(kVmalloc + 4), 0u);
}

TEST_F(VirtualMemoryTest, FiveLevels) {
  builder_.vmcoreinfo += "NUMBER(pgtable_l5_enabled)=1\n";
  const uint64_t vaddr = 0xffa0000000000000;
  Map(0x10000, 5, vaddr, 0x14000 | kPresent);
  Map(0x14000, 4, vaddr, 0x11000 | kPresent);
  Map(0x11000, 3, vaddr, 0x12000 | kPresent);
  Map(0x12000, 2, vaddr, 0x13000 | kPresent);
  Map(0x13000, 1, vaddr, 0x26000 | kPresent);
  EXPECT_EQ(*Translate(vaddr + 1), 0x26001u);
}

TEST_F(VirtualMemoryTest, LargePagesOfBothSizes) {
  Map(0x10000, 4, kVmalloc, 0x11000 | kPresent);
  Map(0x11000, 3, kVmalloc, uint64_t{1} << 30 | kPresent | kLarge);
  EXPECT_EQ(*Translate(kVmalloc + 0x12345678), (uint64_t{1} << 30) + 0x12345678);
  Map(0x11000, 3, kVmalloc, 0x12000 | kPresent);
  Map(0x12000, 2, kVmalloc, 0x200000 | kPresent | kLarge);
  EXPECT_EQ(*Translate(kVmalloc + 0x1f0123), 0x200000u + 0x1f0123);
}

TEST_F(VirtualMemoryTest, EncryptionBitOfMemoryIsNoAddressBit) {
  builder_.vmcoreinfo += "NUMBER(sme_mask)=0x800000000000\n";
  MapFourLevels(kVmalloc, 0x25000 | kPresent | uint64_t{1} << 47);
  EXPECT_EQ(*Translate(kVmalloc), 0x25000u);
}

TEST_F(VirtualMemoryTest, NegativePhysBase) {
  builder_.vmcoreinfo = "SYMBOL(swapper_pg_dir)=ffffffff81010000\nNUMBER(phys_base)=-16777216\n";
  MapFourLevels(kVmalloc, 0x25000 | kPresent);
  EXPECT_EQ(*Translate(kVmalloc), 0x25000u);
}

TEST_F(VirtualMemoryTest, WhatIsNotMappedOrNotHeldIsSaid) {
  EXPECT_THAT(std::string(Translate(kVmalloc).status().message()), HasSubstr("level 4"));
  MapFourLevels(kVmalloc, 0);
  EXPECT_THAT(std::string(Translate(kVmalloc).status().message()), HasSubstr("level 1"));
  Map(0x10000, 4, kVmalloc, 0x80000 | kPresent);  // a table that was not dumped
  EXPECT_THAT(std::string(Translate(kVmalloc).status().message()), HasSubstr("excluded"));
  Map(0x10000, 4, kVmalloc, 0x000ffffffffff000 | kPresent);  // far outside
  EXPECT_THAT(std::string(Translate(kVmalloc).status().message()), HasSubstr("not RAM"));
}

TEST_F(VirtualMemoryTest, TablesThatPointToThemselvesEnd) {
  Map(0x10000, 4, ~uint64_t{0}, 0x10000 | kPresent);
  EXPECT_EQ(*Translate(0xfffffffffffff008), 0x10008u);
}

TEST_F(VirtualMemoryTest, OtherMachinesHaveNoTablesHere) {
  builder_.meta.elf_machine = 183;  // arm64
  EXPECT_EQ(*Translate(kImage), 0x20000u);
  EXPECT_EQ(Translate(kVmalloc).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VirtualMemoryTest, ReadsCrossPages) {
  MapFourLevels(kVmalloc, 0x25000 | kPresent);
  Map(0x13000, 1, kVmalloc + 0x1000, 0x2a000 | kPresent);
  memory_ = *MemoryView::Open(builder_.Build());
  std::string bytes(16, '?');
  ASSERT_TRUE(VirtualMemory(*memory_).Read(kVmalloc + 0xff8, 16, bytes.data()).ok());
  EXPECT_EQ(bytes, std::string("\x25\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0", 16));
  EXPECT_FALSE(VirtualMemory(*memory_).Read(kVmalloc + 0x1ff8, 16, bytes.data()).ok());
}

}  // namespace
}  // namespace dumpcast
