// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/memory_source.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "kmod/core/dcast_sender.h"
#include "kmod/core/send/page_filter.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr unsigned kWindowPages = DCAST_WINDOW_BYTES / kPageBytes;
// x86-64 maps the kernel image at and above this address (Linux
// Documentation/arch/x86/x86_64/mm.rst), the direct map below it.
constexpr uint64_t kKernelText = 0xffffffff80000000;
constexpr uint64_t kMaxPhysical = uint64_t{1} << 52;
constexpr size_t kMaxNoteBytes = 64 << 20;

absl::Status Bad(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", what,
                   "; give an ELF64 vmcore (makedumpfile -E, /proc/vmcore), or "
                   "--format raw for plain memory"));
}

template <size_t N>
void CopyText(char (&dst)[N], absl::string_view text) {
  std::memset(dst, 0, N);
  text.copy(dst, N - 1);
}

// Union of ranges, in ascending order.
std::vector<dcast_range> Merge(std::vector<std::pair<uint64_t, uint64_t>> ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<dcast_range> merged;
  for (const auto& [start, end] : ranges) {
    if (!merged.empty() && start <= dcast_le64(merged.back().end)) {
      merged.back().end = dcast_to_le64(std::max<uint64_t>(end, dcast_le64(merged.back().end)));
    } else {
      merged.push_back({dcast_to_le64(start), dcast_to_le64(end)});
    }
  }
  return merged;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MemorySource>> MemorySource::Open(const std::string& path,
                                                                 Format format) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string message = absl::StrCat("cannot open ", path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  absl::Cleanup closer = [fd] { close(fd); };
  struct stat st;
  struct statfs fs;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
    return Bad(path, "not a regular file with anything in it");
  }
  const size_t size = static_cast<size_t>(st.st_size);
  if (fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC) {
    std::unique_ptr<MemorySource> source(new MemorySource);
    source->fd_ = fd;
    std::move(closer).Cancel();
    source->size_ = size;
    const absl::Status status = source->LoadElf(path);
    if (!status.ok()) return status;
    return source;
  }
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) {
    return absl::UnavailableError(absl::StrCat("cannot map ", path, ": ", std::strerror(errno)));
  }
  auto source = FromBytes(static_cast<const uint8_t*>(map), size, format, path);
  if (!source.ok()) {
    munmap(map, size);
    return source;
  }
  (*source)->mapped_ = true;
  return source;
}

absl::StatusOr<std::unique_ptr<MemorySource>> MemorySource::FromBytes(const uint8_t* data,
                                                                      size_t size, Format format,
                                                                      absl::string_view name) {
  std::unique_ptr<MemorySource> source(new MemorySource);
  source->data_ = data;
  source->size_ = size;
  const bool elf = size >= SELFMAG && std::memcmp(data, ELFMAG, SELFMAG) == 0;
  if (format == Format::kElf || (format == Format::kAuto && elf)) {
    const absl::Status status = source->LoadElf(name);
    if (!status.ok()) return status;
  } else if (size == 0) {
    return Bad(name, "empty");
  } else if (format == Format::kAuto && size >= 7 && std::memcmp(data, "KDUMP  ", 7) == 0) {
    return Bad(name, "a kdump-compressed file, which is not read");
  } else {
    source->LoadRaw();
  }
  return source;
}

MemorySource::MemorySource() = default;

MemorySource::~MemorySource() {
  if (mapped_) munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

bool MemorySource::Copy(uint64_t offset, void* dst, size_t len) const {
  if (offset > size_ || size_ - offset < len) return false;
  if (fd_ < 0) {
    if (len != 0) std::memcpy(dst, data_ + offset, len);
    return true;
  }
  auto* out = static_cast<char*>(dst);
  while (len != 0) {
    const ssize_t n = pread(fd_, out, len, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    out += n;
    offset += static_cast<uint64_t>(n);
    len -= static_cast<size_t>(n);
  }
  return true;
}

void MemorySource::LoadRaw() {
  segments_.push_back({0, size_, 0});
  ranges_.push_back({0, dcast_to_le64((size_ + kPageBytes - 1) & ~(kPageBytes - 1))});
  meta_.elf_machine = dcast_to_le16(EM_X86_64);
}

absl::Status MemorySource::LoadElf(absl::string_view name) {
  is_elf_ = true;
  Elf64_Ehdr ehdr;
  if (!Copy(0, &ehdr, sizeof(ehdr))) return Bad(name, "shorter than an ELF header");
  if (std::memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0) return Bad(name, "no ELF magic");
  if (ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != ELFDATA2LSB ||
      ehdr.e_type != ET_CORE) {
    return Bad(name, "not a little-endian ELF64 core file");
  }
  uint64_t headers = ehdr.e_phnum;
  if (headers == PN_XNUM) {  // the count is in section header 0, see elf(5)
    Elf64_Shdr shdr;
    if (!Copy(ehdr.e_shoff, &shdr, sizeof(shdr))) {
      return Bad(name, "section header 0, which counts the program headers, is cut off");
    }
    headers = shdr.sh_info;
  }
  if (ehdr.e_phentsize != sizeof(Elf64_Phdr) || ehdr.e_phoff > size_ ||
      (size_ - ehdr.e_phoff) / sizeof(Elf64_Phdr) < headers) {
    return Bad(name, "its program headers are cut off");
  }
  meta_.elf_machine = dcast_to_le16(ehdr.e_machine);

  std::vector<std::pair<uint64_t, uint64_t>> ram;
  std::string notes;
  for (uint64_t i = 0; i < headers; ++i) {
    Elf64_Phdr ph;
    if (!Copy(ehdr.e_phoff + i * sizeof(ph), &ph, sizeof(ph))) {
      return Bad(name, "its program headers cannot be read");
    }
    if (ph.p_type != PT_NOTE && ph.p_type != PT_LOAD) continue;
    if (ph.p_offset > size_ || size_ - ph.p_offset < ph.p_filesz) {
      return Bad(name, absl::StrCat("segment ", i, " wants ", ph.p_filesz, " bytes at offset ",
                                    ph.p_offset, " of a file of ", size_,
                                    ": it is incomplete, fetch it again"));
    }
    if (ph.p_type == PT_NOTE) {
      if (notes.size() + ph.p_filesz > kMaxNoteBytes) return Bad(name, "notes of over 64 MiB");
      const size_t at = notes.size();
      notes.resize(at + ph.p_filesz);
      if (!Copy(ph.p_offset, notes.data() + at, ph.p_filesz)) {
        return Bad(name, "its notes cannot be read");
      }
      continue;
    }
    const uint64_t bytes = std::max(ph.p_filesz, ph.p_memsz);
    if (bytes == 0 || ph.p_paddr >= kMaxPhysical || bytes > kMaxPhysical - ph.p_paddr) {
      continue;  // virtual memory only, as vmalloc in /proc/kcore
    }
    ram.emplace_back(ph.p_paddr, ph.p_paddr + bytes);
    if (ph.p_vaddr >= kKernelText) {
      text_.push_back({ph.p_paddr, ph.p_paddr + bytes, ph.p_offset});
      if (meta_.text_bytes == 0) {
        meta_.text_vaddr = dcast_to_le64(ph.p_vaddr);
        meta_.text_paddr = dcast_to_le64(ph.p_paddr);
        meta_.text_bytes = dcast_to_le64(bytes);
      }
    } else if (meta_.page_offset == 0 && ph.p_vaddr >= ph.p_paddr) {
      meta_.page_offset = dcast_to_le64(ph.p_vaddr - ph.p_paddr);
    }
    if (ph.p_filesz != 0) {
      segments_.push_back({ph.p_paddr, ph.p_paddr + ph.p_filesz, ph.p_offset});
    }
  }
  if (segments_.empty()) return Bad(name, "no PT_LOAD with physical memory in it");
  // Kernel text is in the direct map as well: what a segment repeats is cut off.
  std::sort(segments_.begin(), segments_.end(),
            [](const Segment& a, const Segment& b) { return a.start < b.start; });
  std::vector<Segment> disjoint;
  for (Segment s : segments_) {
    if (!disjoint.empty() && s.start < disjoint.back().end) {
      if (s.end <= disjoint.back().end) continue;
      s.offset += disjoint.back().end - s.start;
      s.start = disjoint.back().end;
    }
    disjoint.push_back(s);
  }
  segments_ = std::move(disjoint);
  ranges_ = Merge(std::move(ram));
  streams_[DCAST_STREAM_NOTES] = notes;
  ReadNotes(notes);
  return absl::OkStatus();
}

void MemorySource::ReadNotes(absl::string_view notes) {
  uint32_t cpus = 0;
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data(), sizeof(note));
    notes.remove_prefix(sizeof(note));
    const uint64_t name_bytes = (uint64_t{note.n_namesz} + 3) & ~uint64_t{3};
    const uint64_t desc_bytes = (uint64_t{note.n_descsz} + 3) & ~uint64_t{3};
    if (name_bytes + note.n_descsz > notes.size()) break;
    const absl::string_view name = notes.substr(0, note.n_namesz);
    const absl::string_view desc = notes.substr(name_bytes, note.n_descsz);
    if (note.n_type == NT_PRSTATUS && name.substr(0, 4) == "CORE") ++cpus;
    if (note.n_type == 0 && name.substr(0, 10) == "VMCOREINFO") ReadVmcoreinfo(desc);
    notes.remove_prefix(std::min<uint64_t>(name_bytes + desc_bytes, notes.size()));
  }
  meta_.cpus = dcast_to_le32(cpus);
}

void MemorySource::ReadVmcoreinfo(absl::string_view text) {
  text = text.substr(0, text.find('\0'));
  streams_[DCAST_STREAM_VMCOREINFO] = std::string(text);
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    uint64_t seconds;
    if (field.first == "OSRELEASE") CopyText(meta_.release, field.second);
    if (field.first == "CRASHTIME" && absl::SimpleAtoi(field.second, &seconds)) {
      meta_.crash_unix_ns = dcast_to_le64(seconds * 1000000000u);
    }
  }
}

uint64_t MemorySource::memory_bytes() const {
  uint64_t bytes = 0;
  for (const dcast_range& r : ranges_) bytes += dcast_le64(r.end) - dcast_le64(r.start);
  return bytes;
}

std::vector<MemorySource::Segment>::const_iterator MemorySource::Find(uint64_t addr) const {
  return std::partition_point(segments_.begin(), segments_.end(),
                              [addr](const Segment& s) { return s.end <= addr; });
}

bool MemorySource::IsText(uint64_t page) const {
  for (const Segment& s : text_) {
    if (page < s.end && page + kPageBytes > s.start) return true;
  }
  return false;
}

void MemorySource::SetFilter(std::unique_ptr<PageFilter> filter, unsigned dump_level) {
  filter_ = std::move(filter);
  filter_level_ = dump_level;
}

absl::Status MemorySource::TakeStreams(const dcast_meta& meta,
                                       std::array<std::string, DCAST_STREAMS> streams) {
  const std::string& map = streams[DCAST_STREAM_MEMMAP];
  std::vector<dcast_range> ranges(map.size() / sizeof(dcast_range));
  if (!ranges.empty()) std::memcpy(ranges.data(), map.data(), ranges.size() * sizeof(ranges[0]));
  uint64_t last = 0;
  for (const dcast_range& range : ranges) {
    const uint64_t start = dcast_le64(range.start), end = dcast_le64(range.end);
    if (start < last || end <= start || end > kMaxPhysical) {
      return absl::InvalidArgumentError(absl::StrCat("the memory map has a range of ", start,
                                                     " to ", end, " bytes behind ", last));
    }
    last = end;
  }
  if (ranges.empty()) return absl::InvalidArgumentError("the memory map is empty");
  ranges_ = std::move(ranges);
  streams_ = std::move(streams);
  meta_ = meta;
  return absl::OkStatus();
}

void MemorySource::WindowClasses(uint64_t window, uint8_t cls[DCAST_MAX_WINDOW_PAGES]) const {
  if (filter_) filter_->Classes(window, filter_level_, cls);
  auto it = Find(window << DCAST_WINDOW_SHIFT);
  for (unsigned i = 0; i < kWindowPages; ++i) {
    const uint64_t page = (window << DCAST_WINDOW_SHIFT) + i * kPageBytes;
    while (it != segments_.end() && it->end <= page) ++it;
    const bool in_file = it != segments_.end() && it->start < page + kPageBytes;
    if (filter_) {
      if (!in_file) cls[i] = DCAST_CLASS_EXCLUDED;
    } else {
      cls[i] = !in_file ? DCAST_CLASS_EXCLUDED : IsText(page) ? 1 : 2;
    }
    if (left_out_ == page / kPageBytes) cls[i] = DCAST_CLASS_EXCLUDED;
  }
}

bool MemorySource::ReadPage(uint64_t pfn, void* dst) const {
  const uint64_t page = pfn * kPageBytes;
  auto* out = static_cast<uint8_t*>(dst);
  bool any = false;
  for (auto it = Find(page); it != segments_.end() && it->start < page + kPageBytes; ++it) {
    const uint64_t from = std::max(page, it->start);
    const uint64_t to = std::min(page + kPageBytes, it->end);
    if (!any && to - from < kPageBytes) std::memset(out, 0, kPageBytes);
    if (!Copy(it->offset + (from - it->start), out + (from - page), to - from)) return false;
    any = true;
  }
  return any;
}

bool MemorySource::ReadPhysical(uint64_t address, void* dst, size_t len) const {
  auto* out = static_cast<uint8_t*>(dst);
  for (auto it = Find(address); len != 0; ++it) {
    if (it == segments_.end() || it->start > address) return false;
    const size_t n = static_cast<size_t>(std::min<uint64_t>(len, it->end - address));
    if (!Copy(it->offset + (address - it->start), out, n)) return false;
    out += n;
    address += n;
    len -= n;
  }
  return true;
}

}  // namespace dumpcast
