// SPDX-License-Identifier: Apache-2.0
// Vmcores that dumpcast-send is given.
#include <cstdint>

#include "kmod/core/send/memory_source.h"
#include "protos/wire/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto source =
      dumpcast::MemorySource::FromBytes(data, size, dumpcast::MemorySource::Format::kAuto, "fuzz");
  if (!source.ok()) return 0;
  uint64_t last = 0;
  for (const dcast_range& r : (*source)->ranges()) {
    const uint64_t start = dcast_le64(r.start), end = dcast_le64(r.end);
    if (start >= end || start < last) __builtin_trap();  // ascending, disjoint, not empty
    last = end;
    uint8_t cls[DCAST_MAX_WINDOW_PAGES];
    uint8_t page[4096];
    (*source)->WindowClasses(start >> 16, cls);
    (*source)->WindowClasses((end - 1) >> 16, cls);
    (*source)->ReadPage(start >> 12, page);
    (*source)->ReadPage((end - 1) >> 12, page);
  }
  return 0;
}
