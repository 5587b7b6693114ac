// SPDX-License-Identifier: Apache-2.0
// Peers, and lanes that are theirs.
#include "relay/engine.h"

#include "gtest/gtest.h"
#include "tests/unit/relay/engine_double.h"

namespace dumpcast {
namespace {

TEST(EnginePeersTest, PeersAreAskedFirstAndTheirBlocksChecked) {
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

// An engine with peers, and a block of a dump that lacks some of its symbols.
class EnginePeerSymbolsTest : public ::testing::Test {
 protected:
  EnginePeerSymbolsTest() : d_(WithPeers()) {
    d_.Receive(d_.sender.Class0(1));
    k_ = SenderDouble::K(block_);
  }
  static EngineConfig WithPeers() {
    EngineConfig config = EngineDouble::Config();
    config.has_peers = true;
    return config;
  }
  // Until peers are asked.
  void Lack(uint64_t lacking) {
    for (unsigned i = 0; i < k_; ++i)
      if ((lacking >> i & 1) == 0) d_.Receive(d_.sender.Symbol(1, 0, block_, i));
    d_.Receive(d_.sender.End());
    d_.Run(kSecond);
    ASSERT_EQ(d_.fetches.size(), 1u);
  }
  BlockSymbols Answer() const {
    BlockSymbols answer = d_.fetches[0].symbols.at(0);
    EXPECT_TRUE(CutSymbols(block_, &answer));
    return answer;
  }
  void Fetched(const BlockSymbols& symbols) {
    PeerResult result;
    result.peers_asked = 1;
    result.symbols = {symbols};
    d_.engine.PeerFetched(d_.now, d_.fetches[0].id, result);
    d_.Work();
  }

  EngineDouble d_;
  const std::string block_ = SenderDouble::Page(0);
  unsigned k_ = 0;
};

TEST_F(EnginePeerSymbolsTest, OfABlockThatHasSomeOnlyTheOthersAreFetched) {
  ASSERT_GE(k_, 4u);
  Lack(0b1001);
  EXPECT_TRUE(d_.fetches[0].runs.empty());
  ASSERT_EQ(d_.fetches[0].symbols.size(), 1u);
  EXPECT_EQ(d_.fetches[0].symbols[0].count, 2u);
  EXPECT_EQ(Answer().mask, 0b1001u);
  Fetched(Answer());
  EXPECT_EQ(d_.Count(Counter::kSymbolsPeer), 2u);
  EXPECT_EQ(d_.Count(Counter::kBlocks), 2u + 1u) << "META, PRESENCE and it";
  d_.Run(kSecond);
  EXPECT_TRUE(d_.View().complete);
  EXPECT_EQ(d_.Replies(DCAST_NAK), 0u);
}

TEST_F(EnginePeerSymbolsTest, TheLastSymbolIsShorter) {
  ASSERT_NE(block_.size() % SenderDouble::kSymbolSize, 0u);
  Lack(uint64_t{1} << (k_ - 1));
  Fetched(Answer());
  d_.Run(kSecond);
  EXPECT_TRUE(d_.View().complete);
}

TEST_F(EnginePeerSymbolsTest, SymbolsThatAreNotOfTheBlockChangeNothing) {
  Lack(0b11);
  const BlockSymbols good = Answer();
  BlockSymbols bad = good;
  bad.key.digest ^= 1;
  Fetched(bad);
  bad = good;
  bad.symbol_size += 8;
  Fetched(bad);
  bad = good;
  bad.bytes.resize(100);
  Fetched(bad);
  bad = good;
  bad.key.block_class = 200;
  Fetched(bad);
  EXPECT_EQ(d_.Count(Counter::kSymbolsPeer), 0u);
  EXPECT_EQ(d_.View().missing, 1u);
}

TEST_F(EnginePeerSymbolsTest, AWrongSymbolCostsTheBlockAndItIsAskedForAgain) {
  Lack(0b1);
  BlockSymbols bad = Answer();
  bad.bytes[0] ^= 1;
  Fetched(bad);
  EXPECT_EQ(d_.Count(Counter::kBlocksBadDigest), 1u);
  EXPECT_EQ(d_.View().missing, 1u);
  d_.Run(kSecond);
  EXPECT_GT(d_.fetches.size() + d_.Replies(DCAST_NAK), 1u);
}

TEST_F(EnginePeerSymbolsTest, WhatTwoRelaysHavePartsOfBecomesWhole) {
  EngineDouble other(WithPeers());
  other.Receive(other.sender.Class0(1));
  other.Receive(other.sender.Symbol(1, 0, block_, 1));
  other.Receive(other.sender.Symbol(1, 0, block_, k_));  // parity
  Lack(0b110);
  BlockSymbols symbols = d_.fetches[0].symbols.at(0);
  ASSERT_TRUE(other.engine.FindSymbols(SenderDouble::Dump(), &symbols));
  EXPECT_EQ(symbols.mask, 0b10 | uint64_t{1} << k_);
  EXPECT_EQ(symbols.bytes.size(), 2u * SenderDouble::kSymbolSize);
  Fetched(symbols);
  d_.Run(kSecond);
  EXPECT_TRUE(d_.View().complete);
  // No more than suffice, and none of another encoding or size.
  BlockSymbols one = d_.fetches[0].symbols[0];
  one.count = 1;
  EXPECT_TRUE(other.engine.FindSymbols(SenderDouble::Dump(), &one));
  EXPECT_EQ(one.mask, 0b10u);
  BlockSymbols bad = d_.fetches[0].symbols[0];
  bad.key.digest ^= 1;
  EXPECT_FALSE(other.engine.FindSymbols(SenderDouble::Dump(), &bad));
  bad = d_.fetches[0].symbols[0];
  bad.symbol_size += 8;
  EXPECT_FALSE(other.engine.FindSymbols(SenderDouble::Dump(), &bad));
  EXPECT_FALSE(other.engine.FindSymbols({}, &one));
}

TEST_F(EnginePeerSymbolsTest, PeersThatDidNotHaveThemAreAskedForTheWhole) {
  Lack(0b1);
  d_.engine.PeerFetched(d_.now, d_.fetches[0].id, {});
  for (int i = 0; i < 40 && d_.fetches.size() < 2; ++i) {
    d_.Receive(d_.sender.End());
    d_.Run(50 * kMillisecond);
  }
  ASSERT_GE(d_.fetches.size(), 2u);
  EXPECT_GE(d_.Replies(DCAST_NAK), 1u) << "the sender in between: its memory may have changed";
  EXPECT_TRUE(d_.fetches[1].symbols.empty());
  EXPECT_EQ(d_.fetches[1].runs, (std::vector<BlockRun>{{1, 0, 1}}));
}

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

TEST(EnginePeersTest, BlocksOfOtherLanesComeFromPeersAlone) {
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

TEST(EnginePeersTest, ALaneThatUnicastBringsIsReceived) {
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

// The limit that PACE tells after the sockets have dropped packets of a dump of two lanes; 0: none.
uint32_t ToldPace(uint64_t lane_mask) {
  EngineConfig config = EngineDouble::Config();
  config.lane_mask = lane_mask;
  EngineDouble d(config);
  d.sender.lanes = 2;
  d.Receive(d.sender.Class0(6));
  d.Run(kSecond);
  d.engine.NoteSocketDrops(d.now, 5);
  d.Run(250 * kMillisecond);
  uint32_t kib_s = 0;
  for (const Reply& reply : d.replies) {
    dcast_hdr hdr;
    std::memcpy(&hdr, reply.payload.data(), sizeof(hdr));
    if (hdr.type != DCAST_PACE) continue;
    dcast_pace pace;
    std::memcpy(&pace, reply.payload.data() + sizeof(hdr), sizeof(pace));
    if (kib_s == 0) kib_s = dcast_le32(pace.kib_s);
  }
  return kib_s;
}

TEST(EnginePeersTest, AShareOfTheLanesIsAShareOfThePace) {
  EXPECT_NE(ToldPace(0b11), 0u);
  EXPECT_EQ(ToldPace(0b01), 2 * ToldPace(0b11));
}

TEST(EnginePeersTest, CopiesOfNaksGoToPeers) {
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

}  // namespace
}  // namespace dumpcast
