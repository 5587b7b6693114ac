// SPDX-License-Identifier: Apache-2.0
#include "tests/fleet/fleet_memory.h"

#include <set>

namespace dumpcast {
namespace {

// A real log is small beside its dump; so is this one.
constexpr size_t kLogBytes = 8192;

}  // namespace

FleetMemory::FleetMemory(uint64_t seed, uint64_t kib)
    : made_up_(seed, kib * 1024 / DCAST_WINDOW_BYTES, 0, false) {
  const uint64_t windows = made_up_.window_end();
  std::set<Name> blocks;
  for (uint64_t pfn = 0; pfn < windows * kPagesPerWindow; ++pfn) {
    pages_ += made_up_.Page(pfn);
    classes_.push_back(made_up_.ClassOf(pfn));
    if (classes_.back() != 0) blocks.emplace(classes_.back(), pfn / kPagesPerWindow);
  }
  for (const unsigned s : {DCAST_STREAM_VMCOREINFO, DCAST_STREAM_NOTES, DCAST_STREAM_MEMMAP})
    streams_[s] = made_up_.Stream(s);
  streams_[DCAST_STREAM_LOG] = made_up_.Stream(DCAST_STREAM_LOG).substr(0, kLogBytes);
  for (unsigned s = 0; s < DCAST_STREAMS; ++s) {
    // Each has one chunk at most.
    if (s == DCAST_STREAM_META || s == DCAST_STREAM_PRESENCE || !streams_[s].empty())
      blocks.emplace(0, dcast_class0_number(s, 0));
  }
  blocks_.assign(blocks.begin(), blocks.end());
}

const char* FleetMemory::Page(uint64_t pfn) const {
  return made_up_.Unreadable(pfn) ? nullptr : pages_.data() + pfn * kPageBytes;
}

}  // namespace dumpcast
