// SPDX-License-Identifier: Apache-2.0
// Vmcores that others have written: kdump-compressed, and flattened. Real ones are in tests/vm.
#include "kmod/core/send/kdump_file.h"

#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kmod/core/dcast_sender.h"
#include "kmod/core/send/memory_source.h"
#include "tests/unit/core/send/elf_builder.h"
#include "tests/unit/core/send/kdump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

// A source, and the file that it reads.
struct Loaded {
  explicit Loaded(std::string bytes)
      : file(std::move(bytes)),
        source(MemorySource::FromBytes(reinterpret_cast<const uint8_t*>(file.data()), file.size(),
                                       MemorySource::Format::kAuto, "test")) {}
  const std::string file;
  const absl::StatusOr<std::unique_ptr<MemorySource>> source;
};

std::string Page(const MemorySource& source, uint64_t pfn) {
  std::string page(4096, '?');
  EXPECT_TRUE(source.ReadPage(pfn, page.data())) << pfn;
  return page;
}

std::string Words(char c) {
  std::string page;
  for (int i = 0; page.size() < 4096; ++i) page += std::string(1, c) + std::to_string(i * 7919);
  page.resize(4096);
  return page;
}

KdumpBuilder Small() {
  KdumpBuilder kdump;
  kdump.Ram(0, 0x80);
  kdump.Ram(0x100, 0x80);
  kdump.Page(1, Words('a'), KdumpBuilder::kPlain);
  kdump.Page(2, Words('b'), KdumpBuilder::kZlib);
  kdump.Page(0x7f, Words('c'), KdumpBuilder::kLzo);
  kdump.Page(0x100, Words('d'), KdumpBuilder::kSnappy);
  kdump.Page(0x17f, Words('e'), KdumpBuilder::kZstd);
  kdump.vmcoreinfo = "OSRELEASE=6.1.0-9\nSYMBOL(_stext)=ffffffff81000000\n";
  kdump.phys_base = 0xfffffffffff00000 + 0x100000 - 0xf00000;  // below 0: at 1 MiB is 0xf..81000000
  ElfBuilder notes;
  notes.AddNote("CORE", NT_PRSTATUS, std::string(336, 'r'));
  kdump.notes = notes.notes();
  return kdump;
}

TEST(KdumpFile, GivesRangesPagesNotesAndWhatItSaysOfTheHost) {
  const Loaded source_file(Small().Build());
  const auto& source = source_file.source;
  ASSERT_TRUE(source.ok()) << source.status();
  const MemorySource& m = **source;
  ASSERT_EQ(m.ranges().size(), 2u);
  EXPECT_EQ(m.ranges()[0].end, 0x80000u);
  EXPECT_EQ(m.ranges()[1].start, 0x100000u);
  EXPECT_EQ(m.ranges()[1].end, 0x180000u);
  EXPECT_EQ(Page(m, 1), Words('a'));
  EXPECT_EQ(Page(m, 2), Words('b'));
  EXPECT_EQ(Page(m, 0x7f), Words('c'));
  EXPECT_EQ(Page(m, 0x100), Words('d'));
  EXPECT_EQ(Page(m, 0x17f), Words('e'));
  char page[4096];
  EXPECT_FALSE(m.ReadPage(3, page)) << "RAM, not dumped";
  EXPECT_FALSE(m.ReadPage(0x90, page)) << "no RAM";
  EXPECT_FALSE(m.ReadPage(0x200, page)) << "beyond all";
  uint8_t cls[16];
  m.WindowClasses(0, cls);
  EXPECT_EQ(cls[0], DCAST_CLASS_EXCLUDED);
  EXPECT_EQ(cls[1], 2);
  EXPECT_EQ(cls[3], DCAST_CLASS_EXCLUDED);
  m.WindowClasses(0x10, cls);
  EXPECT_EQ(cls[0], 1) << "the kernel's image begins at 1 MiB";
  EXPECT_STREQ(m.meta().hostname, "web1");
  EXPECT_STREQ(m.meta().release, "6.1.0-9");
  EXPECT_EQ(m.meta().crash_unix_ns, 1700000000000000000u);
  EXPECT_EQ(m.meta().text_vaddr, 0xffffffff81000000u);
  EXPECT_EQ(m.meta().text_paddr, 0x100000u);
  EXPECT_EQ(m.meta().text_bytes, 0x80000u);
  EXPECT_EQ(m.meta().cpus, 1u);
  EXPECT_EQ(m.dump_level(), 31u);
  EXPECT_FALSE(m.incomplete());
  std::string across(100, '?');
  ASSERT_TRUE(m.ReadPhysical(0x1fce, across.data(), across.size()));
  EXPECT_EQ(across, Words('a').substr(0xfce) + Words('b').substr(0, 50));
}

TEST(KdumpFile, RanksOfManyPagesAreRight) {
  KdumpBuilder kdump;
  kdump.max_pfn = 40000;
  kdump.Ram(0, 40000);
  for (uint64_t pfn = 0; pfn < 40000; pfn += 1 + pfn % 7)
    kdump.Page(pfn, std::string(4096, static_cast<char>(pfn % 251)));
  const Loaded source_file(kdump.Build());
  const auto& source = source_file.source;
  ASSERT_TRUE(source.ok()) << source.status();
  for (uint64_t pfn = 0; pfn < 40000; pfn += 1 + pfn % 7)
    ASSERT_EQ(Page(**source, pfn), std::string(4096, static_cast<char>(pfn % 251))) << pfn;
}

TEST(KdumpFile, OlderHeadersHaveNoLargePageNumbers) {
  KdumpBuilder kdump = Small();
  kdump.version = 5;
  kdump.status = 0x8;
  const Loaded source_file(kdump.Build());
  const auto& source = source_file.source;
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(Page(**source, 0x17f), Words('e'));
  EXPECT_TRUE((*source)->incomplete());
}

TEST(KdumpFile, SaysWhatIsWrong) {
  const auto message = [](const KdumpBuilder& kdump, size_t less = 0) {
    const std::string file = kdump.Build();
    return std::string(Loaded(file.substr(0, file.size() - less)).source.status().message());
  };
  KdumpBuilder bad = Small();
  bad.version = 7;
  EXPECT_THAT(message(bad), HasSubstr("version 7"));
  bad = Small();
  bad.page_bytes = 65536;
  EXPECT_THAT(message(bad), HasSubstr("65536"));
  bad = Small();
  bad.split = 1;
  EXPECT_THAT(message(bad), HasSubstr("--reassemble"));
  const size_t size = Small().Build().size();
  EXPECT_THAT(message(Small(), size - 100), HasSubstr("shorter than its header"));
  EXPECT_THAT(message(Small(), size - 3 * 4096), HasSubstr("bitmaps are cut off"));
  EXPECT_THAT(message(Small(), size - 4 * 4096 - 30), HasSubstr("descriptors are cut off"));
}

TEST(KdumpFile, DamageNeverReadsOutside) {
  const std::string good = Small().Build();
  for (size_t at = 0; at < good.size(); at += at < 600 ? 1 : 37) {
    for (const int bit : {0, 3, 7}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const Loaded source_file(bad);
      const auto& source = source_file.source;
      if (!source.ok()) continue;
      char page[4096];
      for (uint64_t pfn = 0; pfn < 0x200; ++pfn) (*source)->ReadPage(pfn, page);
    }
  }
}

TEST(FlattenedFile, IsTheFileThatItStandsFor) {
  const std::string kdump = Small().Build();
  ElfBuilder elf;
  elf.AddLoad(0xffff888000000000, 0, Words('x') + std::string(8192, '\0') + Words('y'));
  for (const size_t piece : {100, 4096, 5000, 1 << 20}) {
    const std::string flat = KdumpBuilder::Flatten(kdump, piece);
    const Loaded source_file(flat);
    const auto& source = source_file.source;
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(Page(**source, 2), Words('b'));
    EXPECT_EQ(Page(**source, 0x17f), Words('e'));
    const std::string flat_elf = KdumpBuilder::Flatten(elf.Build(), piece);
    const Loaded elf_source_file(flat_elf);
    const auto& elf_source = elf_source_file.source;
    ASSERT_TRUE(elf_source.ok()) << elf_source.status();
    EXPECT_EQ(Page(**elf_source, 0), Words('x'));
    EXPECT_EQ(Page(**elf_source, 1), std::string(4096, '\0')) << "a hole";
    EXPECT_EQ(Page(**elf_source, 3), Words('y'));
  }
}

TEST(FlattenedFile, CutOffIsSaid) {
  const std::string flat = KdumpBuilder::Flatten(Small().Build(), 5000);
  for (const size_t size : {flat.size() - 1, flat.size() - 16, flat.size() / 2, size_t{4096}}) {
    const Loaded source_file(flat.substr(0, size));
    const auto& source = source_file.source;
    EXPECT_EQ(source.status().code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(source.status().message(), HasSubstr("flattened"));
  }
}

}  // namespace
}  // namespace dumpcast
