// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/memory_view.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

constexpr size_t kCachedWindows = 16;

// Whether what one class says of a page outweighs what a lower class said.
bool Outweighs(PageState later, PageState earlier) {
  return earlier != PageState::kDumped && earlier != PageState::kZero &&
         (later == PageState::kDumped || later == PageState::kZero);
}

// What a block says of each page; kExcluded where it does not speak for it.
PageState StateIn(const BlockHeader& header, unsigned page) {
  const unsigned bit = 1u << page;
  if ((header.present & bit) == 0) return PageState::kExcluded;
  if ((header.zero & bit) != 0) return PageState::kZero;
  if ((header.unreadable & bit) != 0) return PageState::kUnreadable;
  return PageState::kDumped;
}

}  // namespace

const char* PageStateName(PageState state) {
  switch (state) {
    case PageState::kNotRam:
      return "not RAM";
    case PageState::kDumped:
      return "dumped";
    case PageState::kZero:
      return "zero";
    case PageState::kExcluded:
      return "excluded by the dump level";
    case PageState::kUnreadable:
      return "not readable on the host";
    case PageState::kMissing:
      return "missing: its block has not arrived";
  }
  return "unknown";
}

struct MemoryView::Window {
  uint64_t number = 0;
  WindowPages states{};
  // Which block of `blocks` holds page i, and where in it.
  std::array<uint8_t, DCAST_MAX_WINDOW_PAGES> block{};
  std::array<uint32_t, DCAST_MAX_WINDOW_PAGES> offset{};
  std::array<std::string, DCAST_CLASSES> blocks;
};

MemoryView::MemoryView(std::shared_ptr<const BlockSource> source,
                       std::shared_ptr<const DumpMeta> meta)
    : source_(std::move(source)), meta_(std::move(meta)) {}

MemoryView::~MemoryView() = default;

absl::StatusOr<std::shared_ptr<const MemoryView>> MemoryView::Open(
    std::shared_ptr<const BlockSource> source) {
  absl::StatusOr<std::shared_ptr<const DumpMeta>> meta = DumpMeta::Load(*source);
  if (!meta.ok()) return meta.status();
  std::shared_ptr<MemoryView> view(new MemoryView(std::move(source), *std::move(meta)));
  const uint64_t window_end = view->meta_->fields().window_end;
  for (uint8_t cls = 1; cls < DCAST_CLASSES && window_end != 0; ++cls) {
    absl::StatusOr<std::vector<HeldRun>> runs = view->source_->HeldRuns(cls, 0, window_end - 1);
    if (!runs.ok()) return runs.status();
    view->held_[cls] = *std::move(runs);
  }
  return view;
}

bool MemoryView::Held(uint8_t block_class, uint64_t window) const {
  const std::vector<HeldRun>& runs = held_[block_class];
  auto after = std::upper_bound(runs.begin(), runs.end(), window,
                                [](uint64_t at, const HeldRun& run) { return at < run.first; });
  return after != runs.begin() && window - std::prev(after)->first < std::prev(after)->count;
}

bool MemoryView::Missing(uint8_t block_class, uint64_t window) const {
  return !Held(block_class, window) && meta_->Exists(block_class, window).value_or(true);
}

WindowState MemoryView::GetWindowState(uint64_t window) const {
  return WindowRuns(window, window).front().state;
}

std::vector<WindowRun> MemoryView::WindowRuns(uint64_t first, uint64_t last) const {
  std::vector<WindowRun> result;
  std::array<size_t, DCAST_CLASSES> next{};  // index of the first run that ends past `window`
  for (uint8_t cls = 1; cls < DCAST_CLASSES; ++cls) {
    const std::vector<HeldRun>& runs = held_[cls];
    next[cls] = static_cast<size_t>(std::partition_point(runs.begin(), runs.end(),
                                                         [first](const HeldRun& run) {
                                                           return run.first + run.count <= first;
                                                         }) -
                                    runs.begin());
  }
  for (uint64_t window = first; window <= last; ++window) {
    bool held = false;
    bool missing = false;
    for (uint8_t cls = 1; cls < DCAST_CLASSES; ++cls) {
      const std::vector<HeldRun>& runs = held_[cls];
      size_t& at = next[cls];
      if (at < runs.size() && runs[at].first + runs[at].count <= window) ++at;
      if (at < runs.size() && runs[at].first <= window) {
        held = true;
      } else if (meta_->Exists(cls, window).value_or(true)) {
        missing = true;
      }
    }
    const WindowState state = held ? (missing ? WindowState::kPartial : WindowState::kHeld)
                                   : (missing ? WindowState::kMissing : WindowState::kAbsent);
    if (!result.empty() && result.back().state == state) {
      ++result.back().count;
    } else {
      result.push_back({window, 1, state});
    }
  }
  return result;
}

void MemoryView::MarkRam(uint64_t window, WindowPages* pages) const {
  const uint64_t base = window << DCAST_WINDOW_SHIFT;
  for (unsigned page = 0; page < pages->size(); ++page) {
    if (page >= meta_->pages_per_window() ||
        !meta_->IsRam(base + (uint64_t{page} << meta_->fields().page_shift))) {
      (*pages)[page] = PageState::kNotRam;
    }
  }
}

absl::StatusOr<WindowPages> MemoryView::ReadWindowPages(uint64_t window) const {
  WindowPages pages;
  pages.fill(PageState::kExcluded);
  bool missing = false;
  bool carried = false;
  std::string encoded;
  for (uint8_t cls = 1; cls < DCAST_CLASSES; ++cls) {
    if (!Held(cls, window)) {
      missing |= Missing(cls, window);
      continue;
    }
    absl::StatusOr<BlockState> state = source_->ReadBlockHeader(cls, window, &encoded);
    if (!state.ok()) return state.status();
    if (*state == BlockState::kEmpty) continue;
    absl::StatusOr<BlockHeader> header = ParseBlockHeader(cls, meta_->fields().page_shift, encoded);
    if (*state == BlockState::kMissing || !header.ok()) {
      missing = true;
      continue;
    }
    carried |= header->carried() != 0;
    for (unsigned page = 0; page < pages.size(); ++page) {
      const PageState said = StateIn(*header, page);
      if (Outweighs(said, pages[page]) || pages[page] == PageState::kExcluded) pages[page] = said;
    }
  }
  if (missing) std::replace(pages.begin(), pages.end(), PageState::kExcluded, PageState::kMissing);
  MarkRam(window, &pages);
  // A source of encrypted blocks checks a header when the block's pages are read. Nobody would read
  // these: none of them counts.
  if (carried && std::count(pages.begin(), pages.end(), PageState::kDumped) == 0) {
    absl::StatusOr<std::shared_ptr<const Window>> read = GetWindow(window);
    if (!read.ok()) return read.status();
    return (*read)->states;
  }
  return pages;
}

absl::StatusOr<std::shared_ptr<const MemoryView::Window>> MemoryView::DecodeWindow(
    uint64_t number) const {
  auto window = std::make_shared<Window>();
  window->number = number;
  window->states.fill(PageState::kExcluded);
  bool missing = false;
  std::string encoded;
  for (uint8_t cls = 1; cls < DCAST_CLASSES; ++cls) {
    if (!Held(cls, number)) {
      missing |= Missing(cls, number);
      continue;
    }
    absl::StatusOr<BlockState> state = source_->ReadBlock(cls, number, &encoded);
    if (!state.ok()) return state.status();
    if (*state == BlockState::kEmpty) continue;
    if (*state == BlockState::kMissing) {
      missing = true;
      continue;
    }
    absl::StatusOr<DecodedBlock> block = DecodeBlock(cls, meta_->fields().page_shift, encoded);
    if (!block.ok()) {
      missing = true;
      continue;
    }
    for (unsigned page = 0; page < window->states.size(); ++page) {
      const PageState said = StateIn(block->header, page);
      if (!Outweighs(said, window->states[page]) && window->states[page] != PageState::kExcluded) {
        continue;
      }
      window->states[page] = said;
      if (said != PageState::kDumped) continue;
      window->block[page] = cls;
      window->offset[page] = static_cast<uint32_t>(block->header.CarriedIndex(page))
                             << meta_->fields().page_shift;
    }
    window->blocks[cls] = std::move(block->raw);
  }
  if (missing) {
    std::replace(window->states.begin(), window->states.end(), PageState::kExcluded,
                 PageState::kMissing);
  }
  MarkRam(number, &window->states);
  return window;
}

absl::StatusOr<std::shared_ptr<const MemoryView::Window>> MemoryView::GetWindow(
    uint64_t number) const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (auto it = by_number_.find(number); it != by_number_.end()) {
      recent_.splice(recent_.begin(), recent_, it->second);
      return recent_.front();
    }
  }
  absl::StatusOr<std::shared_ptr<const Window>> window = DecodeWindow(number);
  if (!window.ok()) return window.status();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (by_number_.contains(number)) return window;
  recent_.push_front(*window);
  by_number_[number] = recent_.begin();
  if (recent_.size() > kCachedWindows) {
    by_number_.erase(recent_.back()->number);
    recent_.pop_back();
  }
  return window;
}

absl::StatusOr<PageState> MemoryView::FindPage(uint64_t pfn, std::shared_ptr<const Window>* held,
                                               const char** bytes) const {
  *bytes = nullptr;
  const unsigned pages = meta_->pages_per_window();
  if (pfn / pages >= meta_->fields().window_end) return PageState::kNotRam;
  absl::StatusOr<std::shared_ptr<const Window>> window = GetWindow(pfn / pages);
  if (!window.ok()) return window.status();
  *held = *std::move(window);
  const unsigned page = static_cast<unsigned>(pfn % pages);
  if ((*held)->states[page] == PageState::kDumped) {
    *bytes = (*held)->blocks[(*held)->block[page]].data() + (*held)->offset[page];
  }
  return (*held)->states[page];
}

absl::StatusOr<PageState> MemoryView::ReadPage(uint64_t pfn, char* out) const {
  std::shared_ptr<const Window> held;
  const char* bytes = nullptr;
  absl::StatusOr<PageState> state = FindPage(pfn, &held, &bytes);
  if (!state.ok() || out == nullptr) return state;
  if (bytes != nullptr) {
    std::memcpy(out, bytes, meta_->page_bytes());
  } else {
    std::memset(out, 0, meta_->page_bytes());
  }
  return state;
}

absl::Status MemoryView::ReadOrZero(uint64_t paddr, uint64_t len, char* out) const {
  return Copy(paddr, len, out, /*exact=*/false);
}

absl::Status MemoryView::ReadExact(uint64_t paddr, uint64_t len, char* out) const {
  return Copy(paddr, len, out, /*exact=*/true);
}

absl::Status MemoryView::Copy(uint64_t paddr, uint64_t len, char* out, bool exact) const {
  if (paddr + len < paddr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("physical %#x and %#x bytes: the end wraps around", paddr, len));
  }
  const uint64_t page_bytes = meta_->page_bytes();
  while (len != 0) {
    const uint64_t pfn = paddr / page_bytes;
    const uint64_t skip = paddr % page_bytes;
    const uint64_t take = std::min(len, page_bytes - skip);
    std::shared_ptr<const Window> held;
    const char* bytes = nullptr;
    absl::StatusOr<PageState> state = FindPage(pfn, &held, &bytes);
    if (!state.ok()) return state.status();
    if (exact && *state != PageState::kDumped && *state != PageState::kZero) {
      return absl::NotFoundError(
          absl::StrFormat("physical page %#x is %s", pfn * page_bytes, PageStateName(*state)));
    }
    if (bytes != nullptr) {
      std::memcpy(out, bytes + skip, take);
    } else {
      std::memset(out, 0, take);
    }
    out += take;
    paddr += take;
    len -= take;
  }
  return absl::OkStatus();
}

}  // namespace dumpcast
