// SPDX-License-Identifier: Apache-2.0
#include "kmod/core/send/page_filter.h"

#include <string>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/core/send/crashed_memory.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using M = CrashedMemory;

class PageFilterTest : public ::testing::Test {
 protected:
  std::unique_ptr<PageFilter> Make(const std::string& vmcoreinfo = M::Vmcoreinfo()) {
    auto filter = PageFilter::Create(
        [this](uint64_t at, void* dst, size_t n) { return memory_.Read(at, dst, n); }, vmcoreinfo);
    EXPECT_TRUE(filter.ok()) << filter.status();
    return filter.ok() ? *std::move(filter) : nullptr;
  }
  // '#' kept, '.' excluded: the pages of a window.
  std::string Kept(uint64_t window, unsigned level, const std::string& info = M::Vmcoreinfo()) {
    uint8_t cls[DCAST_MAX_WINDOW_PAGES] = {};
    Make(info)->Classes(window, level, cls);
    std::string text;
    for (int i = 0; i < 16; ++i) text += cls[i] == 2 ? '#' : '.';
    return text;
  }
  M memory_;
};

TEST_F(PageFilterTest, TranslatesThroughTablesAndLargePages) {
  const auto filter = Make();
  uint64_t physical = 0;
  ASSERT_TRUE(filter->Translate(M::kDirect + 0x123456, &physical));
  EXPECT_EQ(physical, 0x123456u);
  ASSERT_TRUE(filter->Translate(M::kVmemmap + 0x1040, &physical));
  EXPECT_EQ(physical, M::kStructs + 0x1040);
  EXPECT_FALSE(filter->Translate(0xffffc90000000000, &physical));
}

TEST_F(PageFilterTest, KernelPagesStayAtEveryLevel) {
  memory_.SetFlags(16 + 3, M::kSlab);
  memory_.SetMapping(16 + 3, 1);  // slab reuses the word
  EXPECT_EQ(Kept(1, 31), "################");
}

TEST_F(PageFilterTest, CacheAndUserPagesGoByTheirLevels) {
  memory_.SetFlags(16, M::kLru);                   // page cache
  memory_.SetFlags(17, M::kLru | M::kPrivate);     // with buffers
  memory_.SetFlags(18, M::kLru | M::kSwapBacked);  // anonymous
  memory_.SetMapping(18, M::kDirect | 1);
  memory_.SetFlags(19, M::kSwapCache | M::kSwapBacked);
  memory_.SetFlags(20, M::kSwapCache);  // not without the other
  EXPECT_EQ(Kept(1, 0), "################");
  EXPECT_EQ(Kept(1, 2), ".##.############");
  EXPECT_EQ(Kept(1, 4), "..#.############");
  EXPECT_EQ(Kept(1, 8), "##.#############");
  EXPECT_EQ(Kept(1, 31), "....############");
}

TEST_F(PageFilterTest, FreeBlocksReachIntoOtherWindows) {
  memory_.SetFree(64, 6);  // 64 pages: windows 4..7
  memory_.SetFree(128 + 4, 1);
  memory_.SetFree(128 + 8, 40);  // no order: not believed
  EXPECT_EQ(Kept(4, 31), "................");
  EXPECT_EQ(Kept(5, 31), "................");
  EXPECT_EQ(Kept(7, 31), "................");
  EXPECT_EQ(Kept(8, 31), "####..##########");
  EXPECT_EQ(Kept(4, 15), "################");
}

TEST_F(PageFilterTest, ACompoundPageIsWhatItsHeadIs) {
  memory_.SetFlags(24, M::kLru);
  memory_.SetMapping(24, 1);
  memory_.SetCompound(24, 8);
  EXPECT_EQ(Kept(1, 8), "########........");
  memory_.Set64(memory_.At(30) + 8, M::kVmemmap + 31 * 64 + 1);  // a head behind its tail
  EXPECT_EQ(Kept(1, 8), "########......#.") << "what cannot be is kept";
}

TEST_F(PageFilterTest, HugePagesOfUsersAreUsers) {
  memory_.SetCompound(32, 16);
  memory_.Set8(memory_.At(33) + 16, M::kHugetlbDtor);
  EXPECT_EQ(Kept(2, 8), "................");
  EXPECT_EQ(Kept(2, 4), "################");
}

TEST_F(PageFilterTest, PoisonedAndOfflinePagesNeverLeave) {
  memory_.SetFlags(17, M::kPoison);
  memory_.SetType(18, M::kOffline);
  EXPECT_EQ(Kept(1, 0), "#..#############");
}

TEST_F(PageFilterTest, TypesOfNewerKernelsAreNamedByTheTopByte) {
  std::string info = absl::StrReplaceAll(
      M::Vmcoreinfo(),
      {{"PAGE_BUDDY_MAPCOUNT_VALUE)=-129", "PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456"},
       {"NUMBER(PG_slab)=9\n", "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\n"},
       {"NUMBER(HUGETLB_PAGE_DTOR)=2\n", "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n"}});
  memory_.SetType(16, 0xf0000000 | 5);  // buddy
  memory_.SetType(17, 0xf5000000 | 9);  // slab
  memory_.SetMapping(17, 1);
  memory_.SetType(18, 0xf4000000);  // hugetlb
  EXPECT_EQ(Kept(1, 31, info), ".#.#############");
}

TEST_F(PageFilterTest, SectionsThatAreNotOnlineAreNotMemory) {
  memory_.Set64(0x6000, M::kVmemmap | 3);
  EXPECT_EQ(Kept(1, 0), "................");
}

TEST_F(PageFilterTest, AVmcoreinfoThatLacksSomethingIsRefusedByName) {
  const auto filter = PageFilter::Create(
      [](uint64_t, void*, size_t) { return false; },
      absl::StrReplaceAll(M::Vmcoreinfo(), {{"SIZE(page)=64\n", ""}, {"NUMBER(PG_lru)=4\n", ""}}));
  ASSERT_FALSE(filter.ok());
  EXPECT_THAT(filter.status().message(), HasSubstr("SIZE(page), NUMBER(PG_lru)"));
}

TEST_F(PageFilterTest, LayoutsThatCannotBeAreRefused) {
  for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
           {"SIZE(page)=64", "SIZE(page)=40"},
           {"OFFSET(page.flags)=0", "OFFSET(page.flags)=60"},
           {"SIZE(mem_section)=16", "SIZE(mem_section)=0"},
           {"NUMBER(SECTION_SIZE_BITS)=27", "NUMBER(SECTION_SIZE_BITS)=-1"},
           {"NUMBER(PG_lru)=4", "NUMBER(PG_lru)=64"}}) {
    EXPECT_FALSE(PageFilter::Create([](uint64_t, void*, size_t) { return false; },
                                    absl::StrReplaceAll(M::Vmcoreinfo(), {{from, to}}))
                     .ok())
        << to;
  }
}

}  // namespace
}  // namespace dumpcast
