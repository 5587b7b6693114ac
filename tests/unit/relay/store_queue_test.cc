// SPDX-License-Identifier: Apache-2.0
#include "relay/store_queue.h"

#include <set>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

class StoreQueueTest : public testing::Test {
 protected:
  uint64_t Put(TimeNs now, uint64_t number, uint8_t block_class = 1, size_t bytes = 100) {
    return queue_.Put(now, {}, {block_class, number, 1}, std::string(bytes, 'x'));
  }
  // Takes what is there and reports it done; true when a flush was among it.
  bool Drain(TimeNs now, const absl::Status& flush = absl::OkStatus()) {
    bool flushed = false;
    for (const StoreOp& op : queue_.Take(now)) {
      const bool is_flush = op.kind == StoreOp::Kind::kFlush;
      flushed |= is_flush;
      EXPECT_TRUE(queue_.Report(now, op.id, is_flush ? flush : absl::OkStatus()));
    }
    return flushed;
  }
  EngineConfig config_;
  StoreQueue queue_{config_};
};

TEST_F(StoreQueueTest, NothingIsDurableBeforeAFlushIsReported) {
  const uint64_t put = Put(0, 1);
  EXPECT_FALSE(Drain(0));
  EXPECT_LT(queue_.durable(), put);
  queue_.WantFlush();
  EXPECT_TRUE(Drain(1));
  EXPECT_GE(queue_.durable(), put);
}

TEST_F(StoreQueueTest, APutAfterTheFlushIsNotCoveredByIt) {
  Put(0, 1);
  queue_.WantFlush();
  const uint64_t late = Put(0, 2);
  EXPECT_TRUE(Drain(0));
  EXPECT_LT(queue_.durable(), late);
}

TEST_F(StoreQueueTest, FlushesWhenTheOldestHasWaited) {
  Put(0, 1);
  EXPECT_EQ(queue_.WakeNs(), config_.flush_ns);
  EXPECT_FALSE(Drain(config_.flush_ns - 1));
  EXPECT_TRUE(Drain(config_.flush_ns));
  EXPECT_EQ(queue_.WakeNs(), kNever) << "nothing is unflushed";
}

TEST_F(StoreQueueTest, FlushesWhenEnoughHasCome) {
  for (uint64_t bytes = 0; bytes < config_.flush_bytes; bytes += 1 << 20) {
    EXPECT_GT(queue_.WakeNs(), 0u);
    Put(1, bytes, 1, 1 << 20);
  }
  EXPECT_TRUE(Drain(1));
}

TEST_F(StoreQueueTest, Class0IsFlushedAtOnceButNotEachBlockByItself) {
  const TimeNs now = kSecond;
  Put(now, 0, 0);
  EXPECT_TRUE(Drain(now));
  int flushes = 0;
  for (uint64_t i = 1; i < 100; ++i) {
    Put(now + i * kMillisecond, i, 0);
    flushes += Drain(now + i * kMillisecond);
  }
  EXPECT_LE(flushes, 1);
  EXPECT_TRUE(Drain(now + 300 * kMillisecond));
}

TEST_F(StoreQueueTest, AFailedFlushIsTriedAgainAndMakesNothingDurable) {
  const uint64_t put = Put(0, 1);
  queue_.WantFlush();
  EXPECT_TRUE(Drain(0, absl::UnavailableError("the disk")));
  EXPECT_LT(queue_.durable(), put);
  const TimeNs again = queue_.WakeNs();
  ASSERT_NE(again, kNever);
  EXPECT_FALSE(Drain(again - 1)) << "not in a busy loop";
  EXPECT_TRUE(Drain(again));
  EXPECT_GE(queue_.durable(), put);
}

TEST_F(StoreQueueTest, WantFlushTwiceIsOneFlush) {
  Put(0, 1);
  queue_.WantFlush();
  queue_.WantFlush();
  EXPECT_EQ(queue_.Take(0).size(), 2u);
}

TEST_F(StoreQueueTest, PendingBytesAreThoseNotReported) {
  Put(0, 1, 1, 1000);
  Put(0, 2, 1, 500);
  EXPECT_EQ(queue_.pending_bytes(), 1500u);
  const auto ops = queue_.Take(0);
  EXPECT_EQ(queue_.pending_bytes(), 1500u);
  EXPECT_TRUE(queue_.Report(0, ops[0].id, absl::OkStatus()));
  EXPECT_EQ(queue_.pending_bytes(), 500u);
}

TEST_F(StoreQueueTest, ReportsOutOfOrderAreRefused) {
  Put(0, 1);
  Put(0, 2);
  const auto ops = queue_.Take(0);
  EXPECT_FALSE(queue_.Report(0, ops[1].id, absl::OkStatus()));
  EXPECT_TRUE(queue_.Report(0, ops[0].id, absl::OkStatus()));
  EXPECT_FALSE(queue_.Report(0, ops[0].id, absl::OkStatus()));
}

TEST_F(StoreQueueTest, AFlushMayEndAfterWhatFollowsIt) {
  const uint64_t put = Put(0, 1);
  queue_.WantFlush();
  const uint64_t late = Put(0, 2);
  const auto ops = queue_.Take(0);
  ASSERT_EQ(ops.size(), 3u);
  EXPECT_FALSE(queue_.Report(0, ops[1].id, absl::OkStatus())) << "the put before it may fail yet";
  EXPECT_TRUE(queue_.Report(0, ops[0].id, absl::OkStatus()));
  EXPECT_TRUE(queue_.Report(0, ops[2].id, absl::OkStatus()));
  EXPECT_LT(queue_.durable(), put);
  EXPECT_TRUE(queue_.Report(0, ops[1].id, absl::OkStatus()));
  EXPECT_GE(queue_.durable(), put);
  EXPECT_LT(queue_.durable(), late);
}

}  // namespace
}  // namespace dumpcast
