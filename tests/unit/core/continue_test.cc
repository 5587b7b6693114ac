// SPDX-License-Identifier: Apache-2.0
// The second sender of a dump: no walk, answers by window, and what it does when nobody asks.
#include <set>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMs = 1'000'000;

dcast_nak_entry Whole(unsigned block_class, uint64_t number) {
  dcast_nak_entry e = {};
  e.number = dcast_to_le64(number);
  e.count = dcast_to_le32(1);
  e.block_class = static_cast<__u8>(block_class);
  return e;
}

class ContinueTest : public ::testing::Test {
 protected:
  ContinueTest() : host_({{0, 4 * kMiB}}) {}
  void Continue() {
    host_.Init();
    host_.Begin();
    dcast_sender_continue(host_.sender.get(), host_.now_ns);
  }
  void RunFor(uint64_t ns) {
    host_.Run([] { return false; }, ns);
  }
  std::set<BlockId> Blocks() const {
    std::set<BlockId> found;
    for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
      found.insert({p->hdr().block_class, p->number()});
    }
    return found;
  }
  FakeHost host_;
};

TEST_F(ContinueTest, SaysThatItAnswersAndSendsMetaAlone) {
  Continue();
  RunFor(1000 * kMs);
  ASSERT_FALSE(host_.Sent(DCAST_ANNOUNCE).empty());
  for (const SentPacket* p : host_.Sent(DCAST_ANNOUNCE)) {
    EXPECT_EQ(p->as<dcast_announce>().state, DCAST_ST_LINGER);
  }
  EXPECT_TRUE(host_.Sent(DCAST_END).empty()) << "it has nothing to sum up";
  EXPECT_EQ(Blocks(), (std::set<BlockId>{{0, 0}}));
}

TEST_F(ContinueTest, ABlockOfAnyClassHoldsAllPagesOfItsWindow) {
  for (unsigned i = 0; i < 16; ++i) host_.class_override[5 * 16 + i] = i % 4;  // every 4th excluded
  host_.unreadable[5 * 16 + 2] = true;
  Continue();
  host_.Hello(7);
  host_.Nak(7, {Whole(1, 5), Whole(3, 5)});
  RunFor(100 * kMs);
  Reassembler r;
  r.keys = host_.secrets.wire;
  for (const SentPacket& p : host_.packets) r.Add(p);
  for (const unsigned c : {1u, 3u}) {
    ASSERT_TRUE(r.blocks.count({c, 5})) << c;
    const dcast_block_hdr header = Reassembler::Header(r.blocks[{c, 5}]);
    EXPECT_EQ(dcast_le16(header.present), 0xeeee) << c;
    EXPECT_EQ(dcast_le16(header.unreadable), 4) << c;
  }
}

TEST_F(ContinueTest, AWindowWithoutPagesIsEmpty) {
  for (unsigned i = 0; i < 16; ++i) host_.class_override[5 * 16 + i] = 0;
  Continue();
  host_.Hello(7);
  host_.Nak(7, {Whole(2, 5)});
  RunFor(100 * kMs);
  ASSERT_EQ(host_.Sent(DCAST_EMPTY).size(), 1u);
  EXPECT_EQ(host_.Sent(DCAST_EMPTY)[0]->hdr().block_class, 2);
}

TEST_F(ContinueTest, EndsAtOnceWhenRelaysHaveItAll) {
  Continue();
  host_.Hello(7);
  host_.Commit(7);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE, 500 * kMs));
  EXPECT_TRUE(dcast_sender_committed(host_.sender.get()));
}

TEST_F(ContinueTest, EndsAfterItsLingerWhenNobodyAnswers) {
  Continue();
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE, 3000 * kMs));
  EXPECT_GE(host_.now_ns, 1'000'000'000 + host_.config.linger_ns);
  EXPECT_EQ(Blocks(), (std::set<BlockId>{{0, 0}}));
  EXPECT_FALSE(dcast_sender_committed(host_.sender.get()));
}

TEST_F(ContinueTest, SendsAllOnceWhenNobodyAnswersAndItMay) {
  host_.config.blind_passes = 1;
  Continue();
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_DONE));
  Reassembler r;
  r.keys = host_.secrets.wire;
  for (const SentPacket& p : host_.packets) r.Add(p);
  for (uint64_t pfn = 0; pfn < 4 * kMiB / 4096; ++pfn) {
    if (host_.ClassOf(pfn) == 0) continue;
    const BlockId id{host_.ClassOf(pfn), pfn / 16};
    ASSERT_TRUE(r.blocks.count(id)) << pfn;
    EXPECT_TRUE(dcast_le16(Reassembler::Header(r.blocks[id]).present) >> pfn % 16 & 1) << pfn;
  }
  ASSERT_FALSE(host_.Sent(DCAST_END).empty()) << "now it has counted";
  EXPECT_GT(dcast_le64(host_.Sent(DCAST_END)[0]->as<dcast_end>().cls[2].blocks), 0u);
}

TEST_F(ContinueTest, StopsSendingAllWhenARelayIsHeard) {
  host_.config.blind_passes = 1;
  host_.config.rate_kib_s = 1000;
  Continue();
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_PASS));
  RunFor(200 * kMs);
  host_.Hello(7);
  ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER, 200 * kMs));
  EXPECT_LT(Blocks().size(), 64u);
}

}  // namespace
}  // namespace dumpcast
