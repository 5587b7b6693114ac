// SPDX-License-Identifier: Apache-2.0
#include "relay/engine.h"

#include "gtest/gtest.h"
#include "protos/keys/keys.h"
#include "tests/unit/relay/engine_double.h"

namespace dumpcast {
namespace {

TEST(EngineTest, WholeDumpIsSealedAndCommittedAfterItsFlush) {
  EngineDouble d;
  d.ReceiveAll(20);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_EQ(d.View().committed_lanes, 1u);
  EXPECT_GE(d.Replies(DCAST_COMMIT), 1u);
  // The order of work: record, blocks, a flush after the last of them, the seal.
  size_t last_put = 0, flush = 0, seal = 0;
  for (size_t i = 0; i < d.ops.size(); ++i) {
    if (d.ops[i].kind == StoreOp::Kind::kPut) last_put = i;
    if (d.ops[i].kind == StoreOp::Kind::kFlush) flush = i;
    if (d.ops[i].kind == StoreOp::Kind::kSeal) seal = i;
  }
  EXPECT_LT(last_put, flush);
  EXPECT_LT(flush, seal);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kPut), 22u);
}

TEST(EngineTest, NoCommitWhileTheFlushFails) {
  EngineDouble d;
  d.refuse[StoreOp::Kind::kFlush] = absl::UnavailableError("the disk");
  d.ReceiveAll(20);
  d.Run(10 * kSecond);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kSeal), 0u);
  d.refuse.clear();
  d.Run(3 * kSecond);
  EXPECT_TRUE(d.View().complete);
}

TEST(EngineTest, NoCommitWhileTheSealFails) {
  EngineDouble d;
  d.refuse[StoreOp::Kind::kSeal] = absl::UnavailableError("the disk");
  d.ReceiveAll(5);
  d.Run(kSecond);
  EXPECT_FALSE(d.View().complete);
  d.refuse.clear();
  d.Run(3 * kSecond);
  EXPECT_TRUE(d.View().complete);
}

TEST(EngineTest, SecondPathIsCountedAsDuplicatesAndStoredOnce) {
  EngineDouble d;
  SenderDouble second;
  second.path = 1;
  d.Receive(d.sender.Class0(4));
  d.Receive(second.Class0(4));
  const std::string page = SenderDouble::Page(0);
  for (unsigned i = 0; i < SenderDouble::K(page); ++i) {
    d.Receive(d.sender.Symbol(1, 0, page, i));
    d.Receive(second.Symbol(1, 0, page, i));
  }
  d.Work();
  EXPECT_EQ(d.Ops(StoreOp::Kind::kPut), 3u);
  EXPECT_EQ(d.Count(Counter::kDuplicate) + d.Count(Counter::kHeld), d.Count(Counter::kSymbol) / 2);
}

TEST(EngineTest, ForgedPacketsCostNothing) {
  EngineDouble d;
  std::string packet = d.sender.Symbol(1, 0, SenderDouble::Page(0), 0);
  packet[40] ^= 1;
  d.Receive(packet);
  d.Work();
  EXPECT_EQ(d.Count(Counter::kMac), 1u);
  EXPECT_TRUE(d.engine.ListDumps().empty());
  EXPECT_TRUE(d.ops.empty());
  EXPECT_TRUE(d.replies.empty());
}

TEST(EngineTest, EpochZeroIsRefusedWhenThereIsAKeyFile) {
  const auto keys = ParseKeyFile("1 " + std::string(64, 'a') + "\n", "key");
  ASSERT_TRUE(keys.ok());
  // As Node looks keys up.
  Engine engine(
      EngineDouble::Config(),
      [&](const Id16& host_id, uint16_t epoch) -> std::optional<dcast_keys> {
        const std::optional<Key> key = keys->HostKey(host_id, epoch);
        if (!key) return std::nullopt;
        dcast_keys host;
        dcast_keys_init(&host, key->data());
        return host;
      },
      [] { return uint64_t{0}; });
  // What a host without a key file sends: a right MAC under the key that anybody can compute.
  const ClusterKeys unauthenticated = UnauthenticatedKeys();
  SenderDouble sender;
  dcast_hdr hdr = sender.Header(DCAST_EMPTY);
  hdr.key_epoch = 0;
  hdr.block_class = 1;
  dcast_keys host;
  dcast_keys_init(&host, unauthenticated.HostKey(SenderDouble::Dump().host_id, 0)->data());
  std::string packet(reinterpret_cast<const char*>(&hdr), sizeof(hdr));
  const uint64_t mac = dcast_to_le64(dcast_packet_mac(&host, packet.data(), packet.size()));
  std::memcpy(packet.data(), &mac, sizeof(mac));
  engine.Receive(kSecond, {packet, {}, false});
  EXPECT_EQ(engine.counters()[Counter::kUnknownEpoch], 1u);
  EXPECT_TRUE(engine.ListDumps().empty());
}

TEST(EngineTest, HelloAnswersAnArmedHost) {
  EngineDouble d;
  d.from.bytes[3] = 7;
  d.Receive(d.sender.Announce(DCAST_ST_ARMED));
  d.Run(100 * kMillisecond);
  ASSERT_EQ(d.Replies(DCAST_HELLO), 1u);
  EXPECT_EQ(d.replies[0].to, d.from);
  EXPECT_TRUE(d.engine.ListDumps().empty()) << "armed is no dump";
  EXPECT_EQ(d.engine.PathsHeard(d.now, SenderDouble::Dump().host_id), 1u);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kHost), 1u);
}

}  // namespace
}  // namespace dumpcast
