// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/memory_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;

std::shared_ptr<const MemoryView> OpenText(std::string_view text) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(text);
  EXPECT_TRUE(builder.ok()) << builder.status();
  absl::StatusOr<std::shared_ptr<const MemoryView>> view = MemoryView::Open(builder->Build());
  EXPECT_TRUE(view.ok()) << view.status();
  return *view;
}

PageState StateOf(const MemoryView& view, uint64_t pfn) {
  absl::StatusOr<PageState> state = view.ReadPage(pfn, nullptr);
  EXPECT_TRUE(state.ok()) << state.status();
  // The answer from headers must be the same.
  absl::StatusOr<WindowPages> pages = view.ReadWindowPages(pfn / 16);
  EXPECT_TRUE(pages.ok());
  EXPECT_EQ((*pages)[pfn % 16], *state) << "page " << pfn;
  return *state;
}

uint64_t FirstWord(const MemoryView& view, uint64_t pfn) {
  std::string page(kPage, '?');
  EXPECT_TRUE(view.ReadPage(pfn, page.data()).ok());
  uint64_t word;
  std::memcpy(&word, page.data(), sizeof(word));
  return word;
}

TEST(MemoryView, TellsSixStatesApart) {
  const auto view = OpenText(R"(
    ram 0 0x30000
    page 0 1 0xaa
    page 1 1 zero
    page 2 2 unreadable
    page 0x10 3 own       # window 1 exists and is not held
    page 0x20 2 own       # window 2 was answered EMPTY
    drop 3 1
    empty 2 2
  )");
  EXPECT_EQ(StateOf(*view, 0), PageState::kDumped);
  EXPECT_EQ(StateOf(*view, 1), PageState::kZero);
  EXPECT_EQ(StateOf(*view, 2), PageState::kUnreadable);
  EXPECT_EQ(StateOf(*view, 3), PageState::kExcluded);
  EXPECT_EQ(StateOf(*view, 0x10), PageState::kMissing);
  EXPECT_EQ(StateOf(*view, 0x1f), PageState::kMissing);
  EXPECT_EQ(StateOf(*view, 0x20), PageState::kExcluded);
  EXPECT_EQ(*view->ReadPage(0x30, nullptr), PageState::kNotRam);
  EXPECT_EQ(*view->ReadPage(~uint64_t{0}, nullptr), PageState::kNotRam);
  EXPECT_EQ(view->GetWindowState(0), WindowState::kHeld);
  EXPECT_EQ(view->GetWindowState(1), WindowState::kMissing);
  EXPECT_EQ(view->GetWindowState(2), WindowState::kHeld);
}

TEST(MemoryView, MergesTheClassesOfAWindow) {
  const auto view = OpenText(R"(
    ram 0 0x10000
    page 0 3 0xaa
    page 5 2 own
    page 9 1 own
    page 10 2 own
  )");
  for (const uint64_t pfn : {5, 9, 10}) EXPECT_EQ(FirstWord(*view, pfn), pfn);
  EXPECT_EQ(FirstWord(*view, 0), 0xaaaaaaaaaaaaaaaa);
  EXPECT_EQ(StateOf(*view, 0), PageState::kDumped);
  EXPECT_EQ(StateOf(*view, 1), PageState::kExcluded);
}

TEST(MemoryView, OneMissingClassLeavesTheOthersReadable) {
  const auto view = OpenText(R"(
    ram 0 0x10000
    page 0-3 1 own
    page 4-7 2 own
    drop 2 0
  )");
  EXPECT_EQ(FirstWord(*view, 3), 3u);
  EXPECT_EQ(StateOf(*view, 4), PageState::kMissing);
  EXPECT_EQ(StateOf(*view, 9), PageState::kMissing);  // may be in the block that is missing
  EXPECT_EQ(view->GetWindowState(0), WindowState::kPartial);
}

TEST(MemoryView, LowestClassThatHasThePageCounts) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  builder.AddPage(0, 1);
  auto source = builder.Build();
  // A page that changed its class between two passes: class 1 could not read it.
  source->Put(1, 0,
              EncodeBlock(DCAST_CODEC_NONE, 12, 0b111, 0, 0b001,
                          std::string(kPage, '1') + std::string(kPage, '1')));
  source->Put(2, 0,
              EncodeBlock(DCAST_CODEC_NONE, 12, 0b011, 0, 0,
                          std::string(kPage, '2') + std::string(kPage, '2')));
  const auto view = *MemoryView::Open(source);
  std::string page(kPage, '\0');
  EXPECT_EQ(*view->ReadPage(0, page.data()), PageState::kDumped);
  EXPECT_EQ(page[0], '2');
  EXPECT_EQ(*view->ReadPage(1, page.data()), PageState::kDumped);
  EXPECT_EQ(page[0], '1');
  EXPECT_EQ(StateOf(*view, 0), PageState::kDumped);
}

TEST(MemoryView, UnknownPresenceMakesEverythingElseMissing) {
  const auto view = OpenText(R"(
    ram 0 0x20000
    page 0 1 own
    drop_stream 5
  )");
  EXPECT_EQ(FirstWord(*view, 0), 0u);
  EXPECT_EQ(StateOf(*view, 1), PageState::kMissing);
  EXPECT_EQ(view->GetWindowState(1), WindowState::kMissing);
}

TEST(MemoryView, UndecodableBlockCountsAsMissing) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  builder.AddPage(0, 1, std::string(kPage, 'x'));
  auto source = builder.Build();
  source->Put(1, 0, "no header at all, but long enough");
  const auto view = *MemoryView::Open(source);
  EXPECT_EQ(StateOf(*view, 0), PageState::kMissing);
}

TEST(MemoryView, ErrorsOfTheSourceComeBack) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  builder.AddPage(0, 1, std::string(kPage, 'x'));
  auto source = builder.Build();
  const auto view = *MemoryView::Open(source);
  source->Fail(1, 0, absl::UnavailableError("disk"));
  std::string page(kPage, '\0');
  EXPECT_EQ(view->ReadPage(0, page.data()).status(), absl::UnavailableError("disk"));
  EXPECT_EQ(view->ReadOrZero(0, 8, page.data()), absl::UnavailableError("disk"));
  EXPECT_EQ(view->ReadWindowPages(0).status(), absl::UnavailableError("disk"));
}

TEST(MemoryView, RangesCrossPagesAndWindows) {
  const auto view = OpenText(R"(
    ram 0 0x20000
    page 14-15 1 own
    page 16 2 own
    page 17 2 zero
  )");
  std::string bytes(3 * kPage, '?');
  ASSERT_TRUE(view->ReadExact(14 * kPage + 8, bytes.size(), bytes.data()).ok());
  uint64_t word;
  std::memcpy(&word, bytes.data() + kPage - 8, sizeof(word));
  EXPECT_EQ(word, 15u);
  std::memcpy(&word, bytes.data() + 2 * kPage - 8, sizeof(word));
  EXPECT_EQ(word, 16u);
  std::memcpy(&word, bytes.data() + 3 * kPage - 8, sizeof(word));
  EXPECT_EQ(word, 0u);
}

TEST(MemoryView, ExactReadSaysWhyNotAndZeroReadGoesOn) {
  const auto view = OpenText(R"(
    ram 0 0x20000
    page 0 1 0xff
    page 16 1 own
    drop 1 1
  )");
  std::string bytes(2 * kPage, '?');
  const absl::Status excluded = view->ReadExact(0, bytes.size(), bytes.data());
  EXPECT_EQ(excluded.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(excluded.message()), HasSubstr("0x1000 is excluded"));
  EXPECT_THAT(std::string(view->ReadExact(16 * kPage, 1, bytes.data()).message()),
              HasSubstr("0x10000 is missing"));
  EXPECT_THAT(std::string(view->ReadExact(uint64_t{1} << 40, 1, bytes.data()).message()),
              HasSubstr("not RAM"));
  ASSERT_TRUE(view->ReadOrZero(0, bytes.size(), bytes.data()).ok());
  EXPECT_EQ(bytes, std::string(kPage, '\xff') + std::string(kPage, '\0'));
  EXPECT_EQ(view->ReadOrZero(~uint64_t{0}, 2, bytes.data()).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(MemoryView, WindowRunsJoinEqualStates) {
  const auto view = OpenText(R"(
    ram 0 0x100000
    page 0x00-0x3f 1 own    # windows 0..3
    page 0x50 1 zero        # window 5
    drop 1 2
  )");
  const std::vector<WindowRun> runs = view->WindowRuns(0, 15);
  ASSERT_EQ(runs.size(), 6u);
  const WindowState states[] = {WindowState::kHeld,   WindowState::kMissing, WindowState::kHeld,
                                WindowState::kAbsent, WindowState::kHeld,    WindowState::kAbsent};
  const uint64_t counts[] = {2, 1, 1, 1, 1, 10};
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(runs[i].state, states[i]) << i;
    EXPECT_EQ(runs[i].count, counts[i]) << i;
  }
  EXPECT_EQ(view->WindowRuns(3, 3).front().state, WindowState::kHeld);
}

TEST(MemoryView, LargePages) {
  const auto view = OpenText(R"(
    page_shift 16
    ram 0 0x40000
    page 1 1 own
    page 3 2 0x55
  )");
  std::string page(65536, '?');
  EXPECT_EQ(*view->ReadPage(3, page.data()), PageState::kDumped);
  EXPECT_EQ(page, std::string(65536, '\x55'));
  EXPECT_EQ(*view->ReadPage(2, page.data()), PageState::kExcluded);
}

TEST(MemoryView, ThreadsReadMoreWindowsThanTheCacheHolds) {
  std::string text = "ram 0 0x400000\npage 0-1023 1 own\n";
  const auto view = OpenText(text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 4096; ++i) {
        const uint64_t pfn = (i * 37 + static_cast<uint64_t>(t) * 251) % 1024;
        if (FirstWord(*view, pfn) != pfn) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(DumpBuilder, SaysWhichLineItDoesNotUnderstand) {
  EXPECT_THAT(std::string(DumpBuilder::FromText("ram 0 10\npage x 1 own").status().message()),
              HasSubstr("line 2"));
  EXPECT_FALSE(DumpBuilder::FromText("page 0 4 own").ok());
  EXPECT_FALSE(DumpBuilder::FromText("bytes 0x1000 00").ok());
  EXPECT_FALSE(DumpBuilder::FromText("ram 1").ok());
}

}  // namespace
}  // namespace dumpcast
