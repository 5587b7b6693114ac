// SPDX-License-Identifier: Apache-2.0
// Made-up memory of a crashed host.
#ifndef DUMPCAST_TESTS_SIM_SIM_MEMORY_H_
#define DUMPCAST_TESTS_SIM_SIM_MEMORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

inline uint64_t SplitMix(uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// What the pages hold, by page frame number: each host has it, each check asks it.
class SimMemory {
 public:
  // `windows` windows of RAM from 0, and, when high_slice is not 0, some more in that slice.
  SimMemory(uint64_t seed, uint64_t windows, uint64_t high_slice, bool changes);
  const std::vector<dcast_range>& ranges() const { return ranges_; }
  // 0 outside RAM, and for pages that are not dumped.
  uint8_t ClassOf(uint64_t pfn) const;
  bool Unreadable(uint64_t pfn) const;
  // Changes whenever it is read.
  bool Volatile(uint64_t pfn) const;
  // 4096 bytes; of a volatile page the `read`-th version.
  std::string Page(uint64_t pfn, uint64_t read = 0) const;
  std::string Stream(unsigned stream) const;
  uint64_t window_end() const { return window_end_; }

 private:
  uint64_t Mix(uint64_t pfn) const;
  uint64_t seed_;
  bool changes_;
  std::vector<dcast_range> ranges_;
  uint64_t window_end_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_MEMORY_H_
