// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/elf_view.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

// A run of windows without any page is cut out of the file from this size on, in windows: 1 MiB.
// Shorter ones cost less as zeros than another segment does.
constexpr uint64_t kMinExcludedRun = 16;

// What a stretch of RAM is to the file.
enum class Stretch { kData, kExcluded, kLost };

struct Piece {
  uint64_t start = 0;  // physical
  uint64_t end = 0;
  Stretch stretch = Stretch::kData;
  bool opens_range = false;  // the first of its RAM range
};

struct Segment {
  uint64_t paddr = 0;
  uint64_t file_bytes = 0;
  uint64_t memory_bytes = 0;
  uint64_t offset = 0;  // in the file
};

std::vector<Piece> CutRam(const MemoryView& memory) {
  std::vector<Piece> pieces;
  for (const MemoryRange& range : memory.meta().ram()) {
    bool opens = true;
    for (const WindowRun& run : memory.WindowRuns(range.start >> DCAST_WINDOW_SHIFT,
                                                  (range.end - 1) >> DCAST_WINDOW_SHIFT)) {
      Piece piece;
      piece.start = std::max(range.start, run.first << DCAST_WINDOW_SHIFT);
      piece.end = std::min(range.end, (run.first + run.count) << DCAST_WINDOW_SHIFT);
      piece.stretch = run.state == WindowState::kMissing  ? Stretch::kLost
                      : run.state == WindowState::kAbsent ? Stretch::kExcluded
                                                          : Stretch::kData;
      piece.opens_range = opens;
      if (!opens && pieces.back().stretch == piece.stretch) {
        pieces.back().end = piece.end;
      } else {
        pieces.push_back(piece);
      }
      opens = false;
    }
  }
  return pieces;
}

// Segments when gaps shorter than min_lost and min_excluded windows are filled with zeros.
std::vector<Segment> JoinPieces(const std::vector<Piece>& pieces, uint64_t min_lost,
                                uint64_t min_excluded) {
  std::vector<Segment> segments;
  bool open = false;  // the last segment can grow
  for (const Piece& piece : pieces) {
    const uint64_t bytes = piece.end - piece.start;
    if (piece.opens_range) open = false;
    if (piece.stretch == Stretch::kLost && bytes >= min_lost << DCAST_WINDOW_SHIFT) {
      open = false;
      continue;
    }
    const bool tail = piece.stretch == Stretch::kExcluded && bytes >= min_excluded
                                                                          << DCAST_WINDOW_SHIFT;
    // A segment whose memory goes on past its bytes in the file can have no more bytes.
    if (open && !tail && segments.back().file_bytes != segments.back().memory_bytes) open = false;
    if (!open) segments.push_back({piece.start, 0, 0, 0});
    open = true;
    segments.back().memory_bytes += bytes;
    if (!tail) segments.back().file_bytes = segments.back().memory_bytes;
  }
  return segments;
}

class ElfView final : public FileView {
 public:
  ElfView(std::shared_ptr<const MemoryView> memory, std::vector<Segment> segments)
      : memory_(std::move(memory)), segments_(std::move(segments)) {
    BuildHead();
  }

  uint64_t size() const override { return size_; }
  uint64_t layout_bytes() const override { return head_.size(); }

  absl::Status Read(uint64_t offset, size_t len, char* out) const override {
    if (offset > size_ || len > size_ - offset) {
      return absl::OutOfRangeError(
          absl::StrFormat("ELF view: bytes %d to %d of %d", offset, offset + len, size_));
    }
    while (len != 0) {
      uint64_t take = 0;
      if (offset < head_.size()) {
        take = std::min<uint64_t>(len, head_.size() - offset);
        std::memcpy(out, head_.data() + offset, take);
      } else {
        const auto after = std::upper_bound(
            segments_.begin(), segments_.end(), offset,
            [](uint64_t at, const Segment& segment) { return at < segment.offset; });
        // Segments without bytes in the file share their offset with the next one, and come first.
        const Segment& segment = *std::prev(after);
        const uint64_t skip = offset - segment.offset;
        take = std::min<uint64_t>(len, segment.file_bytes - skip);
        if (absl::Status status = memory_->ReadOrZero(segment.paddr + skip, take, out);
            !status.ok()) {
          return status;
        }
      }
      offset += take;
      out += take;
      len -= take;
    }
    return absl::OkStatus();
  }

 private:
  // The parts of the direct map's segments that are kernel image, at its own virtual addresses.
  // They share the bytes of the file with the direct map.
  std::vector<std::pair<Segment, uint64_t>> TextSegments() const {
    std::vector<std::pair<Segment, uint64_t>> found;
    const MetaFields& fields = memory_->meta().fields();
    const uint64_t text_end = fields.text_paddr + fields.text_bytes;
    for (const Segment& segment : segments_) {
      const uint64_t start = std::max(segment.paddr, fields.text_paddr);
      const uint64_t end = std::min(segment.paddr + segment.memory_bytes, text_end);
      if (start >= end) continue;
      const uint64_t skip = start - segment.paddr;
      Segment text{start, 0, end - start, segment.offset};
      if (skip < segment.file_bytes) {
        text.file_bytes = std::min(segment.file_bytes - skip, end - start);
        text.offset += skip;
      }
      found.emplace_back(text, fields.text_vaddr + (start - fields.text_paddr));
    }
    return found;
  }

  static Elf64_Phdr Load(const Segment& segment, uint64_t vaddr) {
    Elf64_Phdr phdr{};
    phdr.p_type = dcast_to_le32(PT_LOAD);
    phdr.p_flags = dcast_to_le32(PF_R | PF_W | PF_X);
    phdr.p_offset = dcast_to_le64(segment.offset);
    phdr.p_vaddr = dcast_to_le64(vaddr);
    phdr.p_paddr = dcast_to_le64(segment.paddr);
    phdr.p_filesz = dcast_to_le64(segment.file_bytes);
    phdr.p_memsz = dcast_to_le64(segment.memory_bytes);
    phdr.p_align =
        0;  // crash takes a file with a page-aligned first offset for a netdump otherwise
    return phdr;
  }

  void BuildHead() {
    const DumpMeta& meta = memory_->meta();
    const size_t headers = 1 + TextSegments().size() + segments_.size();
    const uint64_t notes_at = sizeof(Elf64_Ehdr) + headers * sizeof(Elf64_Phdr);
    const uint64_t page = meta.page_bytes();
    const uint64_t data_at = (notes_at + meta.notes().size() + page - 1) / page * page;
    size_ = data_at;
    for (Segment& segment : segments_) {
      segment.offset = size_;
      size_ += segment.file_bytes;
    }

    Elf64_Ehdr ehdr{};
    std::memcpy(ehdr.e_ident, ELFMAG, SELFMAG);
    ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    ehdr.e_ident[EI_VERSION] = EV_CURRENT;
    ehdr.e_type = dcast_to_le16(ET_CORE);
    ehdr.e_machine = dcast_to_le16(meta.fields().elf_machine);
    ehdr.e_version = dcast_to_le32(EV_CURRENT);
    ehdr.e_phoff = dcast_to_le64(sizeof(Elf64_Ehdr));
    ehdr.e_ehsize = dcast_to_le16(sizeof(Elf64_Ehdr));
    ehdr.e_phentsize = dcast_to_le16(sizeof(Elf64_Phdr));
    ehdr.e_phnum = dcast_to_le16(static_cast<uint16_t>(headers));

    Elf64_Phdr note{};
    note.p_type = dcast_to_le32(PT_NOTE);
    note.p_offset = dcast_to_le64(notes_at);
    note.p_filesz = dcast_to_le64(meta.notes().size());
    note.p_memsz = note.p_filesz;

    Append(ehdr);
    Append(note);
    for (const auto& [segment, vaddr] : TextSegments()) Append(Load(segment, vaddr));
    for (const Segment& segment : segments_) {
      Append(Load(segment, meta.fields().page_offset + segment.paddr));
    }
    head_ += meta.notes();
    head_.resize(data_at);
  }

  template <typename T>
  void Append(const T& value) {
    head_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  const std::shared_ptr<const MemoryView> memory_;
  std::vector<Segment> segments_;  // of the direct map, ascending in paddr and offset
  std::string head_;               // all before the first segment's bytes
  uint64_t size_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FileView>> MakeElfView(std::shared_ptr<const MemoryView> memory) {
  const std::vector<MemoryRange>& ram = memory->meta().ram();
  if (ram.empty()) {
    if (absl::IsDataLoss(memory->meta().memory_map_status()))
      return memory->meta().memory_map_status();
    return absl::FailedPreconditionError(
        "ELF view: the memory map (stream MEMMAP) has not arrived: wait for class 0, or read the "
        "log");
  }
  if (ram.size() > kMaxElfSegments) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "ELF view: %d ranges of RAM: an ELF core has at most %d segments here; take the "
        "kdump-compressed format",
        ram.size(), kMaxElfSegments));
  }
  const std::vector<Piece> pieces = CutRam(*memory);
  // At first every lost byte is a gap, also of a window that is only partly RAM.
  uint64_t min_lost = 0;
  uint64_t min_excluded = kMinExcludedRun;
  std::vector<Segment> segments = JoinPieces(pieces, min_lost, min_excluded);
  while (segments.size() > kMaxElfSegments) {
    min_lost = std::max<uint64_t>(1, min_lost * 2);
    min_excluded *= 2;
    segments = JoinPieces(pieces, min_lost, min_excluded);
  }
  return std::make_unique<ElfView>(std::move(memory), std::move(segments));
}

}  // namespace dumpcast
