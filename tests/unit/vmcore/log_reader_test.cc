// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/log_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vmcore/log_ring.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPrb = 0x1000;
constexpr uint64_t kDescs = 0x2000;
constexpr uint64_t kInfos = 0x10000;  // the next window
constexpr uint64_t kTexts = 0x20ff8;  // across a page

class PrintkRingTest : public ::testing::Test {
 protected:
  PrintkRingTest() {
    builder_.ram = {{0, 0x100000}};
    for (uint64_t pfn = 0; pfn < 0x40; ++pfn) builder_.AddPage(pfn, 1);
    ring_.emplace(&builder_, kPrb, kDescs, kInfos, kTexts);
  }

  std::shared_ptr<const MemoryView> Memory() {
    auto source = builder_.Build();
    if (drop_window_ >= 0) source->Drop(1, static_cast<uint64_t>(drop_window_));
    return *MemoryView::Open(source);
  }
  absl::StatusOr<PrintkRing> Read() { return ReadPrintkRing(*Memory()); }
  std::string Text() {
    absl::StatusOr<PrintkRing> ring = Read();
    EXPECT_TRUE(ring.ok()) << ring.status();
    return ring.ok() ? ring->text : "";
  }

  DumpBuilder builder_;
  std::optional<LogRing> ring_;
  int drop_window_ = -1;
};

TEST_F(PrintkRingTest, RecordsInOrderAsDmesgShowsThem) {
  ring_->Add(0, "Linux version 6.1");
  ring_->Add(1'234'567'890, "Command line: panic=1");
  ring_->Add(123'456'000'000'000, "late");
  EXPECT_EQ(Text(),
            "[    0.000000] Linux version 6.1\n"
            "[    1.234567] Command line: panic=1\n"
            "[123456.000000] late\n");
}

TEST_F(PrintkRingTest, EachLineOfAMessageHasThePrefix) {
  ring_->Add(5'000, "one\ntwo\n\nthree\n");
  EXPECT_EQ(Text(),
            "[    0.000005] one\n[    0.000005] two\n[    0.000005] \n[    0.000005] three\n");
}

TEST_F(PrintkRingTest, TerminalCommandsAreEscaped) {
  ring_->Add(0, std::string("tab\tesc\x1b[2J bell\x07 del\x7f nul\0end \xc3\xa9", 33));
  EXPECT_EQ(Text(), "[    0.000000] tab\tesc\\x1b[2J bell\\x07 del\\x7f nul\\x00end \xc3\xa9\n");
}

TEST_F(PrintkRingTest, OldRecordsAreOverwrittenAndTextWraps) {
  std::string wanted;
  for (int i = 0; i < 30; ++i) {
    const std::string text = "record " + std::to_string(i) + std::string(20, 'x');
    ring_->Add(0, text);
    if (i >= 22) wanted += "[    0.000000] " + text + "\n";
  }
  EXPECT_EQ(Text(), wanted);
}

TEST_F(PrintkRingTest, BlockThatEndsWithTheRing) {
  // Kernels after 6.12 let a block end exactly at the end; older ones move it to the start.
  const uint64_t size = uint64_t{1} << LogRing::kSizeBits;
  const uint64_t id = ring_->AddAt(0, 4, size - 16, size, LogRing::kFinalized);
  builder_.Write64(kTexts + size - 16, id);
  builder_.Write(kTexts + size - 8, "last");
  EXPECT_EQ(Text(), "[    0.000000] last\n");
}

TEST_F(PrintkRingTest, OnlyCommittedAndFinalizedRecordsAreShown) {
  ring_->Add(0, "committed", LogRing::kCommitted);
  ring_->Add(0, "reserved", LogRing::kReserved);
  ring_->Add(0, "reusable", LogRing::kReusable);
  ring_->Add(0, "finalized", LogRing::kFinalized);
  absl::StatusOr<PrintkRing> ring = Read();
  ASSERT_TRUE(ring.ok());
  EXPECT_EQ(ring->text, "[    0.000000] committed\n[    0.000000] finalized\n");
  EXPECT_EQ(ring->records, 2u);
  EXPECT_EQ(ring->lost_records, 0u);
}

TEST_F(PrintkRingTest, RecordsWithoutDataAreEmptyLines) {
  ring_->AddAt(7'000, 0, 1, 1, LogRing::kFinalized);  // FAILED_LPOS
  ring_->AddAt(8'000, 0, 3, 3, LogRing::kFinalized);  // NO_LPOS
  EXPECT_EQ(Text(), "[    0.000007] \n[    0.000008] \n");
}

TEST_F(PrintkRingTest, TextOfAnotherRecordIsNotShown) {
  ring_->Add(0, "first");
  ring_->AddAt(0, 5, 0, 16, LogRing::kFinalized);  // says it lies where the first one does
  absl::StatusOr<PrintkRing> ring = Read();
  ASSERT_TRUE(ring.ok());
  EXPECT_EQ(ring->text, "[    0.000000] first\n");
  EXPECT_EQ(ring->lost_records, 1u);
}

TEST_F(PrintkRingTest, LengthIsCutToTheBlock) {
  const uint64_t id = ring_->AddAt(0, 60000, 0, 16, LogRing::kFinalized);
  builder_.Write64(kTexts, id);
  builder_.Write(kTexts + 8, "eightbyt");
  EXPECT_EQ(Text(), "[    0.000000] eightbyt\n");
}

TEST_F(PrintkRingTest, LostMemoryLosesRecordsNotTheLog) {
  ring_->Add(0, "only its text is lost");
  drop_window_ = 2;
  absl::StatusOr<PrintkRing> ring = Read();
  ASSERT_TRUE(ring.ok()) << ring.status();
  EXPECT_EQ(ring->records, 0u);
  EXPECT_EQ(ring->lost_records, 1u);
  drop_window_ = 0;
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(PrintkRingTest, RidiculousSizesAreRefused) {
  ring_->Add(0, "text");
  builder_.Write32(ring_->ring(), 63);
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss);
  builder_.Write32(ring_->ring(), LogRing::kCountBits);
  builder_.Write32(ring_->ring() + 48, 0);
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss);
  builder_.Write32(ring_->ring() + 48, LogRing::kSizeBits);
  ring_->SetIds(0, 9);  // ten records in a ring of eight
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(PrintkRingTest, VmcoreinfoWithoutTheRingIsNotFound) {
  const std::string good = builder_.vmcoreinfo;
  for (const char* line : {"SYMBOL(prb)", "SIZE(prb_desc)", "OFFSET(printk_info.text_len)",
                           "OFFSET(atomic_long_t.counter)"}) {
    builder_.vmcoreinfo = good;
    builder_.vmcoreinfo.replace(builder_.vmcoreinfo.find(line), 3, "???");
    EXPECT_EQ(Read().status().code(), absl::StatusCode::kNotFound) << line;
  }
  builder_.vmcoreinfo.clear();
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(PrintkRingTest, VmcoreinfoWithImpossibleOffsetsIsRefused) {
  const std::string good = builder_.vmcoreinfo;
  const std::pair<const char*, const char*> changes[] = {
      {"SIZE(prb_desc)=24", "SIZE(prb_desc)=0"},
      {"SIZE(prb_desc)=24", "SIZE(prb_desc)=8"},
      {"SIZE(printk_info)=88", "SIZE(printk_info)=9"},
      {"OFFSET(prb_desc.text_blk_lpos)=8", "OFFSET(prb_desc.text_blk_lpos)=99999"},
  };
  for (const auto& [from, to] : changes) {
    builder_.vmcoreinfo = good;
    builder_.vmcoreinfo.replace(builder_.vmcoreinfo.find(from), std::strlen(from), to);
    EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss) << to;
  }
}

TEST_F(PrintkRingTest, GarbageEndsSoonWithinItsBounds) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 8; ++i) ring_->Add(random() % 1'000'000'000'000, std::string(40, 'r'));
    for (int i = 0; i < 4; ++i) builder_.Write64(kDescs + random() % 192, random());
    for (int i = 0; i < 4; ++i) builder_.Write64(kInfos + random() % 704, random());
    absl::StatusOr<PrintkRing> ring = Read();
    if (!ring.ok()) continue;
    EXPECT_LE(ring->records + ring->lost_records, 8u);
  }
}

TEST_F(PrintkRingTest, LogPrefersMemoryThenTheStreamThenWhatIsLeft) {
  ring_->Add(0, "from memory");
  builder_.log = "from the stream";
  absl::StatusOr<KernelLog> log = ReadKernelLog(*Memory());
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(log->origin, LogOrigin::kMemory);
  EXPECT_EQ(log->text, "[    0.000000] from memory\n");
  EXPECT_TRUE(log->memory_status.ok());

  drop_window_ = 2;
  log = ReadKernelLog(*Memory());
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(log->origin, LogOrigin::kStream);
  EXPECT_EQ(log->text, "from the stream\n");
  EXPECT_FALSE(log->memory_status.ok());

  builder_.log.clear();
  ring_->AddAt(0, 0, 3, 3, LogRing::kFinalized);
  log = ReadKernelLog(*Memory());
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(log->origin, LogOrigin::kMemory);
  EXPECT_THAT(std::string(log->memory_status.message()), HasSubstr("1 of 2 records"));

  drop_window_ = 0;
  log = ReadKernelLog(*Memory());
  EXPECT_EQ(log.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("stream LOG"));
}

}  // namespace
}  // namespace dumpcast
