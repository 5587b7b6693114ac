// SPDX-License-Identifier: Apache-2.0
// What a dump says about itself: the class 0 streams META, MEMMAP, VMCOREINFO, NOTES, LOG,
// PRESENCE.
#ifndef DUMPCAST_STORE_VMCORE_DUMP_META_H_
#define DUMPCAST_STORE_VMCORE_DUMP_META_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/wire/dumpcast_wire.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

// Half-open physical byte range.
struct MemoryRange {
  uint64_t start = 0;
  uint64_t end = 0;
  bool operator==(const MemoryRange&) const = default;
};

// dcast_meta in host order; texts end at their first NUL.
struct MetaFields {
  uint16_t elf_machine = 0;
  unsigned page_shift = 12;  // 12..16
  uint8_t dump_level = 0;
  bool live = false;
  bool test = false;
  bool encrypted = false;  // tells the least; EncryptedSource has the rest
  uint64_t crash_unix_ns = 0;
  uint64_t uptime_ns = 0;
  std::array<uint8_t, DCAST_ID_BYTES> boot_id{};
  std::array<uint64_t, DCAST_STREAMS> stream_len{};  // bytes
  uint64_t window_end = 0;                           // windows
  uint64_t page_offset = 0;                          // virtual addresses; 0: unknown
  uint64_t text_vaddr = 0;
  uint64_t text_paddr = 0;
  uint64_t text_bytes = 0;
  uint64_t vmemmap = 0;
  uint32_t cpus = 0;
  uint32_t crash_cpu = 0;
  uint32_t lanes = 0;
  uint32_t symbol_size = 0;
  std::string hostname, release, version, machine, reason;
  std::array<uint8_t, DCAST_SIGNATURE_BYTES> signature{};  // of the crash; zeros: none
};

// Checks and converts the bytes of stream META. Bytes past the structure of version 1.0 are a newer
// minor's and ignored. DATA_LOSS names the field, the limit and the value.
absl::StatusOr<MetaFields> ParseMeta(std::string_view bytes);

// Checks and converts the bytes of stream MEMMAP: whole dcast_range entries, each start < end,
// ascending without overlap, below window_end windows. DATA_LOSS otherwise.
absl::StatusOr<std::vector<MemoryRange>> ParseMemoryMap(std::string_view bytes,
                                                        uint64_t window_end);

// The key=value lines of vmcoreinfo (Documentation/admin-guide/kdump/vmcoreinfo.rst). Unknown lines
// are kept, malformed ones skipped; of a key that comes twice the first counts.
class Vmcoreinfo {
 public:
  static Vmcoreinfo Parse(std::string_view text);

  std::optional<std::string_view> Get(std::string_view key) const;  // e.g. "OSRELEASE"
  std::optional<uint64_t> Symbol(std::string_view name) const;      // SYMBOL(name)=, hex
  std::optional<uint64_t> Size(std::string_view name) const;        // SIZE(name)=, decimal
  std::optional<uint64_t> Offset(std::string_view field) const;     // OFFSET(field)=, decimal
  std::optional<uint64_t> Number(std::string_view name) const;      // NUMBER(name)=, decimal or 0x
  bool empty() const { return values_.empty(); }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

// Everything that the views need to know before they touch memory. Immutable once loaded, so it may
// be used from any thread.
class DumpMeta {
 public:
  // Reads META and whatever has arrived of the other streams.
  // NOT_FOUND: META is not held (yet). DATA_LOSS: META is malformed. FAILED_PRECONDITION: the dump
  // is encrypted, and `source` does not decrypt it. A malformed or missing other stream is treated
  // as not arrived, and problems() says so.
  static absl::StatusOr<std::shared_ptr<const DumpMeta>> Load(const BlockSource& source);

  const MetaFields& fields() const { return fields_; }
  uint64_t page_bytes() const { return uint64_t{1} << fields_.page_shift; }
  unsigned pages_per_window() const { return DCAST_WINDOW_BYTES >> fields_.page_shift; }

  // Whole pages of RAM, ascending, page-aligned, touching ranges merged. Empty while MEMMAP is
  // missing.
  const std::vector<MemoryRange>& ram() const { return ram_; }
  // Bytes in ram().
  uint64_t ram_bytes() const { return ram_bytes_; }
  bool IsRam(uint64_t paddr) const;

  const Vmcoreinfo& vmcoreinfo() const { return vmcoreinfo_; }
  const std::string& vmcoreinfo_text() const { return vmcoreinfo_text_; }
  // Whole ELF notes (4-byte aligned); when the stream has no VMCOREINFO note, one is made from
  // the VMCOREINFO stream. Empty when neither has arrived.
  const std::string& notes() const { return notes_; }
  // Where the text of vmcoreinfo lies in notes(): offset, bytes. {0, 0}: nowhere.
  std::pair<size_t, size_t> vmcoreinfo_in_notes() const { return vmcoreinfo_in_notes_; }

  // What presence says of a block of class 1..3: nullopt when its slice has not arrived.
  std::optional<bool> Exists(uint8_t block_class, uint64_t window) const;
  // The presence of a slice of DCAST_SLICE_WINDOWS windows, nullptr when it has not arrived.
  const dcast_presence* Slice(uint64_t slice) const;

  // Blocks that are known to exist: class 0 by META's lengths, 1..3 by the slices that arrived.
  std::array<uint64_t, DCAST_CLASSES> expected_blocks() const { return expected_blocks_; }

  // What is missing or malformed of the streams, one sentence each, for people.
  const std::vector<std::string>& problems() const { return problems_; }
  // DATA_LOSS when the disk has changed the memory map, which is then as if it had not arrived.
  const absl::Status& memory_map_status() const { return memory_map_status_; }
  // A stream that was held could not be read: what a peer gives again, this does not have.
  bool damaged() const { return damaged_; }

 private:
  DumpMeta() = default;
  // Why a stream is as if it had not arrived.
  void NoteProblem(const absl::Status& status);
  void LoadMemoryMap(const BlockSource& source);
  void LoadNotes(const BlockSource& source);
  absl::Status LoadPresence(const BlockSource& source);

  MetaFields fields_;
  std::vector<MemoryRange> ram_;
  uint64_t ram_bytes_ = 0;
  std::string vmcoreinfo_text_;
  Vmcoreinfo vmcoreinfo_;
  std::string notes_;
  std::pair<size_t, size_t> vmcoreinfo_in_notes_{0, 0};
  absl::flat_hash_map<uint64_t, std::unique_ptr<const dcast_presence>> slices_;
  std::array<uint64_t, DCAST_CLASSES> expected_blocks_{};
  std::vector<std::string> problems_;
  absl::Status memory_map_status_;
  bool damaged_ = false;
};

// Reads META alone. NOT_FOUND: it is not held (yet). DATA_LOSS: malformed.
absl::StatusOr<MetaFields> ReadMeta(const BlockSource& source);

// Number of chunks (blocks) of a class 0 stream by META's length of it.
uint64_t StreamChunks(const MetaFields& fields, dcast_stream stream);

// Joins the chunks of a class 0 stream (not PRESENCE, whose chunks stand alone).
// NOT_FOUND names the first chunk that is not held; RESOURCE_EXHAUSTED when META says more than
// max_bytes; DATA_LOSS when a chunk has another length than META says.
absl::StatusOr<std::string> ReadStream(const BlockSource& source, const MetaFields& fields,
                                       dcast_stream stream, uint64_t max_bytes);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_DUMP_META_H_
