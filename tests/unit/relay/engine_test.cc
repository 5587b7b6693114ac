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

// ---- replays ----

TEST(EngineTest, ReplayOfASealedDumpChangesNothing) {
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

TEST(EngineTest, ReplayToARelayThatHasJustStartedUnsealsNothing) {
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

TEST(EngineTest, OldEndIsIgnored) {
  EngineDouble d;
  const std::string old = d.sender.End();
  d.Receive(d.sender.Class0(5));
  const std::string newer = d.sender.End();
  d.Receive(newer);
  d.Receive(old);
  EXPECT_EQ(d.Count(Counter::kEnd), 1u);
  EXPECT_EQ(d.Count(Counter::kReplay), 1u);
}

TEST(EngineTest, OwnPacketsAreNotBelieved) {
  EngineDouble d;
  d.sender.origin = EngineDouble::Config().relay_id;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  EXPECT_EQ(d.Count(Counter::kOwn), 1u);
  EXPECT_TRUE(d.engine.ListDumps().empty());
}

TEST(EngineTest, RepliesDoNotFollowAReplay) {
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

TEST(EngineTest, AReplayDoesNotKeepAHostAlive) {
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

TEST(EngineTest, ADumpThatPeersCompletedIsCommittedToItsHost) {
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

// ---- incomplete dumps ----

TEST(EngineTest, SilentHostIsSealedIncompleteWithAReason) {
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

TEST(EngineTest, ABlockOpensAnIncompleteDumpAgain) {
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

TEST(EngineTest, SealThatReplicationOvertookSaysNothing) {
  EngineDouble d;
  d.Receive(d.sender.Class0(3));
  d.now += 2 * kSecond;
  d.Run(kSecond);
  // The incomplete seal is at the store while replication completes the dump.
  std::vector<StoreOp> seal;
  for (; seal.empty(); d.now += 10 * kMillisecond) {
    ASSERT_LT(d.now, 200 * kSecond);
    d.engine.Tick(d.now);
    for (StoreOp& op : d.engine.TakeStoreOps(d.now)) {
      if (op.kind == StoreOp::Kind::kSeal) {
        seal.push_back(op);
      } else {
        d.engine.StoreDone(d.now, op.id, absl::OkStatus());
      }
    }
  }
  d.engine.SealedByReplication(SenderDouble::Dump());
  d.engine.StoreDone(d.now, seal[0].id, absl::OkStatus());
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_EQ(d.Events(Event::Kind::kSealedIncomplete), 0u);
}

TEST(EngineTest, DumpDeletedWhileItIsSealedStaysDeclined) {
  for (const absl::Status& answer :
       {absl::OkStatus(), absl::FailedPreconditionError("the dump was deleted"),
        absl::UnavailableError("the disk")}) {
    EngineDouble d;
    d.ReceiveAll(3);
    std::vector<StoreOp> seal;
    for (; seal.empty(); d.now += 10 * kMillisecond) {
      ASSERT_LT(d.now, 200 * kSecond);
      d.engine.Tick(d.now);
      for (StoreOp& op : d.engine.TakeStoreOps(d.now)) {
        if (op.kind == StoreOp::Kind::kSeal) {
          seal.push_back(op);
        } else {
          d.engine.StoreDone(d.now, op.id, absl::OkStatus());
        }
      }
    }
    d.engine.Decline(d.now, SenderDouble::Dump());
    d.engine.StoreDone(d.now, seal[0].id, answer);
    d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
    d.Receive(d.sender.End());
    d.Run(kSecond);
    EXPECT_TRUE(d.View().declined);
    EXPECT_GT(d.Count(Counter::kDeclined), 0u);
    EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
  }
}

TEST(EngineTest, DumpThatTheStoreHasDeletedIsDeclined) {
  EngineDouble d;
  d.refuse[StoreOp::Kind::kSeal] = absl::FailedPreconditionError("the dump was deleted");
  d.ReceiveAll(3);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().declined);
  EXPECT_EQ(d.Ops(StoreOp::Kind::kSeal), 1u) << "not again and again";
}

// ---- the store is full ----

TEST(EngineTest, FullStoreDeclinesANewDumpAndTakesItLater) {
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

TEST(EngineTest, BlocksThatTheStoreRefusesAreAskedForAgain) {
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

TEST(EngineTest, ABlockThatIsNotWhatItsDigestSaysIsAskedForAgain) {
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

TEST(EngineTest, Class0ThatIsNotWhatItsDigestSaysIsNotBelieved) {
  EngineDouble d;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  d.Receive(WithAFault(d.sender.Class0(1)));
  d.Work();
  EXPECT_EQ(d.Count(Counter::kBlocksBadDigest), 1u);
  EXPECT_EQ(d.Events(Event::Kind::kClass0Held), 0u);
}

TEST(EngineTest, AFullStoreAsksNobodyUntilAProbeFindsRoom) {
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

TEST(EngineTest, TooManyDumpsAreDeclined) {
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

// ---- peers ----

TEST(EngineTest, PeersAreAskedFirstAndTheirBlocksChecked) {
  EngineConfig config = EngineDouble::Config();
  config.has_peers = true;
  EngineDouble d(config);
  d.Receive(d.sender.Class0(2));
  d.Receive(d.sender.End());
  d.Run(kSecond);
  ASSERT_EQ(d.fetches.size(), 1u);
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u);
  PeerResult result;
  result.peers_asked = 1;
  const std::string good = SenderDouble::Page(0);
  std::string bad = SenderDouble::Page(1);
  const uint64_t digest = SenderDouble::Digest(1, 1, bad);
  bad.back() ^= 1;
  result.blocks.push_back({{1, 0, SenderDouble::Digest(1, 0, good)}, good});
  result.blocks.push_back({{1, 1, digest}, bad});
  result.blocks.push_back({{200, 1, digest}, bad});
  d.engine.PeerFetched(d.now, d.fetches[0].id, result);
  EXPECT_EQ(d.Count(Counter::kBlocksPeer), 1u);
  EXPECT_EQ(d.Count(Counter::kPeerBad), 1u);
  EXPECT_EQ(d.View().missing, 1u);
  for (int i = 0; i < 20; ++i) {
    d.Receive(d.sender.End());
    d.Run(50 * kMillisecond);
  }
  EXPECT_GE(d.Replies(DCAST_NAK), 1u) << "then the sender";
}

// ---- lanes ----

std::vector<uint64_t> NakNumbers(const std::vector<Reply>& replies) {
  std::vector<uint64_t> numbers;
  for (const Reply& reply : replies) {
    dcast_hdr hdr;
    std::memcpy(&hdr, reply.payload.data(), sizeof(hdr));
    if (hdr.type != DCAST_NAK) continue;
    dcast_nak nak;
    std::memcpy(&nak, reply.payload.data() + sizeof(hdr), sizeof(nak));
    for (uint32_t i = 0; i < dcast_le32(nak.entries); ++i) {
      dcast_nak_entry entry;
      std::memcpy(&entry, reply.payload.data() + sizeof(hdr) + sizeof(nak) + i * sizeof(entry),
                  sizeof(entry));
      for (uint32_t n = 0; n < dcast_le32(entry.count); ++n)
        numbers.push_back(dcast_le64(entry.number) + n);
    }
  }
  return numbers;
}

TEST(EngineTest, BlocksOfOtherLanesComeFromPeersAlone) {
  EngineConfig config = EngineDouble::Config();
  config.lane_mask = 0b01;
  config.has_peers = true;
  EngineDouble d(config);
  d.sender.lanes = 2;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  d.Receive(d.sender.Class0(6));
  d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
  d.Receive(d.sender.Symbols(1, 2, SenderDouble::Page(2)));
  d.Receive(d.sender.End());
  const auto run = [&d] {
    d.Run(200 * kMillisecond);
    for (const PeerFetch& fetch : std::exchange(d.fetches, {}))
      d.engine.PeerFetched(d.now, fetch.id, {});
  };
  for (int i = 0; i < 10; ++i) {
    d.Receive(d.sender.End());
    run();
  }
  const std::vector<uint64_t> asked = NakNumbers(d.replies);
  ASSERT_FALSE(asked.empty());
  for (const uint64_t number : asked) EXPECT_EQ(number, 4u) << "its lane is received here";
  EXPECT_EQ(d.View().committed_lanes, 0u);

  d.Receive(d.sender.Symbols(1, 4, SenderDouble::Page(4)));
  d.Run(kSecond);
  EXPECT_EQ(d.View().committed_lanes, 0b01u) << "the lane is whole, the dump is not";
  EXPECT_FALSE(d.View().sealed);
  ASSERT_FALSE(d.fetches.empty());
  PeerResult result;
  result.peers_asked = 1;
  for (const uint64_t number : {1, 3, 5}) {
    const std::string page = SenderDouble::Page(number);
    result.blocks.push_back({{1, number, SenderDouble::Digest(1, number, page)}, page});
  }
  d.engine.PeerFetched(d.now, d.fetches.back().id, result);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_EQ(d.View().committed_lanes, 0b11u);
}

TEST(EngineTest, ALaneThatUnicastBringsIsReceived) {
  EngineConfig config = EngineDouble::Config();
  config.lane_mask = 0b01;
  EngineDouble d(config);
  d.sender.lanes = 2;
  d.Receive(d.sender.Class0(4));
  d.sender.lane = 1;
  d.Receive(d.sender.Symbols(1, 1, SenderDouble::Page(1)));
  d.sender.lane = 0;
  d.Receive(d.sender.Symbols(1, 0, SenderDouble::Page(0)));
  d.Receive(d.sender.Symbols(1, 2, SenderDouble::Page(2)));
  for (int i = 0; i < 10; ++i) {
    d.Receive(d.sender.End());
    d.Run(200 * kMillisecond);
  }
  const std::vector<uint64_t> asked = NakNumbers(d.replies);
  ASSERT_FALSE(asked.empty());
  for (const uint64_t number : asked) EXPECT_EQ(number, 3u);
}

TEST(EngineTest, CopiesOfNaksGoToPeers) {
  EngineDouble d;
  Address peer;
  peer.bytes[0] = 9;
  d.engine.SetPeers({peer}, false);
  d.Receive(d.sender.Class0(2));
  d.Receive(d.sender.End());
  d.Run(kSecond);
  size_t to_peer = 0;
  for (const Reply& reply : d.replies) to_peer += reply.to == peer;
  EXPECT_GE(to_peer, 1u);
  EXPECT_EQ(2 * to_peer, d.Replies(DCAST_NAK)) << "one for the sender, one for the peer";
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

// What a host was told last, DCAST_ADMIT_FULL when nothing.
dcast_admit Told(const EngineDouble& d, uint8_t dump) {
  dcast_admit admit{};
  for (const Reply& reply : d.replies) {
    dcast_hdr hdr;
    std::memcpy(&hdr, reply.payload.data(), sizeof(hdr));
    if (hdr.type == DCAST_ADMIT && hdr.dump_id[0] == dump)
      std::memcpy(&admit, reply.payload.data() + sizeof(hdr), sizeof(admit));
  }
  return admit;
}

// META of a dump whose crash has this signature.
void BeginDump(EngineDouble& d, uint8_t dump, uint8_t signature) {
  d.sender.dump = dump;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  d.Receive(d.sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, signature)[0]));
  d.Run(50 * kMillisecond);
}

TEST(EngineTest, HostsAreToldWhatThePolicyIs) {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1, .concurrent = 1, .wait_ns = 20 * kSecond};
  EngineDouble d(config);
  BeginDump(d, 1, 7);
  EXPECT_GE(d.Replies(DCAST_ADMIT), 1u) << "a yes is said, since others may say no";
  BeginDump(d, 2, 7);
  EXPECT_EQ(Told(d, 2).verdict, dcast_to_le32(DCAST_ADMIT_LOG_ONLY));
  BeginDump(d, 3, 8);
  EXPECT_EQ(Told(d, 3).verdict, dcast_to_le32(DCAST_ADMIT_WAIT));
  EXPECT_NEAR(dcast_le32(Told(d, 3).wait_ms), 20000, 100);
  EXPECT_EQ(d.Events(Event::Kind::kAdmission), 2u);
  // The first falls silent: its place is free.
  for (int i = 0; i < 30; ++i) {
    d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
    d.Run(100 * kMillisecond);
  }
  EXPECT_EQ(Told(d, 3).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
}

TEST(EngineTest, LiveDumpsAreNotAskedAbout) {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1};
  EngineDouble d(config);
  BeginDump(d, 1, 7);
  d.sender.dump = 2;
  for (const std::string& packet :
       d.sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, 7)[0], DCAST_F_LIVE))
    d.Receive(packet);
  d.Run(kSecond);
  EXPECT_EQ(Told(d, 2).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
}

// Of signature 7, which another host's dump has used up.
EngineConfig LogOnlyConfig() {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1};
  return config;
}

void UseUp(EngineDouble& d) {
  SenderDouble first;
  first.origin = 0x5e40;
  std::swap(first, d.sender);
  BeginDump(d, 0xfe, 7);
  d.Receive(d.sender.Announce(DCAST_ST_DONE));
  std::swap(first, d.sender);
  d.Run(5 * kSecond);
  d.replies.clear();
  d.ops.clear();
}

// All that comes of a host that sends the log only.
void SendLogAlone(EngineDouble& d, SenderDouble& sender) {
  d.Receive(sender.Announce(DCAST_ST_DUMPING));
  d.Receive(sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, 7)[0]));
  d.Run(50 * kMillisecond);
  d.Receive(sender.Symbol(1, 0, SenderDouble::Page(0), 0));  // begun before the verdict
  d.Receive(sender.End(0, DCAST_END_LOG_ONLY));
}

TEST(EngineTest, ALogAloneIsCommittedAndSealedAsWhatItIs) {
  EngineDouble d(LogOnlyConfig());
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(kSecond);
  EXPECT_GE(d.Replies(DCAST_COMMIT), 1u);
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u) << "neither PRESENCE nor memory is missing";
  EXPECT_EQ(d.View().missing, 0u);
  EXPECT_FALSE(d.View().sealed);
  d.Receive(d.sender.Announce(DCAST_ST_DONE));
  d.Run(5 * kSecond);
  EXPECT_TRUE(d.View().sealed);
  EXPECT_FALSE(d.View().complete);
  ASSERT_EQ(d.Ops(StoreOp::Kind::kSeal), 1u);
  EXPECT_NE(d.ops.back().reason.find("only the log was taken"), std::string::npos)
      << d.ops.back().reason;
  EXPECT_EQ(d.ops.back().committed_lanes, 0u) << "should more come, it is not committed";
}

TEST(EngineTest, ALogAloneTakesNoPlaceOfADump) {
  EngineConfig config = LogOnlyConfig();
  config.max_dumps = 1;
  EngineDouble d(config);
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(300 * kMillisecond);
  ASSERT_EQ(d.Replies(DCAST_COMMIT), 1u);
  SenderDouble second;
  second.origin = 0x5e4e;
  second.dump = 0xcc;
  SendLogAlone(d, second);
  d.Run(300 * kMillisecond);
  EXPECT_EQ(d.Events(Event::Kind::kDumpBegun), 3u);
  EXPECT_EQ(d.Events(Event::Kind::kDeclined), 0u);
}

TEST(EngineTest, ALogAloneBecomesAWholeDumpWhenAnotherRelayWantsIt) {
  EngineDouble d(LogOnlyConfig());
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(kSecond);
  const size_t commits = d.Replies(DCAST_COMMIT);
  EXPECT_GE(commits, 1u);
  d.Receive(d.sender.Symbol(1, 1, SenderDouble::Page(1), 0));
  d.Run(100 * kMillisecond);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), commits) << "it was of the log alone";
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u) << "the walk goes on: nothing is missing yet";
  d.Receive(d.sender.End());
  d.Run(kSecond);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), commits);
  EXPECT_GE(d.Replies(DCAST_NAK), 1u);
  d.ReceiveAll(4);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_GT(d.Replies(DCAST_COMMIT), commits);
}

TEST(EngineTest, ARelayThatWantsItAllSaysSoAlsoToAHostThatHasSentItsLog) {
  EngineDouble d;
  SendLogAlone(d, d.sender);
  d.replies.clear();
  d.Run(kSecond);
  EXPECT_GE(d.Replies(DCAST_ADMIT), 2u);
  EXPECT_EQ(Told(d, d.sender.dump).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
  EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
}

}  // namespace
}  // namespace dumpcast
