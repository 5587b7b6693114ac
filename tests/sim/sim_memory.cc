// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_memory.h"

#include <algorithm>
#include <cstring>

#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kPagesPerWindow = DCAST_WINDOW_BYTES / kPageBytes;

}  // namespace

SimMemory::SimMemory(uint64_t seed, uint64_t windows, uint64_t high_slice, bool changes)
    : seed_(seed), changes_(changes) {
  // Not at a window's edge: the first and last window are only partly RAM.
  const auto add = [this](uint64_t start, uint64_t end) {
    ranges_.push_back({dcast_to_le64(start), dcast_to_le64(end)});
    window_end_ = (end + DCAST_WINDOW_BYTES - 1) / DCAST_WINDOW_BYTES;
  };
  add(kPageBytes, windows * DCAST_WINDOW_BYTES - 3 * kPageBytes);
  if (high_slice != 0) {
    const uint64_t start = (high_slice * DCAST_SLICE_WINDOWS + 100) * DCAST_WINDOW_BYTES;
    add(start, start + (windows / 2 + 1) * DCAST_WINDOW_BYTES);
  }
}

uint64_t SimMemory::Mix(uint64_t pfn) const {
  return SplitMix(seed_ * 1000003 + pfn);
}

uint8_t SimMemory::ClassOf(uint64_t pfn) const {
  const uint64_t address = pfn * kPageBytes;
  const bool ram = std::any_of(ranges_.begin(), ranges_.end(), [address](const dcast_range& r) {
    return address >= dcast_le64(r.start) && address < dcast_le64(r.end);
  });
  if (!ram) return 0;
  // Most windows are of one class, some mixed, some not dumped at all.
  const uint64_t window = SplitMix(seed_ + pfn / kPagesPerWindow);
  if (window % 8 == 0) return static_cast<uint8_t>(Mix(pfn) >> 8 & 3);
  return static_cast<uint8_t>(window >> 16 & 3);
}
bool SimMemory::Unreadable(uint64_t pfn) const {
  return Mix(pfn) % 97 == 5;
}
bool SimMemory::Volatile(uint64_t pfn) const {
  return changes_ && Mix(pfn) % 61 == 7;
}

std::string SimMemory::Page(uint64_t pfn, uint64_t read) const {
  std::string page(kPageBytes, '\0');
  const uint64_t kind = Mix(pfn) >> 32 & 3;
  if (kind == 1) {
    for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<char>('a' + (pfn + i / 7) % 26);
  } else if (kind > 1) {
    for (size_t i = 0; i < page.size(); i += 8) {
      const uint64_t word = SplitMix(Mix(pfn) + i);
      std::memcpy(&page[i], &word, 8);
    }
  }
  if (Volatile(pfn)) std::memcpy(page.data(), &read, sizeof(read));
  return page;
}

std::string SimMemory::Stream(unsigned stream) const {
  switch (stream) {
    case DCAST_STREAM_VMCOREINFO:
      return "OSRELEASE=6.1.0-sim\nPAGESIZE=4096\n";
    case DCAST_STREAM_NOTES:
      return std::string(356, 'N');
    case DCAST_STREAM_MEMMAP:
      return std::string(reinterpret_cast<const char*>(ranges_.data()),
                         ranges_.size() * sizeof(dcast_range));
    case DCAST_STREAM_LOG: {
      std::string log;
      for (int i = 0; i < 3000; ++i)
        log += "[    1." + std::to_string(100000 + i) + "] a line of the log\n";
      return log;  // more than one chunk
    }
    case DCAST_STREAM_KEYS:
      return std::string(2 * sizeof(dcast_key_box), 'K');
    default:
      return "";
  }
}

}  // namespace dumpcast
