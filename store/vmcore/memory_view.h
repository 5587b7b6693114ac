// SPDX-License-Identifier: Apache-2.0
// Physical memory of a crashed host, put together from the blocks that are held.
#ifndef DUMPCAST_STORE_VMCORE_MEMORY_VIEW_H_
#define DUMPCAST_STORE_VMCORE_MEMORY_VIEW_H_

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/vmcore/block_source.h"
#include "store/vmcore/dump_meta.h"

namespace dumpcast {

enum class PageState {
  kNotRam,      // outside the memory map
  kDumped,      // its bytes are here
  kZero,        // was all zero
  kExcluded,    // the dump level excludes it, or its block was answered EMPTY
  kUnreadable,  // the sender could not read it (poisoned, offline)
  kMissing,     // it may have been dumped, but its block is not held
};
const char* PageStateName(PageState state);

// What is known of a window without reading its blocks.
enum class WindowState {
  kHeld,     // some block is held and none is known to be missing
  kPartial,  // some block is held, another one is missing
  kMissing,  // a block exists, or its presence slice has not arrived, and nothing is held
  kAbsent,   // presence says that no block exists and none is held: all pages excluded
};

// `count` windows from `first` on, all in one state.
struct WindowRun {
  uint64_t first = 0;
  uint64_t count = 0;
  WindowState state = WindowState::kAbsent;
};

// Sixteen page states at most: one window.
using WindowPages = std::array<PageState, DCAST_MAX_WINDOW_PAGES>;

// A snapshot of what was held when it was opened, as far as ReadBlock() of the source keeps to
// that.
//
// Where several classes speak for a page, the lowest one that carries it (or says zero) counts.
//
// Thread safety: all methods may be called from any thread; decoded windows are cached behind a
// mutex (about 1 MiB), and are decoded outside of it.
class MemoryView {
 public:
  // Loads the metadata and the numbers of the blocks that are held (as runs; no
  // block is read but those of class 0). Errors of DumpMeta::Load() and of the source.
  static absl::StatusOr<std::shared_ptr<const MemoryView>> Open(
      std::shared_ptr<const BlockSource> source);
  ~MemoryView();

  const DumpMeta& meta() const { return *meta_; }
  const BlockSource& source() const { return *source_; }

  WindowState GetWindowState(uint64_t window) const;

  // The windows first..last (inclusive) as ascending runs. Some 20 ns for each window.
  std::vector<WindowRun> WindowRuns(uint64_t first, uint64_t last) const;

  // States of the pages of a window from block headers alone (cheap when the source's
  // ReadBlockHeader() is). Entries from pages_per_window() on are kNotRam. Not cached.
  // A block that cannot be decoded counts as missing. Where headers promise pages and none of them
  // counts, the blocks are read, so that a source which checks headers with blocks has checked
  // them.
  absl::StatusOr<WindowPages> ReadWindowPages(uint64_t window) const;

  // State of one page; fills out[0..page_bytes) with its bytes, or zeros unless it was kDumped.
  // `out` may be null. A block that cannot be decoded counts as missing; errors of the source come
  // back as they are.
  absl::StatusOr<PageState> ReadPage(uint64_t pfn, char* out) const;

  // Copies [paddr, paddr + len) with zeros wherever a page is not kDumped. Addresses may lie
  // outside RAM. INVALID_ARGUMENT when paddr + len wraps.
  absl::Status ReadOrZero(uint64_t paddr, uint64_t len, char* out) const;

  // Copies [paddr, paddr + len), all of which must be kDumped or kZero.
  // NOT_FOUND names the first page that is not, and its state.
  absl::Status ReadExact(uint64_t paddr, uint64_t len, char* out) const;

 private:
  struct Window;

  MemoryView(std::shared_ptr<const BlockSource> source, std::shared_ptr<const DumpMeta> meta);
  absl::StatusOr<std::shared_ptr<const Window>> GetWindow(uint64_t window) const;
  absl::StatusOr<std::shared_ptr<const Window>> DecodeWindow(uint64_t window) const;
  absl::StatusOr<PageState> FindPage(uint64_t pfn, std::shared_ptr<const Window>* held,
                                     const char** bytes) const;
  absl::Status Copy(uint64_t paddr, uint64_t len, char* out, bool exact) const;
  bool Held(uint8_t block_class, uint64_t window) const;
  bool Missing(uint8_t block_class, uint64_t window) const;
  void MarkRam(uint64_t window, WindowPages* pages) const;

  std::shared_ptr<const BlockSource> source_;
  std::shared_ptr<const DumpMeta> meta_;
  // Ascending runs of held windows, for each of classes 1..3.
  std::array<std::vector<HeldRun>, DCAST_CLASSES> held_;

  // Not absl::Mutex: Debian's is built without the thread sanitizer's hooks, which then reports
  // every use of what it guards as a race. Guards recent_ and by_number_.
  mutable std::mutex mutex_;
  mutable std::list<std::shared_ptr<const Window>> recent_;
  mutable absl::flat_hash_map<uint64_t, std::list<std::shared_ptr<const Window>>::iterator>
      by_number_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_MEMORY_VIEW_H_
