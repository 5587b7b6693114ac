// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/dump_meta.h"

#include <elf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

// x86-64 and arm64 have physical addresses of 52 bits.
constexpr uint64_t kMaxWindows = uint64_t{1} << (52 - DCAST_WINDOW_SHIFT);
constexpr uint64_t kMaxMemoryMapBytes = 1 << 20;
constexpr uint64_t kMaxVmcoreinfoBytes = 1 << 20;
constexpr uint64_t kMaxNotesBytes = 64 << 20;  // 8192 processors have about 3 MiB

absl::Status Malformed(std::string_view stream, std::string_view what) {
  return absl::DataLossError(absl::StrCat("stream ", std::string(stream), ": ", std::string(what)));
}

template <size_t kBytes>
std::string Text(const char (&field)[kBytes]) {
  return std::string(field, strnlen(field, kBytes));
}

const char* StreamName(dcast_stream stream) {
  switch (stream) {
    case DCAST_STREAM_META:
      return "META";
    case DCAST_STREAM_VMCOREINFO:
      return "VMCOREINFO";
    case DCAST_STREAM_NOTES:
      return "NOTES";
    case DCAST_STREAM_MEMMAP:
      return "MEMMAP";
    case DCAST_STREAM_LOG:
      return "LOG";
    case DCAST_STREAM_PRESENCE:
      return "PRESENCE";
    case DCAST_STREAM_WHOLE_META:
      return "WHOLE_META";
    case DCAST_STREAM_KEYS:
      return "KEYS";
  }
  return "unknown";
}

constexpr std::string_view kVmcoreinfoName("VMCOREINFO\0", 11);  // with its NUL

uint64_t Align4(uint64_t bytes) {
  return (bytes + 3) & ~uint64_t{3};
}

// The whole notes of `notes`, without the zero words that the kernel leaves after each processor's.
// *dropped is what follows the last whole one; *vmcoreinfo is where in the result the text of
// the VMCOREINFO note lies, {offset, bytes}, when there is one.
std::string WholeNotes(std::string_view notes, std::pair<size_t, size_t>* vmcoreinfo,
                       size_t* dropped) {
  std::string whole;
  size_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data() + at, sizeof(note));
    if (note.n_namesz == 0) {  // no kernel writes nameless notes: a zero word between two
      at += 4;
      continue;
    }
    const uint64_t name_bytes = dcast_le32(note.n_namesz);
    const uint64_t desc_bytes = dcast_le32(note.n_descsz);
    const uint64_t desc = sizeof(note) + Align4(name_bytes);
    const uint64_t end = desc + Align4(desc_bytes);
    if (end > notes.size() - at) break;
    if (notes.substr(at + sizeof(note), name_bytes) == kVmcoreinfoName) {
      *vmcoreinfo = {whole.size() + desc, desc_bytes};
    }
    whole += notes.substr(at, end);
    at += end;
  }
  const std::string_view rest = notes.substr(at);
  *dropped = rest.find_first_not_of('\0') == std::string_view::npos ? 0 : rest.size();
  return whole;
}

std::string VmcoreinfoNote(std::string_view text) {
  Elf64_Nhdr header{};
  header.n_namesz = dcast_to_le32(static_cast<uint32_t>(kVmcoreinfoName.size()));
  header.n_descsz = dcast_to_le32(static_cast<uint32_t>(text.size()));
  std::string note(reinterpret_cast<const char*>(&header), sizeof(header));
  note.append(kVmcoreinfoName);
  note.resize(Align4(note.size()));
  note.append(text);
  note.resize(Align4(note.size()));
  return note;
}

}  // namespace

absl::StatusOr<MetaFields> ParseMeta(std::string_view bytes) {
  dcast_meta raw{};
  if (bytes.size() < DCAST_META_LEAST_BYTES) {
    return Malformed("META", absl::StrFormat("%d bytes: wanted at least %d", bytes.size(),
                                             DCAST_META_LEAST_BYTES));
  }
  std::memcpy(&raw, bytes.data(), std::min(sizeof(raw), bytes.size()));
  if (const uint32_t size = dcast_le32(raw.size);
      size < DCAST_META_LEAST_BYTES || size > bytes.size()) {
    return Malformed("META", absl::StrFormat("size %d: wanted %d to %d", size,
                                             DCAST_META_LEAST_BYTES, bytes.size()));
  }
  if (raw.page_shift < 12 || raw.page_shift > DCAST_WINDOW_SHIFT) {
    return Malformed("META", absl::StrFormat("page_shift %d: wanted 12 to %d", raw.page_shift,
                                             DCAST_WINDOW_SHIFT));
  }
  MetaFields fields;
  fields.elf_machine = dcast_le16(raw.elf_machine);
  fields.page_shift = raw.page_shift;
  fields.dump_level = raw.dump_level;
  fields.live = (dcast_le64(raw.flags) & DCAST_META_LIVE) != 0;
  fields.test = (dcast_le64(raw.flags) & DCAST_META_TEST) != 0;
  fields.encrypted = (dcast_le64(raw.flags) & DCAST_META_ENCRYPTED) != 0;
  fields.crash_unix_ns = dcast_le64(raw.crash_unix_ns);
  fields.uptime_ns = dcast_le64(raw.uptime_ns);
  std::memcpy(fields.boot_id.data(), raw.boot_id, sizeof(raw.boot_id));
  for (size_t i = 0; i < fields.stream_len.size(); ++i) {
    fields.stream_len[i] = dcast_le64(raw.stream_len[i]);
  }
  fields.window_end = dcast_le64(raw.window_end);
  fields.page_offset = dcast_le64(raw.page_offset);
  fields.text_vaddr = dcast_le64(raw.text_vaddr);
  fields.text_paddr = dcast_le64(raw.text_paddr);
  fields.text_bytes = dcast_le64(raw.text_bytes);
  fields.vmemmap = dcast_le64(raw.vmemmap_vaddr);
  fields.cpus = dcast_le32(raw.cpus);
  fields.crash_cpu = dcast_le32(raw.crash_cpu);
  fields.lanes = dcast_le32(raw.lanes);
  fields.symbol_size = dcast_le32(raw.symbol_size);
  fields.hostname = Text(raw.hostname);
  fields.release = Text(raw.release);
  fields.version = Text(raw.version);
  fields.machine = Text(raw.machine);
  fields.reason = Text(raw.reason);
  std::memcpy(fields.signature.data(), raw.signature, sizeof(raw.signature));
  if (fields.window_end > kMaxWindows) {
    return Malformed("META", absl::StrFormat("window_end %d: wanted at most %d (52 address bits)",
                                             fields.window_end, kMaxWindows));
  }
  const uint64_t slices = (fields.window_end + DCAST_SLICE_WINDOWS - 1) / DCAST_SLICE_WINDOWS;
  const uint64_t presence = fields.stream_len[DCAST_STREAM_PRESENCE];
  if (presence % sizeof(dcast_presence) != 0 || presence / sizeof(dcast_presence) > slices) {
    return Malformed("META", absl::StrFormat("PRESENCE of %d bytes: wanted at most %d slices of %d",
                                             presence, slices, sizeof(dcast_presence)));
  }
  const uint64_t memory_end = fields.window_end << DCAST_WINDOW_SHIFT;
  if (fields.text_bytes > memory_end || fields.text_paddr > memory_end - fields.text_bytes ||
      fields.text_vaddr + fields.text_bytes < fields.text_vaddr) {
    return Malformed("META", absl::StrFormat("kernel text of %#x bytes at physical %#x, virtual "
                                             "%#x: wanted it below %#x without a wrap",
                                             fields.text_bytes, fields.text_paddr,
                                             fields.text_vaddr, memory_end));
  }
  return fields;
}

absl::StatusOr<std::vector<MemoryRange>> ParseMemoryMap(std::string_view bytes,
                                                        uint64_t window_end) {
  if (bytes.size() % sizeof(dcast_range) != 0) {
    return Malformed("MEMMAP", absl::StrFormat("%d bytes: wanted entries of %d", bytes.size(),
                                               sizeof(dcast_range)));
  }
  const uint64_t memory_end = window_end << DCAST_WINDOW_SHIFT;
  std::vector<MemoryRange> ranges;
  uint64_t last = 0;
  for (size_t at = 0; at < bytes.size(); at += sizeof(dcast_range)) {
    dcast_range raw;
    std::memcpy(&raw, bytes.data() + at, sizeof(raw));
    const MemoryRange range{dcast_le64(raw.start), dcast_le64(raw.end)};
    if (range.start < last || range.end <= range.start || range.end > memory_end) {
      return Malformed(
          "MEMMAP",
          absl::StrFormat(
              "entry %d is %#x to %#x: wanted it ascending, not empty, from %#x on and below %#x",
              ranges.size(), range.start, range.end, last, memory_end));
    }
    last = range.end;
    ranges.push_back(range);
  }
  return ranges;
}

uint64_t StreamChunks(const MetaFields& fields, dcast_stream stream) {
  const uint64_t bytes = fields.stream_len[stream];
  if (stream == DCAST_STREAM_PRESENCE) return bytes / sizeof(dcast_presence);
  return bytes / DCAST_WINDOW_BYTES + (bytes % DCAST_WINDOW_BYTES != 0);
}

namespace {

absl::StatusOr<std::string> ReadChunk(const BlockSource& source, dcast_stream stream,
                                      uint64_t chunk) {
  std::string encoded;
  absl::StatusOr<BlockState> state =
      source.ReadBlock(0, dcast_class0_number(stream, chunk), &encoded);
  if (!state.ok()) return state.status();
  if (*state != BlockState::kHeld) {
    return absl::NotFoundError(
        absl::StrFormat("stream %s: chunk %d is not held", StreamName(stream), chunk));
  }
  absl::StatusOr<DecodedBlock> block = DecodeBlock(0, 0, encoded);
  if (!block.ok()) {
    return absl::Status(block.status().code(),
                        absl::StrFormat("stream %s, chunk %d: %s", StreamName(stream), chunk,
                                        block.status().message()));
  }
  return std::move(block->raw);
}

}  // namespace

absl::StatusOr<std::string> ReadStream(const BlockSource& source, const MetaFields& fields,
                                       dcast_stream stream, uint64_t max_bytes) {
  const uint64_t bytes = fields.stream_len[stream];
  if (bytes > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("stream %s: META says %d bytes, more than the %d that are read",
                        StreamName(stream), bytes, max_bytes));
  }
  std::string joined;
  for (uint64_t chunk = 0; chunk < StreamChunks(fields, stream); ++chunk) {
    absl::StatusOr<std::string> raw = ReadChunk(source, stream, chunk);
    if (!raw.ok()) return raw.status();
    const uint64_t wanted = std::min<uint64_t>(DCAST_WINDOW_BYTES, bytes - joined.size());
    if (raw->size() != wanted) {
      return Malformed(StreamName(stream), absl::StrFormat("chunk %d has %d bytes: wanted %d",
                                                           chunk, raw->size(), wanted));
    }
    joined += *raw;
  }
  return joined;
}

absl::StatusOr<MetaFields> ReadMeta(const BlockSource& source) {
  absl::StatusOr<std::string> raw = ReadChunk(source, DCAST_STREAM_META, 0);
  if (!raw.ok()) return raw.status();
  return ParseMeta(*raw);
}

absl::StatusOr<std::shared_ptr<const DumpMeta>> DumpMeta::Load(const BlockSource& source) {
  absl::StatusOr<MetaFields> fields = ReadMeta(source);
  if (!fields.ok()) return fields.status();
  if (fields->encrypted) {
    return absl::FailedPreconditionError(
        "the dump is encrypted, and only those for whom its host was armed can open it: use "
        "`dumpcast get` or `dumpcast log` with --identity FILE");
  }
  std::shared_ptr<DumpMeta> meta(new DumpMeta());
  meta->fields_ = *std::move(fields);
  meta->LoadMemoryMap(source);
  meta->LoadNotes(source);
  if (absl::Status status = meta->LoadPresence(source); !status.ok()) return status;
  for (int stream = 0; stream < DCAST_STREAMS; ++stream) {
    meta->expected_blocks_[0] += StreamChunks(meta->fields_, static_cast<dcast_stream>(stream));
  }
  return meta;
}

void DumpMeta::NoteProblem(const absl::Status& status) {
  problems_.emplace_back(status.message());
  damaged_ |= absl::IsDataLoss(status);
}

void DumpMeta::LoadMemoryMap(const BlockSource& source) {
  absl::StatusOr<std::string> raw =
      ReadStream(source, fields_, DCAST_STREAM_MEMMAP, kMaxMemoryMapBytes);
  memory_map_status_ = raw.status();
  if (!raw.ok()) return NoteProblem(raw.status());
  absl::StatusOr<std::vector<MemoryRange>> ranges = ParseMemoryMap(*raw, fields_.window_end);
  if (!ranges.ok()) {
    problems_.emplace_back(ranges.status().message());
    return;
  }
  // The kernel has no struct page use for a page that is only partly RAM.
  const uint64_t mask = page_bytes() - 1;
  for (const MemoryRange& range : *ranges) {
    const uint64_t start = (range.start + mask) & ~mask;
    const uint64_t end = range.end & ~mask;
    if (start >= end) continue;
    ram_bytes_ += end - start;
    if (!ram_.empty() && ram_.back().end == start) {
      ram_.back().end = end;
    } else {
      ram_.push_back({start, end});
    }
  }
  if (ram_.empty()) problems_.emplace_back("stream MEMMAP: no whole page of RAM in it");
}

void DumpMeta::LoadNotes(const BlockSource& source) {
  absl::StatusOr<std::string> info =
      ReadStream(source, fields_, DCAST_STREAM_VMCOREINFO, kMaxVmcoreinfoBytes);
  if (info.ok()) {
    // Senders may pass the note's buffer with the NULs that fill it.
    info->resize(std::min(info->find('\0'), info->size()));
    vmcoreinfo_text_ = *std::move(info);
  } else {
    NoteProblem(info.status());
  }
  absl::StatusOr<std::string> notes =
      ReadStream(source, fields_, DCAST_STREAM_NOTES, kMaxNotesBytes);
  if (notes.ok()) {
    size_t dropped = 0;
    notes_ = WholeNotes(*notes, &vmcoreinfo_in_notes_, &dropped);
    if (dropped != 0) {
      problems_.push_back(absl::StrFormat("stream NOTES: the last %d of %d bytes are no whole note",
                                          dropped, notes->size()));
    }
  } else {
    NoteProblem(notes.status());
  }
  if (vmcoreinfo_in_notes_.second != 0) {
    if (vmcoreinfo_text_.empty()) {
      vmcoreinfo_text_ = notes_.substr(vmcoreinfo_in_notes_.first, vmcoreinfo_in_notes_.second);
      vmcoreinfo_text_.resize(std::min(vmcoreinfo_text_.find('\0'), vmcoreinfo_text_.size()));
    }
  } else if (!vmcoreinfo_text_.empty()) {
    const std::string note = VmcoreinfoNote(vmcoreinfo_text_);
    vmcoreinfo_in_notes_ = {notes_.size() + sizeof(Elf64_Nhdr) + Align4(kVmcoreinfoName.size()),
                            vmcoreinfo_text_.size()};
    notes_ += note;
  }
  vmcoreinfo_ = Vmcoreinfo::Parse(vmcoreinfo_text_);
}

absl::Status DumpMeta::LoadPresence(const BlockSource& source) {
  const uint64_t slices = StreamChunks(fields_, DCAST_STREAM_PRESENCE);
  if (slices == 0) return absl::OkStatus();
  absl::StatusOr<std::vector<HeldRun>> runs =
      source.HeldRuns(0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0),
                      dcast_class0_number(DCAST_STREAM_PRESENCE, slices - 1));
  if (!runs.ok()) return runs.status();
  for (const HeldRun& run : *runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      const uint64_t slice = (run.first + i) & ((uint64_t{1} << DCAST_STREAM_SHIFT) - 1);
      absl::StatusOr<std::string> raw = ReadChunk(source, DCAST_STREAM_PRESENCE, slice);
      if (!raw.ok() || raw->size() != sizeof(dcast_presence)) {
        problems_.push_back(raw.ok() ? absl::StrFormat("stream PRESENCE: slice %d has %d bytes: "
                                                       "wanted %d",
                                                       slice, raw->size(), sizeof(dcast_presence))
                                     : std::string(raw.status().message()));
        continue;
      }
      auto presence = std::make_unique<dcast_presence>();
      std::memcpy(presence.get(), raw->data(), raw->size());
      // Bits past the last window name no block.
      const uint64_t first = slice * DCAST_SLICE_WINDOWS;
      for (unsigned cls = 1; cls < DCAST_CLASSES; ++cls) {
        uint8_t* bits = presence->bits[cls - 1];
        for (uint64_t w = fields_.window_end - std::min(first, fields_.window_end);
             w < DCAST_SLICE_WINDOWS; ++w) {
          bits[w / 8] &= static_cast<uint8_t>(~(1u << (w % 8)));
        }
        for (size_t byte = 0; byte < sizeof(presence->bits[0]); ++byte) {
          expected_blocks_[cls] += static_cast<uint64_t>(std::popcount(bits[byte]));
        }
      }
      slices_.emplace(slice, std::move(presence));
    }
  }
  if (slices_.size() != slices) {
    problems_.push_back(
        absl::StrFormat("stream PRESENCE: %d of %d slices are held", slices_.size(), slices));
  }
  return absl::OkStatus();
}

bool DumpMeta::IsRam(uint64_t paddr) const {
  auto after =
      std::upper_bound(ram_.begin(), ram_.end(), paddr,
                       [](uint64_t at, const MemoryRange& range) { return at < range.start; });
  return after != ram_.begin() && paddr < std::prev(after)->end;
}

std::optional<bool> DumpMeta::Exists(uint8_t block_class, uint64_t window) const {
  if (block_class == 0 || block_class >= DCAST_CLASSES) return std::nullopt;
  if (window >= fields_.window_end) return false;
  const dcast_presence* slice = Slice(window / DCAST_SLICE_WINDOWS);
  if (slice == nullptr) return std::nullopt;
  const uint64_t bit = window % DCAST_SLICE_WINDOWS;
  return (slice->bits[block_class - 1][bit / 8] >> (bit % 8) & 1) != 0;
}

const dcast_presence* DumpMeta::Slice(uint64_t slice) const {
  const auto it = slices_.find(slice);
  return it == slices_.end() ? nullptr : it->second.get();
}

}  // namespace dumpcast
