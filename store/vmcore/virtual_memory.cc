// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/virtual_memory.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

// __START_KERNEL_map, arch/x86/include/asm/page_64_types.h.
constexpr uint64_t kX86ImageBase = 0xffffffff80000000;
// Page table entries, Intel SDM volume 3, chapter 4.5.
constexpr uint64_t kPresent = 1;
constexpr uint64_t kLargePage = 1 << 7;
constexpr uint64_t kFrameBits = 0x000ffffffffff000;
constexpr int kPageShift = 12;
constexpr int kLevelBits = 9;

}  // namespace

VirtualMemory::VirtualMemory(const MemoryView& memory) : memory_(memory) {
  const DumpMeta& meta = memory.meta();
  if (meta.fields().elf_machine != EM_X86_64) return;
  const Vmcoreinfo& info = meta.vmcoreinfo();
  levels_ = info.Number("pgtable_l5_enabled").value_or(0) == 1 ? 5 : 4;
  frame_mask_ = kFrameBits & ~info.Number("sme_mask").value_or(0);
  const std::optional<uint64_t> table = info.Symbol("swapper_pg_dir");
  const std::optional<uint64_t> phys_base = info.Number("phys_base");
  if (table && phys_base) top_table_ = *table - kX86ImageBase + *phys_base;
}

absl::StatusOr<uint64_t> VirtualMemory::Walk(uint64_t vaddr) const {
  uint64_t table = *top_table_;
  for (int level = levels_; level >= 1; --level) {
    const int shift = kPageShift + kLevelBits * (level - 1);
    const uint64_t index = vaddr >> shift & ((1 << kLevelBits) - 1);
    char raw[sizeof(uint64_t)];
    if (absl::Status status = memory_.ReadExact(table + index * sizeof(raw), sizeof(raw), raw);
        !status.ok()) {
      return absl::NotFoundError(absl::StrFormat("virtual %#x: page table of level %d: %s", vaddr,
                                                 level, status.message()));
    }
    const uint64_t entry = dcast_load64(raw);
    if ((entry & kPresent) == 0) {
      return absl::NotFoundError(
          absl::StrFormat("virtual %#x: not mapped (level %d)", vaddr, level));
    }
    const bool large = level == 1 || (level <= 3 && (entry & kLargePage) != 0);
    const uint64_t in_page = (uint64_t{1} << shift) - 1;
    if (large) return (entry & frame_mask_ & ~in_page) | (vaddr & in_page);
    table = entry & frame_mask_;
  }
  return absl::NotFoundError(absl::StrFormat("virtual %#x: not mapped", vaddr));
}

absl::StatusOr<uint64_t> VirtualMemory::Translate(uint64_t vaddr) const {
  const MetaFields& fields = memory_.meta().fields();
  if (vaddr >= fields.text_vaddr && vaddr - fields.text_vaddr < fields.text_bytes) {
    return fields.text_paddr + (vaddr - fields.text_vaddr);
  }
  if (fields.page_offset != 0 && vaddr >= fields.page_offset &&
      memory_.meta().IsRam(vaddr - fields.page_offset)) {
    return vaddr - fields.page_offset;
  }
  if (!top_table_) {
    return absl::NotFoundError(absl::StrFormat(
        "virtual %#x: neither kernel image nor direct map, and vmcoreinfo names no page tables",
        vaddr));
  }
  return Walk(vaddr);
}

absl::Status VirtualMemory::Read(uint64_t vaddr, uint64_t len, char* out) const {
  const uint64_t page = memory_.meta().page_bytes();
  while (len != 0) {
    const uint64_t take = std::min(len, page - vaddr % page);
    absl::StatusOr<uint64_t> paddr = Translate(vaddr);
    if (!paddr.ok()) return paddr.status();
    if (absl::Status status = memory_.ReadExact(*paddr, take, out); !status.ok()) return status;
    out += take;
    vaddr += take;
    len -= take;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> VirtualMemory::Read64(uint64_t vaddr) const {
  char raw[sizeof(uint64_t)];
  if (absl::Status status = Read(vaddr, sizeof(raw), raw); !status.ok()) return status;
  return dcast_load64(raw);
}

absl::StatusOr<uint32_t> VirtualMemory::Read32(uint64_t vaddr) const {
  uint32_t raw;
  if (absl::Status status = Read(vaddr, sizeof(raw), reinterpret_cast<char*>(&raw)); !status.ok()) {
    return status;
  }
  return dcast_le32(raw);
}

}  // namespace dumpcast
