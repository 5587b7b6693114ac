// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/memory_source.h"

#include <elf.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "kmod/core/dcast_sender.h"
#include "kmod/core/send/file_bytes.h"
#include "kmod/core/send/kdump_file.h"
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
constexpr uint64_t kLargePageBytes = 2 << 20;
constexpr uint64_t kMostText = 64 << 20;
constexpr size_t kMaxNoteBytes = 64 << 20;

absl::Status Bad(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", what,
                   "; give an ELF64 or kdump-compressed vmcore (/proc/vmcore, makedumpfile, virsh "
                   "dump), or --format raw for plain memory"));
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
  auto file = FileBytes::Open(path);
  if (!file.ok()) return file.status();
  std::unique_ptr<MemorySource> source(new MemorySource);
  source->file_ = *std::move(file);
  const absl::Status status = source->Load(format, path);
  if (!status.ok()) return status;
  return source;
}

absl::StatusOr<std::unique_ptr<MemorySource>> MemorySource::FromBytes(const uint8_t* data,
                                                                      size_t size, Format format,
                                                                      absl::string_view name) {
  auto file = FileBytes::FromMemory(data, size, name);
  if (!file.ok()) return file.status();
  std::unique_ptr<MemorySource> source(new MemorySource);
  source->file_ = *std::move(file);
  const absl::Status status = source->Load(format, name);
  if (!status.ok()) return status;
  return source;
}

absl::Status MemorySource::Load(Format format, absl::string_view name) {
  char magic[SELFMAG] = {};
  const bool elf = file_->Copy(0, magic, sizeof(magic)) && std::memcmp(magic, ELFMAG, SELFMAG) == 0;
  if (format == Format::kElf || (format == Format::kAuto && elf)) return LoadElf(name);
  if (format == Format::kKdump || (format == Format::kAuto && KdumpFile::Is(*file_)))
    return LoadKdump(name);
  if (file_->size() == 0) return Bad(name, "empty");
  LoadRaw();
  return absl::OkStatus();
}

MemorySource::MemorySource() = default;
MemorySource::~MemorySource() = default;

bool MemorySource::Copy(uint64_t offset, void* dst, size_t len) const {
  return file_->Copy(offset, dst, len);
}

void MemorySource::LoadRaw() {
  segments_.push_back({0, file_->size(), 0});
  ranges_.push_back({0, dcast_to_le64((file_->size() + kPageBytes - 1) & ~(kPageBytes - 1))});
  meta_.elf_machine = dcast_to_le16(EM_X86_64);
}

absl::Status MemorySource::LoadKdump(absl::string_view name) {
  if (!KdumpFile::Is(*file_)) return Bad(name, "no kdump-compressed file");
  auto kdump = KdumpFile::Open(file_.get(), name);
  if (!kdump.ok()) return kdump.status();
  kdump_ = *std::move(kdump);
  for (const auto& [first, end] : kdump_->ram())
    ranges_.push_back({dcast_to_le64(first * kPageBytes), dcast_to_le64(end * kPageBytes)});
  if (ranges_.empty()) return Bad(name, "of no page at all");
  meta_.elf_machine = dcast_to_le16(EM_X86_64);
  CopyText(meta_.hostname, kdump_->nodename());
  CopyText(meta_.release, kdump_->release());
  meta_.crash_unix_ns = dcast_to_le64(kdump_->crash_s() * 1000000000u);
  streams_[DCAST_STREAM_NOTES] = kdump_->notes();
  ReadNotes(kdump_->notes());
  // After the notes, which may have it as well.
  if (!kdump_->vmcoreinfo().empty()) ReadVmcoreinfo(kdump_->vmcoreinfo());
  FindText();
  return absl::OkStatus();
}

// Where the kernel's image is, of a file that has only phys_base: from the 2 MiB page of its first
// symbol on, as far as there is RAM.
void MemorySource::FindText() {
  const absl::string_view info = streams_[DCAST_STREAM_VMCOREINFO];
  constexpr absl::string_view kStext = "SYMBOL(_stext)=";
  const size_t at = info.find(kStext);
  uint64_t vaddr;
  if (at == absl::string_view::npos ||
      !absl::SimpleHexAtoi(info.substr(at + kStext.size(), 16), &vaddr) || vaddr < kKernelText) {
    return;
  }
  vaddr &= ~uint64_t{kLargePageBytes - 1};
  const uint64_t paddr = vaddr - kKernelText + kdump_->phys_base();
  for (const dcast_range& range : ranges_) {
    const uint64_t start = dcast_le64(range.start), end = dcast_le64(range.end);
    if (paddr < start || paddr >= end) continue;
    const uint64_t bytes = std::min(end - paddr, kMostText);
    meta_.text_vaddr = dcast_to_le64(vaddr);
    meta_.text_paddr = dcast_to_le64(paddr);
    meta_.text_bytes = dcast_to_le64(bytes);
    text_.push_back({paddr, paddr + bytes, 0});
    return;
  }
}

std::array<uint8_t, 16> MemorySource::Fingerprint() const {
  constexpr uint64_t kBeginning = 1 << 20, kSamples = 1024;
  const uint64_t size = file_->size();
  std::array<uint8_t, 16> hash;
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, hash.size());
  crypto_generichash_update(&state, reinterpret_cast<const uint8_t*>(&size), sizeof(size));
  std::vector<uint8_t> bytes(std::min(size, kBeginning));
  const auto add = [&](uint64_t offset, size_t len) {
    if (file_->Copy(offset, bytes.data(), len))
      crypto_generichash_update(&state, bytes.data(), len);
  };
  add(0, bytes.size());
  for (uint64_t i = 0; i < kSamples && size > kBeginning; ++i)
    add(size / kSamples * i, std::min<uint64_t>(kPageBytes, size - size / kSamples * i));
  crypto_generichash_final(&state, hash.data(), hash.size());
  return hash;
}

unsigned MemorySource::dump_level() const {
  return kdump_ ? kdump_->dump_level() : 0;
}

bool MemorySource::incomplete() const {
  return kdump_ && kdump_->incomplete();
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
  if (ehdr.e_phentsize != sizeof(Elf64_Phdr) || ehdr.e_phoff > file_->size() ||
      (file_->size() - ehdr.e_phoff) / sizeof(Elf64_Phdr) < headers) {
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
    if (ph.p_offset > file_->size() || file_->size() - ph.p_offset < ph.p_filesz) {
      return Bad(name, absl::StrCat("segment ", i, " wants ", ph.p_filesz, " bytes at offset ",
                                    ph.p_offset, " of a file of ", file_->size(),
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
    const bool in_file = kdump_ ? kdump_->Has(page / kPageBytes)
                                : it != segments_.end() && it->start < page + kPageBytes;
    if (filter_) {
      if (!in_file) cls[i] = DCAST_CLASS_EXCLUDED;
    } else {
      cls[i] = !in_file ? DCAST_CLASS_EXCLUDED : IsText(page) ? 1 : 2;
    }
    if (left_out_ == page / kPageBytes) cls[i] = DCAST_CLASS_EXCLUDED;
  }
}

bool MemorySource::ReadPage(uint64_t pfn, void* dst) const {
  if (kdump_) return kdump_->ReadPage(pfn, dst);
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
  uint8_t page[kPageBytes];
  for (; kdump_ && len != 0;) {
    const size_t n = std::min<size_t>(len, kPageBytes - address % kPageBytes);
    if (!kdump_->ReadPage(address / kPageBytes, page)) return false;
    std::memcpy(out, page + address % kPageBytes, n);
    out += n;
    address += n;
    len -= n;
  }
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
