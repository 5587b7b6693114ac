// SPDX-License-Identifier: Apache-2.0
// What every host of a fleet has in memory: one copy for all of them. Their dumps differ all the
// same, since digests are keyed by host and META names it.
#ifndef DUMPCAST_TESTS_FLEET_FLEET_MEMORY_H_
#define DUMPCAST_TESTS_FLEET_FLEET_MEMORY_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_memory.h"

namespace dumpcast {

class FleetMemory {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr uint64_t kPagesPerWindow = DCAST_WINDOW_BYTES / kPageBytes;

  // `kib`: a multiple of 64, less than 2 GiB, so that presence is one slice.
  FleetMemory(uint64_t seed, uint64_t kib);

  const std::vector<dcast_range>& ranges() const { return made_up_.ranges(); }
  uint8_t ClassOf(uint64_t pfn) const { return classes_[pfn]; }
  // 4096 bytes, or nullptr when it cannot be read.
  const char* Page(uint64_t pfn) const;
  const std::string& Stream(unsigned stream) const { return streams_[stream]; }
  uint64_t bytes() const { return pages_.size(); }

  // The blocks of a whole dump, (class, number), ascending.
  using Name = std::pair<uint8_t, uint64_t>;
  const std::vector<Name>& blocks() const { return blocks_; }
  // Of these, what a host sends that is told to send the log only.
  static bool InLogOnly(const Name& name) {
    return name.first == 0 && name.second >> DCAST_STREAM_SHIFT != DCAST_STREAM_PRESENCE;
  }

 private:
  SimMemory made_up_;
  std::string pages_;
  std::vector<uint8_t> classes_;  // by page frame number; those beyond RAM are 0
  std::array<std::string, DCAST_STREAMS> streams_;
  std::vector<Name> blocks_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FLEET_FLEET_MEMORY_H_
