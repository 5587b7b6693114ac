// SPDX-License-Identifier: Apache-2.0
// Kernel virtual addresses of a dump, translated with vmcoreinfo and META alone.
#ifndef DUMPCAST_STORE_VMCORE_VIRTUAL_MEMORY_H_
#define DUMPCAST_STORE_VMCORE_VIRTUAL_MEMORY_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

// Thread safety: as MemoryView, which must outlive it.
class VirtualMemory {
 public:
  explicit VirtualMemory(const MemoryView& memory);

  // Physical address of a kernel virtual address: kernel image, direct map, then, on x86-64,
  // the kernel's page tables (SYMBOL(swapper_pg_dir); 4 or 5 levels by NUMBER(pgtable_l5_enabled)).
  // NOT_FOUND when nothing maps it, or a page table is not held.
  absl::StatusOr<uint64_t> Translate(uint64_t vaddr) const;

  // Copies [vaddr, vaddr + len), page by page. NOT_FOUND as Translate() and ReadExact().
  absl::Status Read(uint64_t vaddr, uint64_t len, char* out) const;
  // A 64-bit little-endian word.
  absl::StatusOr<uint64_t> Read64(uint64_t vaddr) const;
  absl::StatusOr<uint32_t> Read32(uint64_t vaddr) const;

 private:
  absl::StatusOr<uint64_t> Walk(uint64_t vaddr) const;

  const MemoryView& memory_;
  std::optional<uint64_t> top_table_;  // physical
  int levels_ = 4;
  uint64_t frame_mask_ = 0;  // bits of a page table entry that are the address
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_VIRTUAL_MEMORY_H_
