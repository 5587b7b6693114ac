// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/page_filter.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "kmod/core/dcast_sender.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

constexpr uint64_t kKernelMap = 0xffffffff80000000;  // __START_KERNEL_map
constexpr uint64_t kFrameMask = 0x000ffffffffff000;
constexpr unsigned kWindowPages = DCAST_WINDOW_BYTES / 4096;
constexpr size_t kMaxCached = 256;
constexpr uint64_t kSectionOnline = 1 << 2;  // SECTION_IS_ONLINE, linux/mmzone.h
constexpr uint64_t kMappingAnon = 1;         // PAGE_MAPPING_ANON, linux/page-flags.h
constexpr uint8_t kKept = 2;

enum Level { kCache = 2, kCachePrivate = 4, kUser = 8, kFree = 16 };

// The values of vmcoreinfo's lines, and which of those that are needed are missing.
class Values {
 public:
  explicit Values(absl::string_view text) {
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::pair<absl::string_view, absl::string_view> field =
          absl::StrSplit(line, absl::MaxSplits('=', 1));
      lines_.emplace(field.first, field.second);
    }
  }
  // SYMBOLs are hexadecimal, all else decimal (kernel/crash_core.c).
  uint64_t Need(const std::string& name) {
    uint64_t value = 0;
    if (!Find(name, &value)) absl::StrAppend(&missing_, missing_.empty() ? "" : ", ", name);
    return value;
  }
  uint64_t Get(const std::string& name, uint64_t otherwise) const {
    uint64_t value = 0;
    return Find(name, &value) ? value : otherwise;
  }
  const std::string& missing() const { return missing_; }

 private:
  bool Find(const std::string& name, uint64_t* value) const {
    const auto it = lines_.find(name);
    if (it == lines_.end()) return false;
    if (name[1] == 'Y') return absl::SimpleHexAtoi(it->second, value);
    int64_t number;
    if (!absl::SimpleAtoi(it->second, &number)) return false;
    *value = static_cast<uint64_t>(number);
    return true;
  }
  std::map<std::string, std::string> lines_;
  std::string missing_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PageFilter>> PageFilter::Create(Read read,
                                                               absl::string_view vmcoreinfo) {
  Values values(vmcoreinfo);
  std::unique_ptr<PageFilter> f(new PageFilter);
  const auto small = [&](const std::string& name) {
    return static_cast<unsigned>(std::min<uint64_t>(values.Need(name), 1u << 20));
  };
  const auto bit = [&](const std::string& name) {
    const uint64_t value = values.Get(name, ~uint64_t{0});
    return value < 64 ? static_cast<int>(value) : -1;
  };
  const auto type = [&](const std::string& name) {
    return static_cast<uint32_t>(values.Get(name, 0));
  };
  f->read_ = std::move(read);
  f->top_table_ =
      values.Need("SYMBOL(swapper_pg_dir)") - kKernelMap + values.Need("NUMBER(phys_base)");
  f->levels_ = values.Get("NUMBER(pgtable_l5_enabled)", 0) == 1 ? 5 : 4;
  f->sections_ = values.Need("SYMBOL(mem_section)");
  f->roots_ = values.Need("LENGTH(mem_section)");
  f->section_bytes_ = small("SIZE(mem_section)");
  f->section_map_at_ = small("OFFSET(mem_section.section_mem_map)");
  f->section_shift_ = small("NUMBER(SECTION_SIZE_BITS)");
  f->page_bytes_ = small("SIZE(page)");
  f->flags_at_ = small("OFFSET(page.flags)");
  f->type_at_ = small("OFFSET(page._mapcount)");
  f->mapping_at_ = small("OFFSET(page.mapping)");
  f->private_at_ = small("OFFSET(page.private)");
  f->compound_at_ = small("OFFSET(page.compound_head)");
  f->lru_ = static_cast<int>(small("NUMBER(PG_lru)"));
  f->private_ = static_cast<int>(small("NUMBER(PG_private)"));
  f->swapcache_ = static_cast<int>(small("NUMBER(PG_swapcache)"));
  f->swapbacked_ = bit("NUMBER(PG_swapbacked)");
  f->buddy_ = static_cast<uint32_t>(values.Need("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"));
  f->head_mask_ = values.Need("NUMBER(PG_head_mask)");
  f->slab_ = bit("NUMBER(PG_slab)");
  f->hwpoison_ = bit("NUMBER(PG_hwpoison)");
  f->offline_ = type("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)");
  // Slab, 4ffca5a96678 (6.11), and hugetlb, d99e3140a4d3 (6.9), are page types since.
  f->slab_type_ = type("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)");
  f->hugetlb_type_ = type("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)");
  f->hugetlb_dtor_ = bit("NUMBER(HUGETLB_PAGE_DTOR)");
  f->dtor_at_ = static_cast<unsigned>(
      std::min<uint64_t>(values.Get("OFFSET(page.compound_dtor)", kMaxPageStruct), kMaxPageStruct));
  const uint64_t orders = values.Get("LENGTH(zone.free_area)", 11);
  f->top_order_ = static_cast<unsigned>(std::clamp<uint64_t>(orders, 1, 20)) - 1;
  if (!values.missing().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("vmcoreinfo lacks ", values.missing(),
                     ": pages of this kernel cannot be told apart; let kdump save the dump"));
  }
  const unsigned last =
      std::max({f->flags_at_, f->type_at_, f->mapping_at_, f->private_at_, f->compound_at_});
  if (f->page_bytes_ > kMaxPageStruct || last + 8 > f->page_bytes_ || f->section_bytes_ < 8 ||
      f->section_bytes_ > kPageBytes || f->section_map_at_ > f->section_bytes_ - 8 ||
      f->section_shift_ < 16 || f->section_shift_ > 40 || f->lru_ > 63 || f->private_ > 63 ||
      f->swapcache_ > 63) {
    return absl::InvalidArgumentError(absl::StrCat(
        "vmcoreinfo tells of struct pages of ", f->page_bytes_, " bytes and sections of ",
        f->section_bytes_, ": no layout that is known; let kdump save the dump"));
  }
  return f;
}

const PageFilter::Page* PageFilter::Cached(uint64_t physical_page) const {
  auto it = cache_.find(physical_page);
  if (it == cache_.end()) {
    if (cache_.size() >= kMaxCached) cache_.clear();
    it = cache_.try_emplace(physical_page).first;
    it->second.good = read_(physical_page * kPageBytes, it->second.bytes.data(), kPageBytes);
  }
  return it->second.good ? &it->second.bytes : nullptr;
}

bool PageFilter::Translate(uint64_t address, uint64_t* physical) const {
  const auto known = translations_.find(address / kPageBytes);
  if (known != translations_.end()) {
    *physical = known->second | address % kPageBytes;
    return true;
  }
  uint64_t table = top_table_;
  for (unsigned level = levels_; level != 0; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const Page* entries = Cached(table / kPageBytes);
    if (entries == nullptr) return false;
    const uint64_t entry = dcast_load64(entries->data() + (address >> shift & 511) * 8);
    if ((entry & 1) == 0) return false;
    table = entry & kFrameMask;
    if (level == 1 || (level < 4 && (entry & 0x80) != 0)) {
      const uint64_t mask = (uint64_t{1} << shift) - 1;
      *physical = (table & ~mask) | (address & mask);
      if (translations_.size() >= kMaxCached) translations_.clear();
      translations_[address / kPageBytes] = *physical & ~(kPageBytes - 1);
      return true;
    }
  }
  return false;
}

bool PageFilter::ReadVirtual(uint64_t address, void* dst, size_t len) const {
  auto* out = static_cast<uint8_t*>(dst);
  while (len != 0) {
    uint64_t physical;
    if (!Translate(address, &physical)) return false;
    const size_t n = std::min<size_t>(len, kPageBytes - address % kPageBytes);
    const Page* page = Cached(physical / kPageBytes);
    if (page == nullptr) return false;
    std::memcpy(out, page->data() + address % kPageBytes, n);
    out += n;
    address += n;
    len -= n;
  }
  return true;
}

bool PageFilter::Section(uint64_t pfn, uint64_t* vmemmap) const {
  const uint64_t number = pfn >> (section_shift_ - 12);
  if (number != section_) {
    // SPARSEMEM_EXTREME: an array of pointers to pages full of sections.
    const uint64_t per_root = kPageBytes / section_bytes_;
    uint8_t word[8];
    section_ = number;
    section_online_ = false;
    if (number / per_root < roots_ && ReadVirtual(sections_ + number / per_root * 8, word, 8)) {
      const uint64_t root = dcast_load64(word);
      if (root != 0 &&
          ReadVirtual(root + number % per_root * section_bytes_ + section_map_at_, word, 8)) {
        // With a vmemmap every section has the address of struct page 0, and flags in the low bits.
        const uint64_t map = dcast_load64(word);
        section_online_ = (map & kSectionOnline) != 0;
        section_vmemmap_ = map & ~(kPageBytes - 1);
      }
    }
  }
  *vmemmap = section_vmemmap_;
  return section_online_;
}

bool PageFilter::StructOf(uint64_t pfn, Struct* page) const {
  uint64_t vmemmap;
  return Section(pfn, &vmemmap) &&
         ReadVirtual(vmemmap + pfn * page_bytes_, page->data(), page_bytes_);
}

uint64_t PageFilter::Word(const Struct& page, unsigned at) const {
  return dcast_load64(page.data() + at);
}

// Up to 6.10 a type clears one bit of the whole word; since, the top byte names it.
bool PageFilter::HasType(const Struct& page, uint32_t type) const {
  const uint32_t value = static_cast<uint32_t>(Word(page, type_at_));
  if (type == 0) return false;
  return (type & 0x00ffffff) == 0 ? value >> 24 == type >> 24 : value == type;
}

bool PageFilter::Flag(const Struct& page, int bit) const {
  return bit >= 0 && (Word(page, flags_at_) >> bit & 1) != 0;
}

int PageFilter::FreeOrder(const Struct& page) const {
  if (!HasType(page, buddy_)) return -1;
  const uint64_t order = Word(page, private_at_);
  return order <= top_order_ ? static_cast<int>(order) : -1;
}

// Whether a free block that begins before the window reaches into it.
bool PageFilter::FreeCovers(uint64_t first, uint64_t pages) const {
  for (unsigned order = 0; order <= top_order_; ++order) {
    const uint64_t size = uint64_t{1} << order;
    const uint64_t head = first & ~(size - 1);
    Struct page;
    if (size < pages || head == first || !StructOf(head, &page)) continue;
    const int free = FreeOrder(page);
    if (free >= 0 && head + (uint64_t{1} << free) > first) return true;
  }
  return false;
}

bool PageFilter::Keeps(uint64_t pfn, const Struct& page, unsigned level) const {
  if (Flag(page, hwpoison_)) return false;
  Struct head = page;
  uint64_t head_pfn = pfn, vmemmap;
  const uint64_t link = Word(page, compound_at_);
  if ((link & 1) != 0) {
    if (!Section(pfn, &vmemmap) || link - 1 < vmemmap) return true;
    head_pfn = (link - 1 - vmemmap) / page_bytes_;
    if (head_pfn >= pfn || !StructOf(head_pfn, &head)) return true;
  }
  if (slab_type_ != 0 ? HasType(head, slab_type_) : Flag(head, slab_)) return true;
  // An anonymous page's word is its map count, which may look like a type.
  const bool anon = (Word(head, mapping_at_) & kMappingAnon) != 0;
  if (!anon && HasType(page, offline_)) return false;
  const bool compound = (Word(head, flags_at_) & head_mask_) != 0;
  bool hugetlb = HasType(head, hugetlb_type_);
  if (hugetlb_type_ == 0 && hugetlb_dtor_ >= 0 && dtor_at_ < page_bytes_ && compound) {
    Struct second;
    hugetlb = StructOf(head_pfn + 1, &second) && second[dtor_at_] == hugetlb_dtor_;
  }
  if (anon || hugetlb) return (level & kUser) == 0;
  if (Flag(head, lru_) || (Flag(head, swapbacked_) && Flag(head, swapcache_))) {
    if ((level & kCachePrivate) != 0) return false;
    return (level & kCache) == 0 || Flag(head, private_);
  }
  return true;
}

void PageFilter::Classes(uint64_t window, unsigned dump_level,
                         uint8_t cls[DCAST_MAX_WINDOW_PAGES]) const {
  const uint64_t first = window * kWindowPages;
  uint64_t free_left = FreeCovers(first, kWindowPages) ? kWindowPages : 0;
  for (unsigned i = 0; i < kWindowPages; ++i) {
    Struct page;
    cls[i] = DCAST_CLASS_EXCLUDED;
    if (!StructOf(first + i, &page)) continue;
    const int order = FreeOrder(page);
    if (order >= 0) free_left = std::max(free_left, uint64_t{1} << order);
    if (free_left != 0) {
      --free_left;
      cls[i] = (dump_level & kFree) != 0 ? DCAST_CLASS_EXCLUDED : kKept;
    } else if (Keeps(first + i, page, dump_level)) {
      cls[i] = kKept;
    }
  }
}

}  // namespace dumpcast
