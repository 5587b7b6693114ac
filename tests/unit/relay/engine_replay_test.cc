// SPDX-License-Identifier: Apache-2.0
// Packets that come again.
#include "relay/engine.h"

#include "gtest/gtest.h"
#include "tests/unit/relay/engine_double.h"

namespace dumpcast {
namespace {

TEST(EngineReplayTest, ReplayOfASealedDumpChangesNothing) {
  EngineDouble d;
  std::vector<std::string> recorded = d.sender.Class0(5);
  recorded.insert(recorded.begin(), d.sender.Announce(DCAST_ST_DUMPING));
  for (unsigned w = 0; w < 5; ++w)
    for (auto& packet : d.sender.Symbols(1, w, SenderDouble::Page(w))) recorded.push_back(packet);
  recorded.push_back(d.sender.End());
  d.Receive(recorded);
  d.Run(10 * kSecond);
  ASSERT_TRUE(d.View().complete);
  const size_t ops = d.ops.size();
  d.Receive(recorded);
  d.Run(20 * kSecond);
  EXPECT_TRUE(d.View().complete);
  for (size_t i = ops; i < d.ops.size(); ++i)
    EXPECT_EQ(d.ops[i].kind, StoreOp::Kind::kHost) << "a record of the host at most";
  EXPECT_EQ(d.Count(Counter::kReplay), recorded.size());
}

TEST(EngineReplayTest, ReplayToARelayThatHasJustStartedUnsealsNothing) {
  EngineDouble first;
  std::vector<std::string> recorded = first.sender.Class0(5);
  recorded.push_back(first.sender.Announce(DCAST_ST_DUMPING));
  recorded.push_back(first.sender.Announce(DCAST_ST_LINGER));
  recorded.push_back(first.sender.End());
  for (const bool complete : {true, false}) {
    // As after a restart: the store's record, and of an incomplete dump its keys.
    EngineDouble d;
    RestoredDump record;
    record.key = SenderDouble::Dump();
    record.key_epoch = SenderDouble::kEpoch;
    record.sealed = true;
    record.complete = complete;
    record.committed_lanes = complete ? 1 : 0;
    d.engine.RestoreDump(d.now, record);
    if (!complete) {
      d.engine.RestoreBlock(record.key, {0, 0, 1}, SenderDouble::Class0Encodings(5)[0]);
      d.engine.RestoreBlock(record.key, {0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0), 1},
                            SenderDouble::Class0Encodings(5)[1]);
    }
    d.Receive(recorded);
    d.Run(20 * kSecond);
    EXPECT_TRUE(d.View().sealed);
    EXPECT_EQ(d.View().complete, complete);
    EXPECT_EQ(d.Ops(StoreOp::Kind::kOpenDump), 0u);
    EXPECT_EQ(d.Ops(StoreOp::Kind::kPut), 0u);
    EXPECT_EQ(d.Ops(StoreOp::Kind::kSeal), 0u);
    // A sender that is really there is asked for what is missing.
    EXPECT_EQ(d.Replies(DCAST_NAK) != 0, !complete);
  }
}

TEST(EngineReplayTest, OldEndIsIgnored) {
  EngineDouble d;
  const std::string old = d.sender.End();
  d.Receive(d.sender.Class0(5));
  const std::string newer = d.sender.End();
  d.Receive(newer);
  d.Receive(old);
  EXPECT_EQ(d.Count(Counter::kEnd), 1u);
  EXPECT_EQ(d.Count(Counter::kReplay), 1u);
}

TEST(EngineReplayTest, OwnPacketsAreNotBelieved) {
  EngineDouble d;
  d.sender.origin = EngineDouble::Config().relay_id;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  EXPECT_EQ(d.Count(Counter::kOwn), 1u);
  EXPECT_TRUE(d.engine.ListDumps().empty());
}

TEST(EngineReplayTest, RepliesDoNotFollowAReplay) {
  EngineDouble d;
  d.Receive(d.sender.Class0(4));
  const std::string old = d.sender.Symbol(1, 0, SenderDouble::Page(0), 0);
  d.Receive(old);
  for (uint64_t i = 0; i <= SeqWindow::kBits; ++i)
    d.Receive(d.sender.Symbol(1, 1, SenderDouble::Page(1), 0));
  d.Receive(d.sender.End());
  const Address host = d.from;
  d.from.ifindex = 99;
  d.Receive(old);
  d.Run(kSecond);
  ASSERT_GE(d.Replies(DCAST_NAK), 1u);
  for (const Reply& reply : d.replies) EXPECT_EQ(reply.to, host);
}

TEST(EngineReplayTest, AReplayDoesNotKeepAHostAlive) {
  EngineDouble d;
  d.Receive(d.sender.Class0(4));
  const std::string old = d.sender.Symbol(1, 0, SenderDouble::Page(0), 0);
  d.Receive(old);
  for (uint64_t i = 0; i <= SeqWindow::kBits; ++i)
    d.Receive(d.sender.Symbol(1, 1, SenderDouble::Page(1), 0));
  for (int i = 0; i < 200; ++i) {
    d.Receive(old);
    d.Run(100 * kMillisecond);
  }
  EXPECT_TRUE(d.View().sealed);
  EXPECT_EQ(d.Events(Event::Kind::kSealedIncomplete), 1u);
}

TEST(EngineReplayTest, ADumpThatPeersCompletedIsCommittedToItsHost) {
  EngineDouble d;
  RestoredDump record;
  record.key = SenderDouble::Dump();
  record.key_epoch = SenderDouble::kEpoch;
  record.sealed = record.complete = true;
  d.engine.RestoreDump(d.now, record);
  d.engine.SealedByReplication(record.key);
  d.Receive(d.sender.End());
  d.Run(100 * kMillisecond);
  ASSERT_GE(d.Replies(DCAST_COMMIT), 1u);
  dcast_commit commit;
  std::memcpy(&commit, d.replies.back().payload.data() + sizeof(dcast_hdr), sizeof(commit));
  EXPECT_EQ(dcast_le64(commit.lane_mask) & 1, 1u);
}

}  // namespace
}  // namespace dumpcast
