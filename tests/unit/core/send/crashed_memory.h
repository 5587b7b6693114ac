// SPDX-License-Identifier: Apache-2.0
// 16 MiB of a crashed x86-64 kernel, made in memory: page tables, one memory section, struct pages
// and vmcoreinfo as Linux 6.1 has them (or 6.12, in what differs), for tests.
#ifndef DUMPCAST_TESTS_UNIT_CORE_SEND_CRASHED_MEMORY_H_
#define DUMPCAST_TESTS_UNIT_CORE_SEND_CRASHED_MEMORY_H_

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/unit/core/send/elf_builder.h"

namespace dumpcast {

class CrashedMemory {
 public:
  static constexpr uint64_t kBytes = 16 << 20;
  static constexpr uint64_t kPages = kBytes / 4096;
  static constexpr uint64_t kDirect = 0xffff888000000000, kVmemmap = 0xffffea0000000000;
  static constexpr uint64_t kStructs = 4 << 20;  // physical
  static constexpr uint64_t kHead = 1 << 16, kLru = 1 << 4, kSwapBacked = 1 << 19;
  static constexpr uint64_t kSwapCache = 1 << 10, kPrivate = 1 << 13, kSlab = 1 << 9;
  static constexpr uint64_t kPoison = 1 << 22;
  static constexpr uint32_t kBuddy = 0xffffff7f, kOffline = 0xfffffeff;
  static constexpr uint8_t kHugetlbDtor = 2;

  CrashedMemory() : bytes_(kBytes, '\0') {
    constexpr uint64_t kTable = 0x63, kLarge = 0xe3;
    Set64(0x1000 + (kDirect >> 39 & 511) * 8, 0x2000 | kTable);
    Set64(0x2000, 0 | kLarge);  // 1 GiB
    Set64(0x1000 + (kVmemmap >> 39 & 511) * 8, 0x3000 | kTable);
    Set64(0x3000, 0x4000 | kTable);
    Set64(0x4000, kStructs | kLarge);  // 2 MiB
    Set64(0x5000, kDirect + 0x6000);
    Set64(0x6000, kVmemmap | 7);  // present, has a map, online
    for (uint64_t pfn = 0; pfn < kPages; ++pfn) Set32(At(pfn) + 48, ~0u);
  }
  uint64_t At(uint64_t pfn) const { return kStructs + pfn * 64; }
  void SetFlags(uint64_t pfn, uint64_t flags) { Set64(At(pfn), flags); }
  void SetMapping(uint64_t pfn, uint64_t mapping) { Set64(At(pfn) + 24, mapping); }
  void SetType(uint64_t pfn, uint32_t type) { Set32(At(pfn) + 48, type); }
  void SetFree(uint64_t pfn, uint64_t order) {
    SetType(pfn, kBuddy);
    Set64(At(pfn) + 40, order);
  }
  void SetCompound(uint64_t head, unsigned pages) {
    Set64(At(head), Get64(At(head)) | kHead);
    for (unsigned i = 1; i < pages; ++i) Set64(At(head + i) + 8, kVmemmap + head * 64 + 1);
  }
  void Set8(uint64_t at, uint8_t value) { bytes_[at] = static_cast<char>(value); }
  void Set32(uint64_t at, uint32_t value) { std::memcpy(&bytes_[at], &value, 4); }
  void Set64(uint64_t at, uint64_t value) { std::memcpy(&bytes_[at], &value, 8); }
  uint64_t Get64(uint64_t at) const {
    uint64_t value;
    std::memcpy(&value, &bytes_[at], 8);
    return value;
  }
  void Write(uint64_t at, const void* from, size_t n) { std::memcpy(&bytes_[at], from, n); }
  bool Read(uint64_t at, void* dst, size_t n) const {
    if (at > kBytes || kBytes - at < n) return false;
    std::memcpy(dst, &bytes_[at], n);
    return true;
  }
  static std::string Vmcoreinfo() {
    return "OSRELEASE=6.1.0-test\n"
           "PAGESIZE=4096\n"
           "SYMBOL(swapper_pg_dir)=ffffffff80001000\n"
           "NUMBER(phys_base)=0\n"
           "NUMBER(pgtable_l5_enabled)=0\n"
           "SYMBOL(mem_section)=ffff888000005000\n"
           "LENGTH(mem_section)=2048\n"
           "SIZE(mem_section)=16\n"
           "OFFSET(mem_section.section_mem_map)=0\n"
           "NUMBER(SECTION_SIZE_BITS)=27\n"
           "SIZE(page)=64\n"
           "OFFSET(page.flags)=0\n"
           "OFFSET(page._mapcount)=48\n"
           "OFFSET(page.mapping)=24\n"
           "OFFSET(page.private)=40\n"
           "OFFSET(page.compound_head)=8\n"
           "OFFSET(page.compound_dtor)=16\n"
           "NUMBER(PG_lru)=4\n"
           "NUMBER(PG_private)=13\n"
           "NUMBER(PG_swapcache)=10\n"
           "NUMBER(PG_swapbacked)=19\n"
           "NUMBER(PG_slab)=9\n"
           "NUMBER(PG_hwpoison)=22\n"
           "NUMBER(PG_head_mask)=65536\n"
           "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
           "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n"
           "NUMBER(HUGETLB_PAGE_DTOR)=2\n"
           "LENGTH(zone.free_area)=11\n";
  }
  // What /proc/vmcore of it would be.
  std::string Vmcore() const {
    ElfBuilder elf;
    elf.AddNote("CORE", 1, std::string(336, 'r'));
    elf.AddNote("VMCOREINFO", 0, Vmcoreinfo());
    elf.AddLoad(kDirect, 0, bytes_);
    return elf.Build();
  }

 private:
  std::string bytes_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CORE_SEND_CRASHED_MEMORY_H_
