// SPDX-License-Identifier: Apache-2.0
// The walk through memory of which little leaves.
#include <algorithm>
#include <cstring>
#include <set>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kWindows = 7ull << 30 >> DCAST_WINDOW_SHIFT;  // of 7 GiB: four slices

uint64_t looked_at;

unsigned ClassOf(uint64_t window) {
  return window % 5000 == 7 ? 2 : window % 7000 == 9 ? 3 : window == 40000 ? 1 : 0;
}

std::set<BlockId> Walk(bool skips) {
  FakeHost host({{0, 1 << 20}});
  host.ranges = {{0, dcast_to_le64(kWindows << DCAST_WINDOW_SHIFT)}};
  host.config.linger_ns = 1000;
  host.rim.window_classes = [](void*, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]) {
    ++looked_at;
    std::memset(cls, 0, DCAST_MAX_WINDOW_PAGES);
    cls[window % 16] = static_cast<__u8>(ClassOf(window));
  };
  host.rim.read_page = [](void*, __u64 pfn, void* dst) {
    std::memset(dst, static_cast<int>(pfn % 255 + 1), 4096);
    return 0;
  };
  // Blocks of 64 windows are stepped over, as free ones are.
  host.rim.skip = [](void*, __u64 window) -> __u64 {
    for (__u64 next = window; next % 64 != 0 || next == window; ++next)
      if (ClassOf(next)) return window;
    return (window / 64 + 1) * 64;
  };
  if (!skips) host.rim.skip = nullptr;
  host.Init();
  host.Begin();
  looked_at = 0;
  EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_DONE));
  std::set<BlockId> blocks;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL))
    if (p->hdr().block_class != 0) blocks.insert({p->hdr().block_class, p->number()});
  return blocks;
}

TEST(Walk, WhatIsLeftOutIsSteppedOver) {
  std::set<BlockId> wanted;
  for (uint64_t window = 0; window < kWindows; ++window)
    if (ClassOf(window)) wanted.insert({ClassOf(window), window});
  EXPECT_EQ(Walk(false), wanted);
  EXPECT_LT(looked_at, kWindows + 200) << "presence looks at each once; later classes know where";
  EXPECT_EQ(Walk(true), wanted);
  EXPECT_LT(looked_at, kWindows / 10);
}

}  // namespace
}  // namespace dumpcast
