// SPDX-License-Identifier: Apache-2.0
// The engine's work done by a real store, and an engine that goes on with what it holds.
#include "relay/writer.h"

#include "gtest/gtest.h"
#include "tests/unit/relay/engine_double.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using dumpcast::testing::OpenOrDie;
using dumpcast::testing::SmallStore;
using dumpcast::testing::TempDir;

class WriterTest : public ::testing::Test {
 protected:
  static StoreOp Op(StoreOp::Kind kind) {
    StoreOp op;
    op.kind = kind;
    op.dump = SenderDouble::Dump();
    op.key_epoch = SenderDouble::kEpoch;
    return op;
  }
  static StoreOp Put(uint64_t number) {
    StoreOp op = Op(StoreOp::Kind::kPut);
    op.encoded = SenderDouble::Page(number);
    op.key = {1, number, SenderDouble::Digest(1, number, op.encoded)};
    return op;
  }
  static StoreOp Seal(bool complete, uint64_t lanes, std::string reason = "") {
    StoreOp op = Op(StoreOp::Kind::kSeal);
    op.complete = complete;
    op.committed_lanes = lanes;
    op.reason = std::move(reason);
    return op;
  }
  v1::DumpRecord Record() { return store_->GetDump(SenderDouble::Dump()).value(); }
  // An engine whose work the store does.
  void Work(EngineDouble& d, TimeNs span) {
    for (const TimeNs end = d.now + span; d.now < end; d.now += 10 * kMillisecond) {
      d.engine.Tick(d.now);
      for (const StoreOp& op : d.engine.TakeStoreOps(d.now))
        d.engine.StoreDone(d.now, op.id, writer_.Do(op));
    }
  }

  TempDir dir_;
  std::unique_ptr<Store> store_ = OpenOrDie(dir_.path());
  int64_t unix_ns_ = 1000;
  Writer writer_{store_.get(), [this] { return unix_ns_; }};
};

TEST_F(WriterTest, RecordBlocksSeal) {
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  ASSERT_TRUE(writer_.Do(Put(1)).ok());
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kFlush)).ok());
  unix_ns_ = 2000;
  ASSERT_TRUE(writer_.Do(Seal(true, 0xf)).ok());
  EXPECT_EQ(Record().receive_unix_ns(), 1000);
  EXPECT_EQ(Record().seal_unix_ns(), 2000);
  EXPECT_TRUE(Record().complete());
  EXPECT_EQ(Record().committed_lanes(), 0xfu);
  EXPECT_EQ(Record().key_epoch(), SenderDouble::kEpoch);
  EXPECT_EQ(store_->GetBlock(SenderDouble::Dump(), Put(1).key).value(), SenderDouble::Page(1));
}

TEST_F(WriterTest, OpeningAgainKeepsTheBeginningAndClearsTheSeal) {
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  ASSERT_TRUE(writer_.Do(Seal(false, 1, "silent")).ok());
  EXPECT_EQ(Record().incomplete_reason(), "silent");
  unix_ns_ = 5000;
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  EXPECT_EQ(Record().receive_unix_ns(), 1000);
  EXPECT_EQ(Record().seal_unix_ns(), 0);
  EXPECT_EQ(Record().incomplete_reason(), "");
  EXPECT_EQ(Record().committed_lanes(), 1u) << "a commit is a promise";
}

TEST_F(WriterTest, CommittedLanesOnlyGrow) {
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  StoreOp commit = Op(StoreOp::Kind::kCommit);
  commit.committed_lanes = 0b10;
  ASSERT_TRUE(writer_.Do(commit).ok());
  commit.committed_lanes = 0b01;
  ASSERT_TRUE(writer_.Do(commit).ok());
  EXPECT_EQ(Record().committed_lanes(), 0b11u);
  EXPECT_EQ(Record().seal_unix_ns(), 0);
}

TEST_F(WriterTest, ASealOfReplicationIsNotOverwritten) {
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  ASSERT_TRUE(store_
                  ->UpdateDump(SenderDouble::Dump(),
                               [](v1::DumpRecord* record) {
                                 record->set_complete(true);
                                 record->set_seal_unix_ns(1500);
                                 return true;
                               })
                  .ok());
  ASSERT_TRUE(writer_.Do(Seal(false, 0, "silent")).ok());
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  EXPECT_TRUE(Record().complete());
  EXPECT_EQ(Record().seal_unix_ns(), 1500);
  EXPECT_EQ(Record().incomplete_reason(), "");
}

TEST_F(WriterTest, NothingBringsADeletedDumpBack) {
  ASSERT_TRUE(writer_.Do(Op(StoreOp::Kind::kOpenDump)).ok());
  ASSERT_TRUE(store_->DeleteDump(SenderDouble::Dump(), 2000).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(writer_.Do(Op(StoreOp::Kind::kOpenDump))));
  EXPECT_FALSE(writer_.Do(Put(1)).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(writer_.Do(Seal(true, 1))));
  EXPECT_TRUE(Record().deleted());
}

TEST_F(WriterTest, AFullDiskBeginsNoDumpAndStoresNoBlockWithoutItsRecord) {
  store_.reset();
  StoreOptions options = SmallStore(dir_.path());
  options.min_free_bytes = ~uint64_t{0} >> 1;
  store_ = Store::Open(options).value();
  Writer writer(store_.get(), [] { return 1; });
  const absl::Status open = writer.Do(Op(StoreOp::Kind::kOpenDump));
  EXPECT_TRUE(absl::IsResourceExhausted(open)) << open;
  EXPECT_TRUE(absl::IsResourceExhausted(writer.Do(Put(1))));
  EXPECT_TRUE(absl::IsNotFound(store_->GetDump(SenderDouble::Dump()).status()));
  EXPECT_TRUE(store_->ListDumps().empty());
}

TEST_F(WriterTest, HostsAreRecorded) {
  StoreOp op = Op(StoreOp::Kind::kHost);
  op.hostname = "db7";
  op.paths = 2;
  op.interval_ms = 5000;
  ASSERT_TRUE(writer_.Do(op).ok());
  const auto hosts = store_->ListHosts();
  ASSERT_EQ(hosts.size(), 1u);
  EXPECT_EQ(hosts[0].hostname(), "db7");
  EXPECT_EQ(hosts[0].heard_unix_ns(), 1000);
  EXPECT_FALSE(hosts[0].disarmed());
}

TEST_F(WriterTest, EngineGoesOnAfterAKillWithWhatWasFlushed) {
  SenderDouble sender;
  {
    EngineDouble d;
    d.Receive(sender.Class0(4));
    for (unsigned w = 0; w < 2; ++w) d.Receive(sender.Symbols(1, w, SenderDouble::Page(w)));
    Work(d, kSecond);
    EXPECT_EQ(d.View().missing, 2u);
  }
  EngineDouble d;
  ASSERT_TRUE(RestoreFromStore(*store_, d.now, unix_ns_, &d.engine).ok());
  EXPECT_EQ(d.View().held, 4u);
  EXPECT_EQ(d.View().missing, 2u);
  EXPECT_FALSE(d.View().sealed);
  // What it holds is not stored again.
  d.Receive(sender.Symbols(1, 0, SenderDouble::Page(0)));
  EXPECT_GT(d.Count(Counter::kHeld), 0u);
  for (unsigned w = 2; w < 4; ++w) d.Receive(sender.Symbols(1, w, SenderDouble::Page(w)));
  Work(d, kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_TRUE(Record().complete());
  EXPECT_EQ(Record().committed_lanes(), 1u);

  // And a third life: sealed, nothing is taken any more.
  EngineDouble third;
  ASSERT_TRUE(RestoreFromStore(*store_, third.now, unix_ns_, &third.engine).ok());
  EXPECT_TRUE(third.View().complete);
  third.Receive(sender.Symbols(1, 0, SenderDouble::Page(0)));
  EXPECT_EQ(third.Count(Counter::kSealed), third.Count(Counter::kSymbol));
}

TEST_F(WriterTest, DeletedDumpsAreDeclinedAfterARestart) {
  ASSERT_TRUE(store_->DeleteDump(SenderDouble::Dump(), 1).ok());
  EngineDouble d;
  ASSERT_TRUE(RestoreFromStore(*store_, d.now, unix_ns_, &d.engine).ok());
  d.ReceiveAll(3);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().declined);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kPut), 0u);
}

TEST_F(WriterTest, AnEngineThatGoesOnKnowsFormerBoots) {
  EngineDouble first;
  SenderDouble rebooted;
  rebooted.origin = first.sender.origin + 1;
  const std::string old = first.sender.Announce(DCAST_ST_ARMED, 1, 1000);
  first.Receive(old);
  first.Receive(rebooted.Announce(DCAST_ST_ARMED, 2, 2000));
  Work(first, kSecond);
  EngineDouble second;
  ASSERT_TRUE(RestoreFromStore(*store_, second.now, unix_ns_, &second.engine).ok());
  second.Receive(old);
  EXPECT_EQ(second.Count(Counter::kReplay), 1u);
  EXPECT_EQ(second.Count(Counter::kAnnounce), 0u);
}

}  // namespace
}  // namespace dumpcast
