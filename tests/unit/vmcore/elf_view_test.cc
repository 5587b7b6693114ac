// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/elf_view.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kDirectMap = 0xffff888000000000;

// A view and what its headers say.
struct Elf {
  std::shared_ptr<const MemoryView> memory;
  std::unique_ptr<FileView> view;
  Elf64_Ehdr ehdr{};
  std::vector<Elf64_Phdr> loads;
  Elf64_Phdr note{};

  std::string Read(uint64_t offset, size_t len) const {
    std::string bytes(len, '?');
    const absl::Status status = view->Read(offset, len, bytes.data());
    EXPECT_TRUE(status.ok()) << status;
    return bytes;
  }
  // As crash reads physical memory: '\0' for what memsz adds, "gap" outside.
  std::string Physical(uint64_t paddr) const {
    for (const Elf64_Phdr& load : loads) {
      if (paddr < load.p_paddr || paddr >= load.p_paddr + load.p_memsz) continue;
      if (paddr >= load.p_paddr + load.p_filesz) return std::string(8, '\0');
      return Read(load.p_offset + paddr - load.p_paddr, 8);
    }
    return "gap";
  }
};

Elf Open(const std::shared_ptr<const BlockSource>& source) {
  Elf elf;
  elf.memory = *MemoryView::Open(source);
  absl::StatusOr<std::unique_ptr<FileView>> view = MakeElfView(elf.memory);
  EXPECT_TRUE(view.ok()) << view.status();
  elf.view = *std::move(view);
  const std::string head = elf.Read(0, sizeof(elf.ehdr));
  std::memcpy(&elf.ehdr, head.data(), sizeof(elf.ehdr));
  for (unsigned i = 0; i < elf.ehdr.e_phnum; ++i) {
    Elf64_Phdr phdr;
    const std::string bytes = elf.Read(elf.ehdr.e_phoff + i * sizeof(phdr), sizeof(phdr));
    std::memcpy(&phdr, bytes.data(), sizeof(phdr));
    if (phdr.p_type == PT_NOTE) {
      elf.note = phdr;
    } else {
      EXPECT_EQ(phdr.p_type, unsigned{PT_LOAD});
      EXPECT_LE(phdr.p_offset + phdr.p_filesz, elf.view->size());
      EXPECT_LE(phdr.p_filesz, phdr.p_memsz);
      EXPECT_EQ(phdr.p_align, 0u);
      elf.loads.push_back(phdr);
    }
  }
  return elf;
}

Elf OpenText(std::string_view text) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(text);
  EXPECT_TRUE(builder.ok()) << builder.status();
  return Open(builder->Build());
}

std::string Word(uint64_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

TEST(ElfView, HeaderIsACoreOfTheHostsMachine) {
  const Elf elf = OpenText("ram 0 0x10000\npage 0-15 1 own\ninfo OSRELEASE=6.1\n");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(elf.ehdr.e_ident), 4), ELFMAG);
  EXPECT_EQ(elf.ehdr.e_ident[EI_CLASS], ELFCLASS64);
  EXPECT_EQ(elf.ehdr.e_type, ET_CORE);
  EXPECT_EQ(elf.ehdr.e_machine, EM_X86_64);
  EXPECT_EQ(elf.Read(elf.note.p_offset, elf.note.p_filesz), elf.memory->meta().notes());
  EXPECT_THAT(elf.Read(elf.note.p_offset, elf.note.p_filesz), HasSubstr("OSRELEASE=6.1"));
}

TEST(ElfView, DirectMapOfEachRangeOfRam) {
  const Elf elf = OpenText(R"(
    ram 0x1000 0x9f000
    ram 0x100000 0x200000
    page 1-0x9e 1 own
    page 0x100-0x1ff 2 own
  )");
  ASSERT_EQ(elf.loads.size(), 2u);
  EXPECT_EQ(elf.loads[0].p_paddr, 0x1000u);
  EXPECT_EQ(elf.loads[0].p_vaddr, kDirectMap + 0x1000);
  EXPECT_EQ(elf.loads[0].p_filesz, 0x9e000u);
  EXPECT_EQ(elf.loads[1].p_paddr, 0x100000u);
  EXPECT_EQ(elf.loads[1].p_memsz, 0x100000u);
  for (const uint64_t pfn : {1, 0x9e, 0x100, 0x1ff}) {
    EXPECT_EQ(elf.Physical(pfn * kPage + 8), Word(pfn));
  }
  EXPECT_EQ(elf.Physical(0), "gap");
  EXPECT_EQ(elf.Physical(0xa0000), "gap");
  EXPECT_EQ(elf.view->size(), elf.loads[1].p_offset + elf.loads[1].p_filesz);
}

TEST(ElfView, KernelImageComesFirstAndSharesItsBytes) {
  const Elf elf = OpenText(R"(
    ram 0 0x200000
    page 0-0x1ff 1 own
    text 0xffffffff81000000 0x100000 0x80000
  )");
  ASSERT_EQ(elf.loads.size(), 2u);
  EXPECT_EQ(elf.loads[0].p_vaddr, 0xffffffff81000000);
  EXPECT_EQ(elf.loads[0].p_paddr, 0x100000u);
  EXPECT_EQ(elf.loads[0].p_filesz, 0x80000u);
  EXPECT_EQ(elf.loads[0].p_offset, elf.loads[1].p_offset + 0x100000);
  EXPECT_EQ(elf.Read(elf.loads[0].p_offset, 8), Word(0x100));
}

TEST(ElfView, LostWindowsAreGapsAlsoInTheKernelImage) {
  const Elf elf = OpenText(R"(
    ram 0 0x100000
    page 0-0xff 1 own
    text 0xffffffff81000000 0x40000 0x80000
    drop 1 3
    drop 1 6
  )");
  EXPECT_EQ(elf.Physical(0x2fff8), Word(0x2f));
  EXPECT_EQ(elf.Physical(0x30000), "gap");
  EXPECT_EQ(elf.Physical(0x40000), Word(0x40));
  EXPECT_EQ(elf.Physical(0x6fff8), "gap");
  EXPECT_EQ(elf.Physical(0x70000), Word(0x70));
  ASSERT_EQ(elf.loads.size(), 5u);  // the image in two, the direct map in three
  EXPECT_EQ(elf.loads[0].p_memsz, 0x20000u);
  EXPECT_EQ(elf.loads[1].p_vaddr, 0xffffffff81000000 + 0x30000);
  EXPECT_EQ(elf.loads[1].p_memsz, 0x50000u);
}

TEST(ElfView, ShortExcludedRunsAreZerosInTheFile) {
  const Elf elf = OpenText(R"(
    ram 0 0x100000
    page 0-0x1f 1 own
    page 0x30-0xff 1 own    # window 2 has no block
  )");
  ASSERT_EQ(elf.loads.size(), 1u);
  EXPECT_EQ(elf.loads[0].p_filesz, 0x100000u);
  EXPECT_EQ(elf.Physical(0x20000), Word(0));
  EXPECT_EQ(elf.Physical(0x30000), Word(0x30));
}

TEST(ElfView, LongExcludedRunsAreOnlyInMemsz) {
  const Elf elf = OpenText(R"(
    ram 0 0x800000
    page 0x200-0x20f 1 own    # before it 2 MiB, behind it nearly 6 MiB without a block
    text 0xffffffff81000000 0x210000 0x1000
  )");
  ASSERT_EQ(elf.loads.size(), 3u);
  EXPECT_EQ(elf.loads[0].p_filesz, 0u);  // an excluded page of the image
  EXPECT_EQ(elf.loads[0].p_memsz, 0x1000u);
  EXPECT_EQ(elf.loads[1].p_filesz, 0u);
  EXPECT_EQ(elf.loads[1].p_memsz, 0x200000u);
  EXPECT_EQ(elf.loads[2].p_filesz, 0x10000u);
  EXPECT_EQ(elf.loads[2].p_memsz, 0x600000u);
  EXPECT_EQ(elf.Physical(0x100000), Word(0));
  EXPECT_EQ(elf.Physical(0x20f000), Word(0x20f));
  EXPECT_EQ(elf.Physical(0x7ffff8), Word(0));
  EXPECT_EQ(elf.view->size(), elf.loads[2].p_offset + 0x10000);
}

TEST(ElfView, MoreGapsThanSegmentsAreFilledShortestFirst) {
  std::string text = "ram 0 0x20000000\n";  // 8192 windows
  for (uint64_t window = 0; window < 8192; ++window) {
    // Every other window is lost; and a run of eight, which must stay a gap.
    const bool lost = window % 2 == 1 || (window >= 4000 && window < 4008);
    text += absl::StrCat("page ", window * 16, " 1 own\n");
    if (lost) text += absl::StrCat("drop 1 ", window, "\n");
  }
  const Elf most = OpenText(text);
  EXPECT_EQ(most.loads.size(), 4092u);
  const Elf elf = OpenText(text +
                           "ram 0x20000000 0x20010000\npage 0x20000 1 own\n"
                           "ram 0x20020000 0x20030000\npage 0x20020 1 own\n"
                           "ram 0x20040000 0x20050000\npage 0x20040 1 own\n"
                           "ram 0x20060000 0x20070000\npage 0x20060 1 own\n"
                           "ram 0x20080000 0x20090000\npage 0x20080 1 own\n");
  EXPECT_LT(elf.loads.size(), 20u);
  EXPECT_EQ(elf.Physical(0x10000), Word(0));  // lost, filled
  EXPECT_EQ(elf.Physical(4003ull << 16), "gap");
  EXPECT_EQ(elf.Physical(4008ull << 16), Word(4008 * 16));
}

TEST(ElfView, PresenceThatHasNotArrivedIsLostNotExcluded) {
  const Elf elf = OpenText(R"(
    ram 0 0x40000
    page 0x10-0x1f 1 own
    drop_stream 5
  )");
  EXPECT_EQ(elf.Physical(0), "gap");
  EXPECT_EQ(elf.Physical(0x10000), Word(0x10));
  EXPECT_EQ(elf.Physical(0x20000), "gap");
}

TEST(ElfView, PiecesJoinToTheWhole) {
  const Elf elf = OpenText(R"(
    ram 0x1000 0x9f000
    ram 0x100000 0x400000
    page 1-0x9e 1 own
    page 0x100-0x17f 2 own
    page 0x3f0-0x3ff 3 own
    drop 2 0x12
    text 0xffffffff81000000 0x100000 0x40000
  )");
  const std::string whole = elf.Read(0, elf.view->size());
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    const uint64_t offset = random() % whole.size();
    const size_t len = std::min<uint64_t>(random() % 20000, whole.size() - offset);
    ASSERT_EQ(elf.Read(offset, len), whole.substr(offset, len)) << offset << " " << len;
  }
  std::string bytes(2, '?');
  EXPECT_EQ(elf.view->Read(whole.size() - 1, 2, bytes.data()).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(elf.view->Read(~uint64_t{0}, 2, bytes.data()).code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(elf.view->Read(whole.size(), 0, bytes.data()).ok());
}

TEST(ElfView, NeedsTheMemoryMap) {
  absl::StatusOr<DumpBuilder> builder =
      DumpBuilder::FromText("ram 0 0x10000\npage 0 1 own\ndrop_stream 3\n");
  const auto memory = *MemoryView::Open(builder->Build());
  EXPECT_EQ(MakeElfView(memory).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ElfView, MoreRangesThanSegmentsAreRefused) {
  DumpBuilder builder;
  for (uint64_t i = 0; i <= kMaxElfSegments; ++i) {
    builder.ram.emplace_back(i * 0x2000, i * 0x2000 + 0x1000);
  }
  const auto memory = *MemoryView::Open(builder.Build());
  EXPECT_EQ(MakeElfView(memory).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace dumpcast
