// SPDX-License-Identifier: Apache-2.0
// Format: diskdump_mod.h and diskdump.h of makedumpfile, header version 6, and crash's diskdump.h.
#include "store/vmcore/kdump_view.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

// The structures as a 64-bit little-endian machine writes them.
struct DiskDumpHeader {
  char signature[8];    // version 0; "KDUMP   "
  uint32_t version;     // version 0
  char utsname[6][65];  // version 0; sysname nodename release version machine domainname
  char pad[6];
  uint64_t time_s;          // version 0; struct timeval
  uint64_t time_us;         // version 0
  uint32_t status;          // version 0; kStatus...
  uint32_t block_size;      // version 0; bytes: the page size
  uint32_t sub_hdr_blocks;  // version 0
  uint32_t bitmap_blocks;   // version 0; both bitmaps
  uint32_t max_mapnr;       // version 0; cut to 32 bits, see max_mapnr_64
  uint32_t total_ram_blocks;
  uint32_t device_blocks;
  uint32_t written_blocks;
  uint32_t current_cpu;  // version 0; which processor panicked
  uint32_t nr_cpus;      // version 0
};
static_assert(sizeof(DiskDumpHeader) == 464 && offsetof(DiskDumpHeader, time_s) == 408);

struct KdumpSubHeader {
  uint64_t phys_base;          // version 0
  uint32_t dump_level;         // version 1
  uint32_t split;              // version 2
  uint64_t start_pfn;          // version 2; split dumps only
  uint64_t end_pfn;            // version 2
  uint64_t offset_vmcoreinfo;  // version 3; bytes from the file's start
  uint64_t size_vmcoreinfo;    // version 3
  uint64_t offset_note;        // version 4
  uint64_t size_note;          // version 4
  uint64_t offset_eraseinfo;   // version 5
  uint64_t size_eraseinfo;     // version 5
  uint64_t start_pfn_64;       // version 6; split dumps only
  uint64_t end_pfn_64;         // version 6
  uint64_t max_mapnr_64;       // version 6; one past the highest page number
};
static_assert(sizeof(KdumpSubHeader) == 104);

struct PageDescriptor {
  uint64_t offset;  // bytes from the file's start
  uint32_t size;
  uint32_t flags;       // compression of this page: 0 is none
  uint64_t page_flags;  // never set by makedumpfile
};
static_assert(sizeof(PageDescriptor) == 24);

constexpr uint32_t kHeaderVersion = 6;
constexpr uint32_t kStatusIncomplete = 0x8;  // DUMP_DH_COMPRESSED_INCOMPLETE of diskdump_mod.h

constexpr size_t kCheckpoint = 64;  // windows between two counts

uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

void CopyName(char (&field)[65], std::string_view text) {
  std::memcpy(field, text.data(), std::min(text.size(), sizeof(field) - 1));
}

// Position of the n-th set bit of `mask` (n from 0). REQUIRES: it has more than n.
unsigned NthBit(uint16_t mask, uint64_t n) {
  for (; n != 0; --n) mask &= static_cast<uint16_t>(mask - 1);
  return static_cast<unsigned>(std::countr_zero(mask));
}

// The pages that have a descriptor, by window, ascending.
class PageIndex {
 public:
  struct Entry {
    uint32_t window_low;
    uint16_t window_high;
    uint16_t described;  // dumped or zero
    uint16_t zero;
    uint64_t window() const { return uint64_t{window_high} << 32 | window_low; }
    uint16_t stored() const { return static_cast<uint16_t>(described & ~zero); }
  };
  // Pages before an entry.
  struct Count {
    uint64_t described = 0;
    uint64_t stored = 0;
  };

  void Add(uint64_t window, uint16_t described, uint16_t zero) {
    if (entries_.size() % kCheckpoint == 0) counts_.push_back(total_);
    entries_.push_back(
        {static_cast<uint32_t>(window), static_cast<uint16_t>(window >> 32), described, zero});
    Advance(entries_.back(), &total_);
  }

  const Count& total() const { return total_; }
  const std::vector<Entry>& entries() const { return entries_; }

  // Index of the first entry at or after a window.
  size_t LowerBound(uint64_t window) const {
    return static_cast<size_t>(
        std::partition_point(entries_.begin(), entries_.end(),
                             [window](const Entry& entry) { return entry.window() < window; }) -
        entries_.begin());
  }

  // The entry that holds the n-th page by `what`, and the counts before it.
  // REQUIRES: n < total().*what.
  std::pair<size_t, Count> Find(uint64_t n, uint64_t Count::*what) const {
    const auto after = std::partition_point(
        counts_.begin(), counts_.end(), [n, what](const Count& count) { return count.*what <= n; });
    size_t at = static_cast<size_t>(after - counts_.begin() - 1) * kCheckpoint;
    Count before = *std::prev(after);
    for (;; ++at) {
      Count next = before;
      Advance(entries_[at], &next);
      if (next.*what > n) return {at, before};
      before = next;
    }
  }

  static void Advance(const Entry& entry, Count* count) {
    count->described += static_cast<uint64_t>(std::popcount(entry.described));
    count->stored += static_cast<uint64_t>(std::popcount(entry.stored()));
  }

 private:
  std::vector<Entry> entries_;
  std::vector<Count> counts_;  // before entries 0, 64, 128, ...
  Count total_;
};

class KdumpView final : public FileView {
 public:
  KdumpView(std::shared_ptr<const MemoryView> memory, PageIndex index, bool incomplete)
      : memory_(std::move(memory)), index_(std::move(index)), page_(memory_->meta().page_bytes()) {
    BuildHead(incomplete);
  }

  uint64_t size() const override { return size_; }
  uint64_t layout_bytes() const override { return zero_page_at_; }

  absl::Status Read(uint64_t offset, size_t len, char* out) const override {
    if (offset > size_ || len > size_ - offset) {
      return absl::OutOfRangeError(absl::StrFormat("kdump-compressed view: bytes %d to %d of %d",
                                                   offset, offset + len, size_));
    }
    while (len != 0) {
      const uint64_t end = offset < bitmap1_at_       ? bitmap1_at_
                           : offset < bitmap2_at_     ? bitmap2_at_
                           : offset < descriptors_at_ ? descriptors_at_
                           : offset < zero_page_at_   ? zero_page_at_
                                                      : size_;
      const size_t take = static_cast<size_t>(std::min<uint64_t>(len, end - offset));
      if (offset < bitmap1_at_) {
        std::memcpy(out, head_.data() + offset, take);
      } else if (offset < bitmap2_at_) {
        ReadRamBitmap(offset - bitmap1_at_, take, out);
      } else if (offset < descriptors_at_) {
        ReadDumpedBitmap(offset - bitmap2_at_, take, out);
      } else if (offset < zero_page_at_) {
        ReadDescriptors(offset - descriptors_at_, take, out);
      } else if (absl::Status status = ReadPages(offset - zero_page_at_, take, out); !status.ok()) {
        return status;
      }
      offset += take;
      out += take;
      len -= take;
    }
    return absl::OkStatus();
  }

 private:
  void BuildHead(bool incomplete) {
    const DumpMeta& meta = memory_->meta();
    const MetaFields& fields = meta.fields();
    const uint64_t max_mapnr = meta.ram().back().end / page_;
    const uint64_t bitmap_bytes = RoundUp((max_mapnr + 7) / 8, page_);
    const uint64_t note_at = page_ + sizeof(KdumpSubHeader);
    const uint64_t sub_bytes = RoundUp(sizeof(KdumpSubHeader) + meta.notes().size(), page_);
    bitmap1_at_ = page_ + sub_bytes;
    bitmap2_at_ = bitmap1_at_ + bitmap_bytes;
    descriptors_at_ = bitmap2_at_ + bitmap_bytes;
    zero_page_at_ =
        RoundUp(descriptors_at_ + index_.total().described * sizeof(PageDescriptor), page_);
    size_ = zero_page_at_ + (1 + index_.total().stored) * page_;

    DiskDumpHeader header{};
    std::memcpy(header.signature, "KDUMP   ", sizeof(header.signature));
    header.version = dcast_to_le32(kHeaderVersion);
    CopyName(header.utsname[0], "Linux");
    CopyName(header.utsname[1], fields.hostname);
    CopyName(header.utsname[2], fields.release);
    CopyName(header.utsname[3], fields.version);
    CopyName(header.utsname[4], fields.machine);
    CopyName(header.utsname[5], "(none)");
    header.time_s = dcast_to_le64(fields.crash_unix_ns / 1'000'000'000);
    header.time_us = dcast_to_le64(fields.crash_unix_ns / 1000 % 1'000'000);
    header.status = dcast_to_le32(incomplete ? kStatusIncomplete : 0);
    header.block_size = dcast_to_le32(static_cast<uint32_t>(page_));
    header.sub_hdr_blocks = dcast_to_le32(static_cast<uint32_t>(sub_bytes / page_));
    header.bitmap_blocks = dcast_to_le32(static_cast<uint32_t>(2 * bitmap_bytes / page_));
    header.max_mapnr =
        dcast_to_le32(static_cast<uint32_t>(std::min<uint64_t>(max_mapnr, UINT32_MAX)));
    header.current_cpu = dcast_to_le32(fields.crash_cpu);
    header.nr_cpus = dcast_to_le32(fields.cpus);

    KdumpSubHeader sub{};
    sub.phys_base = dcast_to_le64(meta.vmcoreinfo().Number("phys_base").value_or(0));
    sub.dump_level = dcast_to_le32(fields.dump_level);
    sub.max_mapnr_64 = dcast_to_le64(max_mapnr);
    if (const auto [at, bytes] = meta.vmcoreinfo_in_notes(); bytes != 0) {
      sub.offset_vmcoreinfo = dcast_to_le64(note_at + at);
      sub.size_vmcoreinfo = dcast_to_le64(bytes);
    }
    if (!meta.notes().empty()) {
      sub.offset_note = dcast_to_le64(note_at);
      sub.size_note = dcast_to_le64(meta.notes().size());
    }

    head_.assign(bitmap1_at_, '\0');
    std::memcpy(head_.data(), &header, sizeof(header));
    std::memcpy(head_.data() + page_, &sub, sizeof(sub));
    std::memcpy(head_.data() + note_at, meta.notes().data(), meta.notes().size());
  }

  // Bitmap 1: the page is RAM.
  void ReadRamBitmap(uint64_t byte, size_t len, char* out) const {
    std::memset(out, 0, len);
    const uint64_t first = byte * 8;
    const uint64_t last = (byte + len) * 8;
    const std::vector<MemoryRange>& ram = memory_->meta().ram();
    auto range = std::partition_point(ram.begin(), ram.end(),
                                      [&](const MemoryRange& r) { return r.end / page_ <= first; });
    for (; range != ram.end() && range->start / page_ < last; ++range) {
      uint64_t pfn = std::max(first, range->start / page_);
      const uint64_t end = std::min(last, range->end / page_);
      for (; pfn < end && pfn % 8 != 0; ++pfn) out[(pfn - first) / 8] |= char(1 << pfn % 8);
      const uint64_t whole = (end - pfn) / 8;
      std::memset(out + (pfn - first) / 8, 0xff, whole);
      for (pfn += whole * 8; pfn < end; ++pfn) out[(pfn - first) / 8] |= char(1 << pfn % 8);
    }
  }

  // Bitmap 2: the page has a descriptor.
  void ReadDumpedBitmap(uint64_t byte, size_t len, char* out) const {
    std::memset(out, 0, len);
    const unsigned pages = memory_->meta().pages_per_window();
    const uint64_t first = byte * 8;
    const uint64_t last = (byte + len) * 8;
    for (size_t at = index_.LowerBound(first / pages); at < index_.entries().size(); ++at) {
      const PageIndex::Entry& entry = index_.entries()[at];
      const uint64_t base = entry.window() * pages;
      if (base >= last) break;
      for (unsigned page = 0; page < pages; ++page) {
        const uint64_t pfn = base + page;
        if (pfn < first || pfn >= last || (entry.described >> page & 1) == 0) continue;
        out[(pfn - first) / 8] |= char(1 << pfn % 8);
      }
    }
  }

  void ReadDescriptors(uint64_t byte, size_t len, char* out) const {
    std::memset(out, 0, len);
    uint64_t n = byte / sizeof(PageDescriptor);
    if (n >= index_.total().described) return;  // the rest of the table's last block
    auto [at, count] = index_.Find(n, &PageIndex::Count::described);
    const uint64_t end = byte + len;
    for (; at < index_.entries().size(); ++at) {
      const PageIndex::Entry& entry = index_.entries()[at];
      uint64_t stored = count.stored;
      uint64_t index = count.described;
      for (uint16_t left = entry.described; left != 0;
           left &= static_cast<uint16_t>(left - 1), ++index) {
        const uint16_t bit = left & static_cast<uint16_t>(-left);
        const bool zero = (entry.zero & bit) != 0;
        PageDescriptor descriptor{};
        descriptor.offset = dcast_to_le64(zero_page_at_ + (zero ? 0 : (1 + stored++) * page_));
        descriptor.size = dcast_to_le32(static_cast<uint32_t>(page_));
        const uint64_t start = index * sizeof(descriptor);
        if (start >= end) return;
        const uint64_t from = std::max(start, byte);
        const uint64_t to = std::min(start + sizeof(descriptor), end);
        if (from < to) {
          std::memcpy(out + (from - byte),
                      reinterpret_cast<const char*>(&descriptor) + (from - start), to - from);
        }
      }
      PageIndex::Advance(entry, &count);
    }
  }

  // Page 0 is the one that all zero pages share, then the stored ones.
  absl::Status ReadPages(uint64_t byte, size_t len, char* out) const {
    const unsigned pages = memory_->meta().pages_per_window();
    while (len != 0) {
      const uint64_t skip = byte % page_;
      const size_t take = static_cast<size_t>(std::min<uint64_t>(len, page_ - skip));
      if (byte < page_) {
        std::memset(out, 0, take);
      } else {
        const uint64_t n = byte / page_ - 1;
        const auto [at, before] = index_.Find(n, &PageIndex::Count::stored);
        const PageIndex::Entry& entry = index_.entries()[at];
        const uint64_t pfn = entry.window() * pages + NthBit(entry.stored(), n - before.stored);
        if (absl::Status status = memory_->ReadOrZero(pfn * page_ + skip, take, out);
            !status.ok()) {
          return status;
        }
      }
      byte += take;
      out += take;
      len -= take;
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<const MemoryView> memory_;
  const PageIndex index_;
  const uint64_t page_;
  std::string head_;  // header, sub-header and notes
  uint64_t bitmap1_at_ = 0;
  uint64_t bitmap2_at_ = 0;
  uint64_t descriptors_at_ = 0;
  uint64_t zero_page_at_ = 0;
  uint64_t size_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FileView>> MakeKdumpView(std::shared_ptr<const MemoryView> memory) {
  if (memory->meta().ram().empty()) {
    if (absl::IsDataLoss(memory->meta().memory_map_status()))
      return memory->meta().memory_map_status();
    return absl::FailedPreconditionError(
        "kdump-compressed view: the memory map (stream MEMMAP) has not arrived: wait for class 0, "
        "or "
        "read the log");
  }
  PageIndex index;
  bool incomplete = false;
  uint64_t next = 0;  // ranges of RAM may share a window
  for (const MemoryRange& range : memory->meta().ram()) {
    const uint64_t first = std::max(next, range.start >> DCAST_WINDOW_SHIFT);
    const uint64_t last = (range.end - 1) >> DCAST_WINDOW_SHIFT;
    if (first > last) continue;
    next = last + 1;
    for (const WindowRun& run : memory->WindowRuns(first, last)) {
      if (run.state == WindowState::kMissing) incomplete = true;
      if (run.state == WindowState::kMissing || run.state == WindowState::kAbsent) continue;
      for (uint64_t window = run.first; window < run.first + run.count; ++window) {
        absl::StatusOr<WindowPages> pages = memory->ReadWindowPages(window);
        if (!pages.ok()) return pages.status();
        uint16_t described = 0;
        uint16_t zero = 0;
        for (unsigned page = 0; page < pages->size(); ++page) {
          const PageState state = (*pages)[page];
          const uint16_t bit = static_cast<uint16_t>(1u << page);
          if (state == PageState::kZero) zero |= bit;
          if (state == PageState::kZero || state == PageState::kDumped) described |= bit;
          if (state == PageState::kMissing) incomplete = true;
        }
        if (described != 0) index.Add(window, described, zero);
      }
    }
  }
  return std::make_unique<KdumpView>(std::move(memory), std::move(index), incomplete);
}

}  // namespace dumpcast
