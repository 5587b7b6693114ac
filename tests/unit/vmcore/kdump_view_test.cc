// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/kdump_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

constexpr uint64_t kPage = 4096;

// Reads a view by the offsets of makedumpfile's structures, independently of the writer's own.
struct Kdump {
  std::unique_ptr<FileView> view;
  std::string bytes;
  std::map<uint64_t, uint64_t> page_at;  // pfn -> offset
  std::vector<uint64_t> ram;

  template <typename T>
  T At(uint64_t offset) const {
    T value;
    EXPECT_LE(offset + sizeof(value), bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
  }
  std::string Page(uint64_t pfn) const { return bytes.substr(page_at.at(pfn), kPage); }
};

absl::StatusOr<std::unique_ptr<FileView>> Make(const std::shared_ptr<const BlockSource>& source) {
  absl::StatusOr<std::shared_ptr<const MemoryView>> memory = MemoryView::Open(source);
  if (!memory.ok()) return memory.status();
  return MakeKdumpView(*memory);
}

Kdump Open(const std::shared_ptr<const BlockSource>& source) {
  Kdump kdump;
  absl::StatusOr<std::unique_ptr<FileView>> view = Make(source);
  EXPECT_TRUE(view.ok()) << view.status();
  kdump.view = *std::move(view);
  kdump.bytes.resize(kdump.view->size());
  EXPECT_TRUE(kdump.view->Read(0, kdump.bytes.size(), kdump.bytes.data()).ok());
  EXPECT_EQ(kdump.bytes.substr(0, 8), "KDUMP   ");
  EXPECT_EQ(kdump.At<uint32_t>(428), kPage);
  const uint64_t bitmaps = (1 + uint64_t{kdump.At<uint32_t>(432)}) * kPage;
  const uint64_t bitmap_bytes = uint64_t{kdump.At<uint32_t>(436)} * kPage / 2;
  const uint64_t table = bitmaps + 2 * bitmap_bytes;
  const uint64_t max_mapnr = kdump.At<uint64_t>(kPage + 96);
  uint64_t descriptors = 0;
  for (uint64_t pfn = 0; pfn < bitmap_bytes * 8; ++pfn) {
    const auto bit = [&](uint64_t bitmap) {
      return kdump.bytes[bitmap + pfn / 8] >> (pfn % 8) & 1;
    };
    if (bit(bitmaps)) kdump.ram.push_back(pfn);
    if (!bit(bitmaps + bitmap_bytes)) continue;
    EXPECT_TRUE(bit(bitmaps)) << pfn;
    EXPECT_LT(pfn, max_mapnr);
    const uint64_t at = table + 24 * descriptors++;
    kdump.page_at[pfn] = kdump.At<uint64_t>(at);
    EXPECT_EQ(kdump.At<uint32_t>(at + 8), kPage);
    EXPECT_EQ(kdump.At<uint32_t>(at + 12), 0u);  // not compressed
  }
  return kdump;
}

std::shared_ptr<MapBlockSource> Source(std::string_view text) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(text);
  EXPECT_TRUE(builder.ok()) << builder.status();
  return builder->Build();
}

std::string Own(uint64_t pfn) {
  std::string page;
  while (page.size() < kPage) page.append(reinterpret_cast<const char*>(&pfn), sizeof(pfn));
  return page;
}

uint32_t Status(const Kdump& kdump) {
  return kdump.At<uint32_t>(424);
}

TEST(KdumpView, HeadersSayWhatMetaSays) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(
      "ram 0 0x20000\npage 1 1 own\ninfo OSRELEASE=6.1\ninfo NUMBER(phys_base)=-4096\n");
  builder->meta.dump_level = 31;
  builder->meta.cpus = 8;
  builder->meta.crash_cpu = 5;
  const Kdump kdump = Open(builder->Build());
  EXPECT_EQ(kdump.At<uint32_t>(8), 6u);
  EXPECT_STREQ(kdump.bytes.data() + 12 + 65, "crashed");
  EXPECT_STREQ(kdump.bytes.data() + 12 + 2 * 65, "6.1.0-test");
  EXPECT_STREQ(kdump.bytes.data() + 12 + 4 * 65, "x86_64");
  EXPECT_EQ(kdump.At<uint64_t>(408), 1'700'000'000u);
  EXPECT_EQ(kdump.At<uint64_t>(416), 123'456u);
  EXPECT_EQ(Status(kdump), 0u);
  EXPECT_EQ(kdump.At<uint32_t>(440), 0x20u);
  EXPECT_EQ(kdump.At<uint32_t>(456), 5u);
  EXPECT_EQ(kdump.At<uint32_t>(460), 8u);
  EXPECT_EQ(kdump.At<int64_t>(kPage), -4096);
  EXPECT_EQ(kdump.At<uint32_t>(kPage + 8), 31u);
  const auto text =
      kdump.bytes.substr(kdump.At<uint64_t>(kPage + 32), kdump.At<uint64_t>(kPage + 40));
  EXPECT_EQ(text, "OSRELEASE=6.1\nNUMBER(phys_base)=-4096\n");
  EXPECT_EQ(kdump.bytes.substr(kdump.At<uint64_t>(kPage + 48) + 12, 10), "VMCOREINFO");
}

TEST(KdumpView, BitmapsTellRamFromDumped) {
  const Kdump kdump = Open(Source(R"(
    ram 0x1000 0x9f000
    ram 0x100000 0x118000
    page 1-5 1 own
    page 3 2 unreadable
    page 0x100 2 own
    page 0x101 2 zero
    page 0x102 2 unreadable
    page 0x117 3 own
  )"));
  ASSERT_EQ(kdump.ram.size(), 0x9eu + 0x18);
  EXPECT_EQ(kdump.ram.front(), 1u);
  EXPECT_EQ(kdump.ram[0x9d], 0x9eu);
  EXPECT_EQ(kdump.ram.back(), 0x117u);
  std::vector<uint64_t> dumped;
  for (const auto& [pfn, at] : kdump.page_at) dumped.push_back(pfn);
  EXPECT_THAT(dumped, ::testing::ElementsAre(1, 2, 4, 5, 0x100, 0x101, 0x117));
  for (const uint64_t pfn : {1, 2, 4, 5, 0x100, 0x117}) EXPECT_EQ(kdump.Page(pfn), Own(pfn));
  EXPECT_EQ(kdump.Page(0x101), std::string(kPage, '\0'));
  EXPECT_EQ(Status(kdump), 0u) << "unreadable pages do not make a dump incomplete";
}

TEST(KdumpView, ZeroPagesShareOne) {
  const Kdump kdump = Open(Source("ram 0 0x40000\npage 0-0x3f 1 zero\npage 0x11 1 own\n"));
  EXPECT_EQ(kdump.page_at.size(), 0x40u);
  EXPECT_EQ(kdump.page_at.at(0), kdump.page_at.at(0x3f));
  EXPECT_NE(kdump.page_at.at(0), kdump.page_at.at(0x11));
  EXPECT_EQ(kdump.Page(0x11), Own(0x11));
}

TEST(KdumpView, MissingBlocksMakeItIncomplete) {
  const std::string text = "ram 0 0x40000\npage 1-0x3f 1 own\npage 0x25 2 own\n";
  EXPECT_EQ(Status(Open(Source(text))), 0u);
  for (const char* lost : {"drop 1 1\n", "drop 2 2\n", "drop_stream 5\n"}) {
    const Kdump kdump = Open(Source(text + lost));
    EXPECT_EQ(Status(kdump), 8u) << lost;
    EXPECT_EQ(kdump.Page(1), Own(1)) << lost;
  }
  // An EMPTY block is no hole.
  EXPECT_EQ(Status(Open(Source(text + "empty 2 2\n"))), 0u);
}

TEST(KdumpView, RangesThatShareAWindow) {
  const Kdump kdump =
      Open(Source("ram 0 0x3000\nram 0x8000 0xa000\npage 1-2 1 own\npage 8-9 1 own\n"));
  EXPECT_EQ(kdump.page_at.size(), 4u);
  EXPECT_EQ(kdump.Page(9), Own(9));
}

TEST(KdumpView, PagesOutsideTheMemoryMapAreNotDumped) {
  const Kdump kdump = Open(Source("ram 0x2000 0x3000\npage 0-4 1 own\n"));
  EXPECT_EQ(kdump.page_at.size(), 1u);
  EXPECT_EQ(kdump.Page(2), Own(2));
}

TEST(KdumpView, PiecesJoinToTheWhole) {
  std::string text = "ram 0x1000 0x9f000\nram 0x100000 0x1900000\n";
  std::mt19937 random(11);
  // More windows than lie between two counts of the index, some with zeros, some with nothing.
  for (uint64_t pfn = 0x100; pfn < 0x1900; ++pfn) {
    const unsigned kind = random() % 4;
    if (kind == 0) text += absl::StrCat("page ", pfn, " 2 zero\n");
    if (kind == 1) text += absl::StrCat("page ", pfn, " ", 1 + random() % 3, " own\n");
  }
  const Kdump kdump = Open(Source(text));
  for (const auto& [pfn, at] : kdump.page_at) {
    const std::string page = kdump.Page(pfn);
    ASSERT_TRUE(page == Own(pfn) || page == std::string(kPage, '\0')) << pfn;
  }
  for (int i = 0; i < 2000; ++i) {
    const uint64_t offset = random() % kdump.bytes.size();
    const size_t len =
        std::min<uint64_t>(random() % (i % 10 == 0 ? 100000 : 50), kdump.bytes.size() - offset);
    std::string bytes(len, '?');
    ASSERT_TRUE(kdump.view->Read(offset, len, bytes.data()).ok());
    ASSERT_EQ(bytes, kdump.bytes.substr(offset, len)) << offset << " " << len;
  }
  char byte;
  EXPECT_EQ(kdump.view->Read(kdump.bytes.size(), 1, &byte).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(kdump.view->Read(~uint64_t{0}, 1, &byte).code(), absl::StatusCode::kOutOfRange);
}

TEST(KdumpView, NothingDumpedAtAll) {
  const Kdump kdump = Open(Source("ram 0 0x10000\n"));
  EXPECT_TRUE(kdump.page_at.empty());
  EXPECT_EQ(kdump.ram.size(), 16u);
}

TEST(KdumpView, NeedsTheMemoryMapAndGivesTheSourcesErrors) {
  EXPECT_EQ(Make(Source("ram 0 0x10000\ndrop_stream 3\n")).status().code(),
            absl::StatusCode::kFailedPrecondition);
  auto source = Source("ram 0 0x10000\npage 1 1 own\n");
  source->Fail(1, 0, absl::UnavailableError("disk"));
  EXPECT_EQ(Make(source).status(), absl::UnavailableError("disk"));
}

}  // namespace
}  // namespace dumpcast
