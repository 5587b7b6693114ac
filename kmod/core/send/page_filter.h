// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Which pages of a crashed x86-64 Linux a dump level keeps, by the struct pages in its memory.
//
// Layout and constants come from vmcoreinfo (Linux Documentation/admin-guide/kdump/vmcoreinfo.rst),
// the rules from kmod/linux/filter.c, which are makedumpfile's: a second sender leaves out what the
// first did. Nothing read is believed: a pointer is followed only to what the kernel says is an
// online section, and what does not add up is kept.
#ifndef DUMPCAST_KMOD_CORE_SEND_PAGE_FILTER_H_
#define DUMPCAST_KMOD_CORE_SEND_PAGE_FILTER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

// Not thread-safe: it keeps what it read last.
class PageFilter {
 public:
  // Physical memory; false when it is not there.
  using Read = std::function<bool(uint64_t address, void* dst, size_t len)>;

  // Errors: kInvalidArgument, naming what vmcoreinfo lacks.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<PageFilter>> Create(
      Read read, absl::string_view vmcoreinfo);

  // 2 for each page of the window that the dump level keeps, DCAST_CLASS_EXCLUDED for others.
  void Classes(uint64_t window, unsigned dump_level, uint8_t cls[DCAST_MAX_WINDOW_PAGES]) const;
  // The physical address of a kernel virtual one; false when it is not mapped.
  bool Translate(uint64_t address, uint64_t* physical) const;

 private:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr unsigned kMaxPageStruct = 256;
  using Struct = std::array<uint8_t, kMaxPageStruct>;
  using Page = std::array<uint8_t, kPageBytes>;

  PageFilter() = default;
  bool ReadVirtual(uint64_t address, void* dst, size_t len) const;
  const Page* Cached(uint64_t physical_page) const;
  // Virtual address of struct page 0 as the section has it; false when it is not online.
  bool Section(uint64_t pfn, uint64_t* vmemmap) const;
  bool StructOf(uint64_t pfn, Struct* page) const;
  uint64_t Word(const Struct& page, unsigned at) const;
  bool HasType(const Struct& page, uint32_t type) const;
  bool Flag(const Struct& page, int bit) const;
  int FreeOrder(const Struct& page) const;
  bool FreeCovers(uint64_t first, uint64_t pages) const;
  bool Keeps(uint64_t pfn, const Struct& page, unsigned level) const;

  Read read_;
  uint64_t top_table_ = 0;
  unsigned levels_ = 4;
  uint64_t sections_ = 0;  // virtual, of mem_section
  uint64_t roots_ = 0;
  unsigned section_bytes_ = 0, section_map_at_ = 0, section_shift_ = 0;
  unsigned page_bytes_ = 0, flags_at_ = 0, type_at_ = 0, mapping_at_ = 0, private_at_ = 0;
  unsigned compound_at_ = 0, dtor_at_ = 0;
  int lru_ = -1, private_ = -1, swapcache_ = -1, swapbacked_ = -1, slab_ = -1, hwpoison_ = -1;
  uint64_t head_mask_ = 0;
  uint32_t buddy_ = 0, offline_ = 0, slab_type_ = 0, hugetlb_type_ = 0;
  int hugetlb_dtor_ = -1;
  unsigned top_order_ = 10;

  struct Slot {
    uint64_t page = ~uint64_t{0};
    bool good = false;
    Page bytes;
  };
  mutable std::map<uint64_t, Slot> cache_;             // by physical page, bounded
  mutable std::map<uint64_t, uint64_t> translations_;  // by virtual page, bounded
  mutable uint64_t section_ = ~uint64_t{0}, section_vmemmap_ = 0;
  mutable bool section_online_ = false;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_PAGE_FILTER_H_
