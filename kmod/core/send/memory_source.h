// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A file that stands for the memory of a host: an ELF64 vmcore, or raw bytes of physical
// memory from address 0.
#ifndef DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_
#define DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

// Immutable after Open(), and so thread-safe. The file is mapped: it must not shrink while
// it is sent. Pages are 4 KiB.
class MemorySource {
 public:
  enum class Format { kAuto, kElf, kRaw };

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

  // RAM, ascending and disjoint: what the file's PT_LOADs cover, or the whole raw file.
  const std::vector<dcast_range>& ranges() const { return ranges_; }
  uint64_t memory_bytes() const;
  // Class of each page of a window: kernel text 1, other pages in the file 2, else excluded.
  void WindowClasses(uint64_t window, uint8_t cls[DCAST_MAX_WINDOW_PAGES]) const;
  // Copies the page; what the file has not of it is zero. False when it has nothing of it.
  bool ReadPage(uint64_t pfn, void* dst) const;

  // Class 0 streams VMCOREINFO, NOTES and LOG; empty when the file has none.
  const std::string& stream(unsigned stream) const { return streams_[stream]; }
  void SetLog(std::string text) { streams_[DCAST_STREAM_LOG] = std::move(text); }
  // What the file says of the host: machine, addresses, release, time of the crash.
  const dcast_meta& meta() const { return meta_; }
  bool is_elf() const { return is_elf_; }

 private:
  struct Segment {
    uint64_t start, end;  // physical
    uint64_t offset;      // in the file
  };
  MemorySource() = default;
  [[nodiscard]] absl::Status LoadElf(absl::string_view name);
  void LoadRaw();
  void ReadNotes(absl::string_view notes);
  void ReadVmcoreinfo(absl::string_view text);
  // First segment that ends above addr.
  std::vector<Segment>::const_iterator Find(uint64_t addr) const;
  bool IsText(uint64_t page) const;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
  bool is_elf_ = false;
  std::vector<Segment> segments_;  // ascending, disjoint
  std::vector<Segment> text_;
  std::vector<dcast_range> ranges_;
  std::string streams_[DCAST_STREAMS];
  dcast_meta meta_ = {};
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_MEMORY_SOURCE_H_
