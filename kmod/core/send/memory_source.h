// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A file that stands for the memory of a host: an ELF64 or kdump-compressed vmcore, either of them
// also flattened, or raw bytes of physical memory from address 0.
#ifndef DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_
#define DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

class FileBytes;
class KdumpFile;
class PageFilter;

// Immutable after Open() but for the Set and Take functions. Not thread-safe. A file must not
// shrink while it is sent (file_bytes.h). Pages are 4 KiB.
class MemorySource {
 public:
  enum class Format { kAuto, kElf, kRaw, kKdump };

  // Errors: kNotFound, kUnavailable when it cannot be read; kInvalidArgument when it is not
  // of the format, with what was wanted and found.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<MemorySource>> Open(const std::string& path,
                                                                          Format format);
  // The same for bytes that the caller keeps. For tests and fuzzing.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<MemorySource>> FromBytes(
      const uint8_t* data, size_t size, Format format, absl::string_view name);
  ~MemorySource();
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;

  // RAM, ascending and disjoint: what the file's PT_LOADs cover, the pages that a kdump-compressed
  // file says there were, or the whole raw file.
  const std::vector<dcast_range>& ranges() const { return ranges_; }
  uint64_t memory_bytes() const;
  // Class of each page of a window: kernel text 1, other pages in the file 2, else excluded. With
  // a filter, what it keeps is 2 and the rest excluded.
  void WindowClasses(uint64_t window, uint8_t cls[DCAST_MAX_WINDOW_PAGES]) const;
  // Copies the page; what the file has not of it is zero. False when it has nothing of it.
  bool ReadPage(uint64_t pfn, void* dst) const;

  // Physical memory, [address, address + len). False when the file lacks some of it.
  bool ReadPhysical(uint64_t address, void* dst, size_t len) const;

  // Class 0 streams VMCOREINFO, NOTES, LOG and KEYS; empty when the file has none.
  const std::string& stream(unsigned stream) const { return streams_[stream]; }
  void SetLog(std::string text) { streams_[DCAST_STREAM_LOG] = std::move(text); }
  void SetKeyBoxes(std::string boxes) { streams_[DCAST_STREAM_KEYS] = std::move(boxes); }
  // This page is left out, whatever a filter says.
  void LeaveOut(uint64_t pfn) { left_out_ = pfn; }
  // Only these pages of the file are kept. The filter may read memory from this source.
  void SetFilter(std::unique_ptr<PageFilter> filter, unsigned dump_level);
  void SetDumpLevel(unsigned dump_level) { filter_level_ = dump_level; }
  void SetMeta(const dcast_meta& meta) { meta_ = meta; }
  // Class 0 as another sender of this dump has it: ranges are the MEMMAP stream's. Errors:
  // kInvalidArgument when that is no memory map.
  [[nodiscard]] absl::Status TakeStreams(const dcast_meta& meta,
                                         std::array<std::string, DCAST_STREAMS> streams);
  // What the file says of the host: machine, addresses, name, release, time of the crash.
  const dcast_meta& meta() const { return meta_; }
  bool is_elf() const { return is_elf_; }
  // makedumpfile's -d bits, as far as the file has them.
  unsigned dump_level() const;
  // 16 bytes that tell one file from another: of its length and of samples of its bytes.
  std::array<uint8_t, 16> Fingerprint() const;
  // The file says itself that pages are missing.
  bool incomplete() const;

 private:
  struct Segment {
    uint64_t start, end;  // physical
    uint64_t offset;      // in the file
  };
  MemorySource();
  // Bytes of the file; false when they are not there or cannot be read.
  bool Copy(uint64_t offset, void* dst, size_t len) const;
  [[nodiscard]] absl::Status Load(Format format, absl::string_view name);
  [[nodiscard]] absl::Status LoadElf(absl::string_view name);
  [[nodiscard]] absl::Status LoadKdump(absl::string_view name);
  void LoadRaw();
  void FindText();
  void ReadNotes(absl::string_view notes);
  void ReadVmcoreinfo(absl::string_view text);
  // First segment that ends above addr.
  std::vector<Segment>::const_iterator Find(uint64_t addr) const;
  bool IsText(uint64_t page) const;

  std::unique_ptr<FileBytes> file_;
  std::unique_ptr<KdumpFile> kdump_;  // instead of segments_
  bool is_elf_ = false;
  std::vector<Segment> segments_;  // ascending, disjoint
  std::vector<Segment> text_;
  std::vector<dcast_range> ranges_;
  std::array<std::string, DCAST_STREAMS> streams_;
  std::unique_ptr<PageFilter> filter_;
  unsigned filter_level_ = 0;
  std::optional<uint64_t> left_out_;
  dcast_meta meta_ = {};
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_
