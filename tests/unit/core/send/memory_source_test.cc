// SPDX-License-Identifier: Apache-2.0
#include "kmod/core/send/memory_source.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kmod/core/dcast_sender.h"
#include "tests/unit/core/send/elf_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
constexpr uint64_t kDirectMap = 0xffff888000000000;
constexpr uint64_t kText = 0xffffffff81000000;

absl::StatusOr<std::unique_ptr<MemorySource>> Load(const std::string& file,
                                                   MemorySource::Format format) {
  return MemorySource::FromBytes(reinterpret_cast<const uint8_t*>(file.data()), file.size(), format,
                                 "test");
}

std::string Page(const MemorySource& source, uint64_t pfn) {
  std::string page(4096, '?');
  EXPECT_TRUE(source.ReadPage(pfn, page.data()));
  return page;
}

TEST(MemorySource, ElfGivesRangesClassesPagesAndStreams) {
  ElfBuilder elf;
  elf.AddNote("CORE", NT_PRSTATUS, std::string(336, 'r'));
  elf.AddNote("CORE", NT_PRSTATUS, std::string(336, 's'));
  elf.AddNote("VMCOREINFO", 0, "OSRELEASE=6.1.0-9\nCRASHTIME=1700000000\n");
  elf.AddLoad(kText, 0x110000, std::string(0x2000, 'T'));
  elf.AddLoad(kDirectMap + 0x1000, 0x1000, std::string(0x9ec00, 'L'));  // ends inside a page
  elf.AddLoad(kDirectMap + 0x100000, 0x100000,
              std::string(0x10000, 'a') + std::string(0x2000, 'T') + std::string(0x1000, 'b'),
              0x20000);  // the rest is not in the file
  const std::string file = elf.Build();
  const auto source = Load(file, MemorySource::Format::kAuto);
  ASSERT_TRUE(source.ok()) << source.status();
  const MemorySource& m = **source;
  ASSERT_EQ(m.ranges().size(), 2u);
  EXPECT_EQ(m.ranges()[0].start, 0x1000u);
  EXPECT_EQ(m.ranges()[0].end, 0x9fc00u);
  EXPECT_EQ(m.ranges()[1].start, 0x100000u);
  EXPECT_EQ(m.ranges()[1].end, 0x120000u);

  uint8_t cls[16];
  m.WindowClasses(0, cls);
  EXPECT_EQ(cls[0], DCAST_CLASS_EXCLUDED);
  EXPECT_EQ(cls[1], 2);
  m.WindowClasses(9, cls);
  EXPECT_EQ(cls[15], 2) << "the page that the file has a part of";
  m.WindowClasses(0x11, cls);
  EXPECT_EQ(cls[0], 1) << "kernel text";
  EXPECT_EQ(cls[1], 1);
  EXPECT_EQ(cls[2], 2);
  EXPECT_EQ(cls[3], DCAST_CLASS_EXCLUDED) << "in memory, not in the file";

  EXPECT_EQ(Page(m, 0x110), std::string(4096, 'T'));
  EXPECT_EQ(Page(m, 0x112), std::string(4096, 'b'));
  EXPECT_EQ(Page(m, 0x9f), std::string(0xc00, 'L') + std::string(0x400, '\0'));
  char page[4096];
  EXPECT_FALSE(m.ReadPage(0x113, page));

  EXPECT_EQ(m.stream(DCAST_STREAM_VMCOREINFO), "OSRELEASE=6.1.0-9\nCRASHTIME=1700000000\n");
  EXPECT_EQ(m.stream(DCAST_STREAM_NOTES), elf.notes());
  EXPECT_STREQ(m.meta().release, "6.1.0-9");
  EXPECT_EQ(dcast_le64(m.meta().crash_unix_ns), 1700000000000000000u);
  EXPECT_EQ(dcast_le32(m.meta().cpus), 2u);
  EXPECT_EQ(dcast_le64(m.meta().page_offset), kDirectMap);
  EXPECT_EQ(dcast_le64(m.meta().text_vaddr), kText);
  EXPECT_EQ(dcast_le64(m.meta().text_paddr), 0x110000u);
}

TEST(MemorySource, RawIsPhysicalMemoryFromZero) {
  const std::string file = std::string(4096, 'x') + std::string(100, 'y');
  const auto source = Load(file, MemorySource::Format::kAuto);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->memory_bytes(), 8192u);
  uint8_t cls[16];
  (*source)->WindowClasses(0, cls);
  EXPECT_EQ(cls[1], 2);
  EXPECT_EQ(cls[2], DCAST_CLASS_EXCLUDED);
  EXPECT_EQ(Page(**source, 1), std::string(100, 'y') + std::string(3996, '\0'));
}

TEST(MemorySource, BadFilesAreRefusedWithTheReason) {
  ElfBuilder elf;
  elf.AddLoad(kDirectMap, 0, std::string(8192, 'x'));
  const std::string good = elf.Build();
  const auto message = [](const std::string& file, MemorySource::Format format) {
    const auto source = Load(file, format);
    EXPECT_FALSE(source.ok());
    return std::string(source.status().message());
  };
  EXPECT_THAT(message(good.substr(0, good.size() - 1), MemorySource::Format::kAuto),
              HasSubstr("it is incomplete"));
  EXPECT_THAT(message(good.substr(0, 100), MemorySource::Format::kAuto),
              HasSubstr("program headers are cut off"));
  EXPECT_THAT(message("hello", MemorySource::Format::kElf), HasSubstr("shorter than"));
  EXPECT_THAT(message(std::string(100, 'x'), MemorySource::Format::kElf),
              HasSubstr("no ELF magic"));
  EXPECT_THAT(message(ElfBuilder().Build(), MemorySource::Format::kAuto), HasSubstr("no PT_LOAD"));
  EXPECT_THAT(message("KDUMP   and so on", MemorySource::Format::kAuto),
              HasSubstr("kdump-compressed file, but shorter"));
  std::string wrong = good;
  wrong[EI_CLASS] = ELFCLASS32;
  EXPECT_THAT(message(wrong, MemorySource::Format::kAuto), HasSubstr("ELF64"));
  EXPECT_EQ(MemorySource::Open("/nonexistent/vmcore", MemorySource::Format::kAuto).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(MemorySource, AVmcoreinfoLineWithoutAValueIsAnEmptyOne) {
  ElfBuilder elf;
  elf.AddNote("VMCOREINFO", 0, "OSRELEASE\nCRASHTIME\n");
  elf.AddLoad(kDirectMap, 0, std::string(4096, 'x'));
  const std::string file = elf.Build();
  const auto source = Load(file, MemorySource::Format::kElf);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_STREQ((*source)->meta().release, "");
  EXPECT_EQ((*source)->meta().crash_unix_ns, 0u);
}

TEST(MemorySource, DamagedHeadersNeverReadOutside) {
  ElfBuilder elf;
  elf.AddNote("CORE", NT_PRSTATUS, "x");
  elf.AddNote("VMCOREINFO", 0, "OSRELEASE=1\n");
  elf.AddLoad(kDirectMap, 0, std::string(4096, 'x'));
  const std::string good = elf.Build();
  for (size_t at = 0; at < good.size() - 4096; ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const auto source = Load(bad, MemorySource::Format::kElf);
      if (!source.ok()) continue;
      char page[4096];
      uint8_t cls[16];
      for (const dcast_range& r : (*source)->ranges()) {
        (*source)->WindowClasses(dcast_le64(r.start) >> 16, cls);
        (*source)->ReadPage(dcast_le64(r.start) >> 12, page);
        (*source)->ReadPage((dcast_le64(r.end) - 1) >> 12, page);
      }
    }
  }
}

}  // namespace
}  // namespace dumpcast
