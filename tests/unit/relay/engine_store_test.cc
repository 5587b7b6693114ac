// SPDX-License-Identifier: Apache-2.0
// What becomes of a dump that is incomplete, deleted, or that the store refuses.
#include "relay/engine.h"

#include "gtest/gtest.h"
#include "tests/unit/relay/engine_double.h"

namespace dumpcast {
namespace {

// The store does all that comes before a seal, which is left to the caller.
StoreOp WorkUpToSeal(EngineDouble& d) {
  for (; d.now < 200 * kSecond; d.now += 10 * kMillisecond) {
    d.engine.Tick(d.now);
    for (StoreOp& op : d.engine.TakeStoreOps(d.now)) {
      if (op.kind == StoreOp::Kind::kSeal) return op;
      d.engine.StoreDone(d.now, op.id, absl::OkStatus());
    }
  }
  ADD_FAILURE() << "no seal came";
  return {};
}

TEST(EngineStoreTest, SilentHostIsSealedIncompleteWithAReason) {
  EngineDouble d;
  d.Receive(d.sender.Class0(5));
  d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
  d.Run(10 * kSecond);
  EXPECT_TRUE(d.View().sealed);
  EXPECT_FALSE(d.View().complete);
  ASSERT_EQ(d.Events(Event::Kind::kSealedIncomplete), 1u);
  EXPECT_EQ(d.events.back().text,
            "the host fell silent: 4 of 7 blocks are missing, and there is no peer");
}

TEST(EngineStoreTest, ABlockOpensAnIncompleteDumpAgain) {
  EngineDouble d;
  d.Receive(d.sender.Class0(3));
  d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
  d.Run(10 * kSecond);
  ASSERT_TRUE(d.View().sealed);
  const size_t opened = d.Ops(StoreOp::Kind::kOpenDump);
  d.Receive(d.sender.Symbols(1, 1, SenderDouble::Page(1)));
  d.Work();
  EXPECT_FALSE(d.View().sealed);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kOpenDump), opened + 1);
  d.Receive(d.sender.Symbols(1, 2, SenderDouble::Page(2)));
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
}

TEST(EngineStoreTest, SealThatReplicationOvertookSaysNothing) {
  EngineDouble d;
  d.Receive(d.sender.Class0(3));
  d.now += 2 * kSecond;
  d.Run(kSecond);
  // The incomplete seal is at the store while replication completes the dump.
  const StoreOp seal = WorkUpToSeal(d);
  d.engine.SealedByReplication(SenderDouble::Dump());
  d.engine.StoreDone(d.now, seal.id, absl::OkStatus());
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_EQ(d.Events(Event::Kind::kSealedIncomplete), 0u);
}

TEST(EngineStoreTest, DumpDeletedWhileItIsSealedStaysDeclined) {
  for (const absl::Status& answer :
       {absl::OkStatus(), absl::FailedPreconditionError("the dump was deleted"),
        absl::UnavailableError("the disk")}) {
    EngineDouble d;
    d.ReceiveAll(3);
    const StoreOp seal = WorkUpToSeal(d);
    d.engine.Decline(d.now, SenderDouble::Dump());
    d.engine.StoreDone(d.now, seal.id, answer);
    d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
    d.Receive(d.sender.End());
    d.Run(kSecond);
    EXPECT_TRUE(d.View().declined);
    EXPECT_GT(d.Count(Counter::kDeclined), 0u);
    EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
  }
}

TEST(EngineStoreTest, DumpThatTheStoreHasDeletedIsDeclined) {
  EngineDouble d;
  d.refuse[StoreOp::Kind::kSeal] = absl::FailedPreconditionError("the dump was deleted");
  d.ReceiveAll(3);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().declined);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kSeal), 1u) << "not again and again";
}

TEST(EngineStoreTest, FullStoreDeclinesANewDumpAndTakesItLater) {
  EngineDouble d;
  d.refuse[StoreOp::Kind::kOpenDump] = absl::ResourceExhaustedError("full");
  d.Receive(d.sender.Class0(3));
  d.Work();
  EXPECT_TRUE(d.engine.ListDumps().empty());
  EXPECT_EQ(d.Events(Event::Kind::kDiskFull), 1u);
  d.refuse.clear();
  d.Run(10 * kSecond);
  d.ReceiveAll(3);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
}

TEST(EngineStoreTest, BlocksThatTheStoreRefusesAreAskedForAgain) {
  EngineDouble d;
  d.Receive(d.sender.Class0(3));
  d.Work();
  d.refuse[StoreOp::Kind::kPut] = absl::ResourceExhaustedError("full");
  for (unsigned w = 0; w < 3; ++w) d.Receive(d.sender.Symbols(1, w, SenderDouble::Page(w)));
  d.Work();
  EXPECT_EQ(d.Count(Counter::kStoreRefused), 3u);
  EXPECT_EQ(d.View().missing, 3u);
  d.refuse.clear();
  for (int i = 0; i < 50; ++i) {  // the sender lingers
    d.Receive(d.sender.End());
    d.Run(100 * kMillisecond);
  }
  EXPECT_GE(d.Replies(DCAST_NAK), 1u);
}

// The first symbol of a block says something else than its digest does; its MAC is right.
std::vector<std::string> WithAFault(std::vector<std::string> symbols) {
  dcast_hdr hdr;
  std::memcpy(&hdr, symbols[0].data(), sizeof(hdr));
  std::string payload = symbols[0].substr(sizeof(hdr));
  payload.back() ^= 1;
  symbols[0] = SenderDouble::Seal(hdr, payload);
  return symbols;
}

TEST(EngineStoreTest, ABlockThatIsNotWhatItsDigestSaysIsAskedForAgain) {
  EngineDouble d;
  d.Receive(d.sender.Class0(2));
  d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
  const std::vector<std::string> symbols =
      WithAFault(d.sender.Symbols(1, 1, SenderDouble::Page(1)));
  d.Receive(symbols);
  d.Work();
  EXPECT_EQ(d.Count(Counter::kBlocksBadDigest), 1u);
  EXPECT_EQ(d.Count(Counter::kBadDigest), symbols.size());
  EXPECT_EQ(d.Count(Counter::kStoreRefused), 0u) << "the store was not asked";
  EXPECT_EQ(d.View().missing, 1u);
  EXPECT_EQ(d.engine.waiting_symbols(), 0u);
  for (int i = 0; i < 20; ++i) {  // the sender lingers
    d.Receive(d.sender.End());
    d.Run(100 * kMillisecond);
  }
  EXPECT_GE(d.Replies(DCAST_NAK), 1u);
  EXPECT_FALSE(d.View().sealed);
  d.Receive(d.sender.Symbols(1, 1, SenderDouble::Page(1)));
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
}

TEST(EngineStoreTest, Class0ThatIsNotWhatItsDigestSaysIsNotBelieved) {
  EngineDouble d;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  d.Receive(WithAFault(d.sender.Class0(1)));
  d.Work();
  EXPECT_EQ(d.Count(Counter::kBlocksBadDigest), 1u);
  EXPECT_EQ(d.Events(Event::Kind::kClass0Held), 0u);
}

TEST(EngineStoreTest, AFullStoreAsksNobodyUntilAProbeFindsRoom) {
  EngineDouble d;
  d.Receive(d.sender.Class0(3));
  d.Work();
  d.refuse[StoreOp::Kind::kPut] = d.refuse[StoreOp::Kind::kProbe] =
      absl::ResourceExhaustedError("full");
  for (unsigned w = 0; w < 3; ++w) d.Receive(d.sender.Symbols(1, w, SenderDouble::Page(w)));
  d.Work();
  const auto linger = [&d](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      d.Receive(d.sender.End());
      d.Run(100 * kMillisecond);
    }
  };
  linger(200);
  // A host that hears NAKs goes on answering and does not reboot.
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u);
  EXPECT_GE(d.Ops(StoreOp::Kind::kProbe), 5u);
  EXPECT_LE(d.Ops(StoreOp::Kind::kProbe), 11u);
  EXPECT_EQ(d.Events(Event::Kind::kDiskFull), 1u);
  EXPECT_EQ(d.Events(Event::Kind::kDiskRoom), 0u);
  d.refuse.clear();
  linger(50);
  EXPECT_EQ(d.Events(Event::Kind::kDiskRoom), 1u);
  EXPECT_GE(d.Replies(DCAST_NAK), 1u);
}

TEST(EngineStoreTest, TooManyDumpsAreDeclined) {
  EngineConfig config = EngineDouble::Config();
  config.max_dumps = 1;
  EngineDouble d(config);
  d.Receive(d.sender.Class0(3));
  dcast_hdr hdr = d.sender.Header(DCAST_EMPTY);
  hdr.dump_id[0] ^= 1;
  hdr.block_class = 1;
  d.Receive(SenderDouble::Seal(hdr, ""));
  EXPECT_EQ(d.engine.ListDumps().size(), 1u);
  d.Work();
  EXPECT_EQ(d.Events(Event::Kind::kDeclined), 1u);
}

}  // namespace
}  // namespace dumpcast
