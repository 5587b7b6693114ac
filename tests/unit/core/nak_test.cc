// SPDX-License-Identifier: Apache-2.0
// What relays ask for: the queue, and the answers.
#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMiB = 1 << 20;

dcast_nak_entry Whole(unsigned block_class, uint64_t number, uint32_t count = 1) {
  dcast_nak_entry e = {};
  e.number = dcast_to_le64(number);
  e.count = dcast_to_le32(count);
  e.block_class = static_cast<__u8>(block_class);
  return e;
}

dcast_nak_entry Symbols(unsigned block_class, uint64_t number, uint64_t digest, uint64_t mask) {
  dcast_nak_entry e = Whole(block_class, number);
  e.digest = dcast_to_le64(digest);
  e.mask = dcast_to_le64(mask);
  e.flags = DCAST_NAK_HAS_DIGEST;
  return e;
}

class NakTest : public ::testing::Test {
 protected:
  NakTest() : host_({{0, 4 * kMiB}}) {}
  // Sends the dump and lets the repeats of META pass, so that what follows are answers.
  void SendAll() {
    host_.Init();
    host_.Begin();
    host_.Hello(7);
    ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
    for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
      digests_[{p->hdr().block_class, p->number()}] = dcast_le64(p->hdr().digest);
      k_[{p->hdr().block_class, p->number()}] = p->hdr().k;
    }
    RunFor(20'000'000);
    host_.packets.clear();
  }
  void RunFor(uint64_t ns) {
    host_.Run([] { return false; }, ns);
  }
  // Answers to what was asked: symbols that are not META.
  std::vector<const SentPacket*> Answers() {
    RunFor(50'000'000);
    std::vector<const SentPacket*> found;
    for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
      if (p->hdr().block_class != 0 || p->number() != 0) found.push_back(p);
    }
    return found;
  }
  uint64_t BlockOf(unsigned block_class) const {
    for (const auto& [id, k] : k_) {
      if (id.first == block_class && k > 4) return id.second;
    }
    return ~0ull;
  }
  FakeHost host_;
  std::map<BlockId, uint64_t> digests_;
  std::map<BlockId, unsigned> k_;
};

TEST_F(NakTest, SameDigestGetsExactlyTheSymbolsAskedFor) {
  SendAll();
  const uint64_t number = BlockOf(2);
  const uint64_t mask = 1ull << 1 | 1ull << 3 | 1ull << 50 | 1ull << 63;
  host_.Nak(7, {Symbols(2, number, digests_[{2, number}], mask)});
  uint64_t got = 0;
  for (const SentPacket* p : Answers()) {
    EXPECT_EQ(p->number(), number);
    EXPECT_EQ(dcast_le64(p->hdr().digest), (digests_[{2, number}]));
    EXPECT_TRUE(p->hdr().flags & DCAST_F_REPEAT);
    EXPECT_FALSE(got >> p->hdr().index & 1) << "twice";
    got |= 1ull << p->hdr().index;
  }
  EXPECT_EQ(got, mask);
}

TEST_F(NakTest, OtherDigestGetsAllDataOfOneSnapshot) {
  SendAll();
  const uint64_t number = BlockOf(2);
  host_.change_on_read = true;  // as under DMA: no two encodings are equal
  host_.Nak(7, {Symbols(2, number, digests_[{2, number}], 2)});
  const auto answers = Answers();
  ASSERT_FALSE(answers.empty());
  Reassembler got;
  got.keys = host_.secrets.wire;
  std::set<uint64_t> digests;
  for (const SentPacket* p : answers) {
    digests.insert(dcast_le64(p->hdr().digest));
    got.Add(*p);
  }
  EXPECT_EQ(digests.size(), 1u);
  EXPECT_EQ(digests.count(digests_[{2, number}]), 0u);
  EXPECT_TRUE(got.blocks.count({2, number})) << "the answer alone does not make the block";
  EXPECT_EQ(got.bad_digests, 0u);
}

TEST_F(NakTest, OtherDigestBringsTheParityAskedForAsWell) {
  SendAll();
  const uint64_t number = BlockOf(2);
  host_.change_on_read = true;
  const uint64_t parity = 1ull << 61 | 1ull << 62 | 1ull << 63;
  host_.Nak(7, {Symbols(2, number, digests_[{2, number}], parity)});
  uint64_t got = 0;
  unsigned k = 0;
  for (const SentPacket* p : Answers()) {
    got |= 1ull << p->hdr().index;
    k = p->hdr().k;
  }
  ASSERT_NE(k, 0u);
  EXPECT_EQ(got, parity | ((1ull << k) - 1));
}

// One of the paths is cut, and says that it is up.
TEST_F(NakTest, BlockThatChangesIsWholeByOneOfTwoStripedPaths) {
  host_.config.paths = 2;
  host_.config.mode = DCAST_STRIPE;
  SendAll();
  const uint64_t number = BlockOf(2);
  host_.change_on_read = true;
  host_.Nak(7, {Symbols(2, number, digests_[{2, number}], 2)});
  for (const unsigned alive : {0u, 1u}) {
    Reassembler got;
    got.keys = host_.secrets.wire;
    for (const SentPacket* p : Answers())
      if (p->path == alive) got.Add(*p);
    EXPECT_TRUE(got.blocks.count({2, number})) << "path " << alive;
  }
}

TEST_F(NakTest, BlockThatLostItsPagesIsAnsweredWithEmpty) {
  SendAll();
  const uint64_t number = BlockOf(3);
  for (uint64_t pfn = number * 16; pfn < number * 16 + 16; ++pfn) host_.class_override[pfn] = 0;
  host_.Nak(7, {Symbols(3, number, digests_[{3, number}], 1)});
  EXPECT_TRUE(Answers().empty());
  const auto empties = host_.Sent(DCAST_EMPTY);
  ASSERT_EQ(empties.size(), 1u);
  EXPECT_EQ(empties[0]->number(), number);
  EXPECT_EQ(empties[0]->hdr().block_class, 3);
  EXPECT_EQ(empties[0]->bytes.size(), sizeof(dcast_hdr));
}

TEST_F(NakTest, RunOfBlocksIsAnsweredWholeAndOnce) {
  SendAll();
  host_.Nak(7, {Whole(2, 10, 20), Whole(2, 25, 15)});  // overlap: 10..39
  host_.Nak(8, {Whole(2, 12, 3)});
  Reassembler got;
  got.keys = host_.secrets.wire;
  std::map<BlockId, std::set<unsigned>> indices;
  for (const SentPacket* p : Answers()) {
    const BlockId id{p->hdr().block_class, p->number()};
    EXPECT_TRUE(indices[id].insert(p->hdr().index).second);
    got.Add(*p);
  }
  size_t answered = host_.Sent(DCAST_EMPTY).size();
  for (const auto& [id, block] : got.blocks) {
    EXPECT_EQ(id.first, 2u);
    EXPECT_GE(id.second, 10u);
    EXPECT_LT(id.second, 40u);
    ++answered;
  }
  EXPECT_EQ(answered, 30u);
}

TEST_F(NakTest, PresenceSliceIsMadeAgain) {
  SendAll();
  const uint64_t number = dcast_class0_number(DCAST_STREAM_PRESENCE, 0);
  host_.Nak(7, {Whole(0, number)});
  Reassembler got;
  got.keys = host_.secrets.wire;
  for (const SentPacket* p : Answers()) got.Add(*p);
  ASSERT_TRUE(got.blocks.count({0, number}));
  EXPECT_EQ((got.blocks[{0, number}].digest), (digests_[{0, number}])) << "same memory, same bytes";
}

TEST_F(NakTest, TwoEncodingsOfOneBlockAreServedByOneSnapshot) {
  SendAll();
  const uint64_t number = BlockOf(2);
  host_.Nak(7, {Symbols(2, number, 0x1111, 1)});
  host_.Nak(8, {Symbols(2, number, 0x2222, 6)});
  EXPECT_EQ(Answers().size(), (k_[{2, number}]));
}

TEST_F(NakTest, ThreeRelaysAskingForTheSameCostOneAnswer) {
  SendAll();
  const uint64_t number = BlockOf(2);
  for (uint64_t relay = 7; relay < 10; ++relay) {
    host_.Nak(relay, {Symbols(2, number, digests_[{2, number}], 1ull << (relay - 7) | 8)});
  }
  EXPECT_EQ(Answers().size(), 4u);
}

TEST_F(NakTest, FullQueueDropsAndCounts) {
  host_.Init();
  host_.Begin();
  // Every second block: nothing can be joined.
  std::vector<dcast_nak_entry> entries;
  for (unsigned c = 1; c < 4; ++c) {
    for (uint64_t n = 0; n < 64; n += 2) entries.push_back(Whole(c, n));
  }
  host_.Nak(7, entries);
  EXPECT_EQ(host_.sender->naks.used, 96u);
  for (uint64_t digest = 1; digest < 3; ++digest) {
    for (unsigned c = 1; c < 4; ++c) {
      std::vector<dcast_nak_entry> more;
      for (uint64_t n = 1; n < 64; n += 2) more.push_back(Symbols(c, n, digest, 1));
      host_.Nak(7, more);
    }
  }
  EXPECT_EQ(host_.sender->naks.used, 192u) << "the second digest turned items into whole blocks";
  for (unsigned i = 0; i < 400; ++i) dcast_nak_push(host_.sender.get(), 1, 1000 + 2 * i, 1, 0, 0);
  EXPECT_EQ(host_.sender->naks.used, static_cast<unsigned>(DCAST_NAK_QUEUE));
  EXPECT_EQ(dcast_sender_stats(host_.sender.get())->nak_dropped, 80u);
}

TEST_F(NakTest, OutOfRangeEntriesAreCountedAndChangeNothing) {
  SendAll();
  const uint64_t before = dcast_sender_stats(host_.sender.get())->rx_bad_format;
  host_.Nak(7, {Whole(4, 0), Whole(1, 64), Whole(1, ~0ull), Whole(1, 0, 0),
                Whole(0, dcast_class0_number(6, 0)), Whole(0, dcast_class0_number(5, 1)),
                Whole(0, dcast_class0_number(200, 0)), Symbols(1, 0, 0, 1), Symbols(1, 0, 9, 0)});
  EXPECT_EQ(dcast_sender_stats(host_.sender.get())->rx_bad_format, before + 9);
  EXPECT_TRUE(Answers().empty());
  EXPECT_TRUE(host_.Sent(DCAST_EMPTY).empty());
}

TEST_F(NakTest, AnswersTakeAtMostEverySecondBlockOfTheWalk) {
  host_.config.slots = 1;
  host_.Init();
  host_.Begin();
  host_.Hello(7);
  ASSERT_TRUE(host_.Run([&] { return host_.sender->walk.stage == DCAST_WALK_REST; }));
  host_.packets.clear();
  for (unsigned i = 0; i < 20; ++i) host_.Nak(7, {Whole(1, 2 * i)});
  ASSERT_TRUE(host_.Run([&] { return host_.sender->naks.used == 0; }));
  BlockId last{9, 0};
  std::vector<bool> repeat;
  for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
    const BlockId id{p->hdr().block_class, p->number()};
    if (id != last) repeat.push_back(p->hdr().flags & DCAST_F_REPEAT);
    last = id;
  }
  ASSERT_GT(repeat.size(), 20u);
  for (size_t i = 1; i < repeat.size(); ++i) EXPECT_FALSE(repeat[i] && repeat[i - 1]) << i;
}

TEST_F(NakTest, LossyRelayThatAsksForGapsEndsComplete) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FakeHost host({{0, 2 * kMiB}}, seed);
    host.config.linger_ns = 1'000'000'000;
    host.Init();
    std::mt19937 rng(seed);
    Reassembler got;
    got.keys = host.secrets.wire;
    std::map<BlockId, uint64_t> seen;     // symbols held
    std::map<BlockId, SentPacket> first;  // names digest and k
    host.on_packet = [&](const SentPacket& p) {
      if (rng() % 5 == 0) return;  // 20 % loss
      got.Add(p);
      if (p.hdr().type != DCAST_SYMBOL) return;
      const BlockId id{p.hdr().block_class, p.number()};
      seen[id] |= 1ull << p.hdr().index;
      first.emplace(id, p);
    };
    host.Begin();
    host.Hello(7);
    std::set<BlockId> want;
    const auto complete = [&] {
      for (const BlockId& id : want) {
        if (!got.blocks.count(id)) return false;
      }
      return true;
    };
    ASSERT_TRUE(host.RunToPhase(DCAST_PHASE_LINGER));
    for (unsigned c = 1; c < 4; ++c) {
      for (uint64_t w = 0; w < 32; ++w) {
        for (uint64_t pfn = w * 16; pfn < w * 16 + 16; ++pfn) {
          if (host.ClassOf(pfn) == c) want.insert({c, w});
        }
      }
    }
    for (unsigned stream = 0; stream < 6; ++stream) {
      for (uint64_t i = 0; i < dcast_stream_chunks(host.sender.get(), stream); ++i) {
        want.insert({0, dcast_class0_number(stream, i)});
      }
    }
    int rounds = 0;
    while (!complete() && ++rounds < 50) {
      std::vector<dcast_nak_entry> entries;
      for (const BlockId& id : want) {
        if (got.blocks.count(id)) continue;
        const auto it = first.find(id);
        if (it == first.end()) {
          entries.push_back(Whole(id.first, id.second));
        } else {
          const uint64_t data = (1ull << it->second.hdr().k) - 1;
          entries.push_back(
              Symbols(id.first, id.second, dcast_le64(it->second.hdr().digest), data & ~seen[id]));
        }
      }
      host.Nak(7, entries);
      host.Run([] { return false; }, 30'000'000);
    }
    EXPECT_TRUE(complete());
    EXPECT_EQ(dcast_sender_phase(host.sender.get()), DCAST_PHASE_LINGER);
    host.Commit(7);
    EXPECT_TRUE(host.RunToPhase(DCAST_PHASE_DONE, 1'000'000'000));
    EXPECT_TRUE(dcast_sender_committed(host.sender.get()));
  }
}

// Parity symbols for each 100 data symbols of what was sent first, not as an answer.
double ParityShare(const FakeHost& host) {
  double data = 0, parity = 0;
  for (const SentPacket* p : host.Sent(DCAST_SYMBOL)) {
    if (p->hdr().flags & DCAST_F_REPEAT) continue;
    (p->hdr().index < p->hdr().k ? data : parity) += 1;
  }
  return 100 * parity / data;
}

class ParityByLoss : public ::testing::Test {
 protected:
  ParityByLoss() : host_({{0, 64 * kMiB}}) {}
  void Begin(uint8_t percent) {
    host_.config.parity_percent = percent;
    host_.config.rate_kib_s = 2048;
    host_.Init();
    host_.Begin();
    host_.Hello(7);
  }
  // A relay lacks symbols of one in so many of the blocks it hears of, 0: of none; and tells.
  void Dump(uint64_t ns, unsigned one_in, bool tells = true) {
    for (const uint64_t end = host_.now_ns + ns; host_.now_ns < end;) {
      host_.packets.clear();
      host_.Run([] { return false; }, 50'000'000);
      for (const SentPacket* p : host_.Sent(DCAST_SYMBOL)) {
        if (p->hdr().flags & DCAST_F_REPEAT || p->hdr().index != 0 || p->hdr().block_class == 0)
          continue;
        lacking_ += one_in != 0 && ++heard_ % one_in == 0;
      }
      dcast_pace pace{};
      if (tells) pace.lacking = dcast_to_le32(lacking_);
      host_.Reply(7, DCAST_PACE, &pace, sizeof(pace));
    }
    ASSERT_EQ(dcast_sender_phase(host_.sender.get()), DCAST_PHASE_WALK);
  }
  uint32_t percent() const { return host_.sender->parity_percent; }
  FakeHost host_;
  unsigned heard_ = 0;
  uint32_t lacking_ = 1;
};

TEST_F(ParityByLoss, RisesWhileARelayLacksAndFallsWhenNoneDoes) {
  Begin(4);
  Dump(3'000'000'000, 2);
  EXPECT_GT(ParityShare(host_), 10);
  const uint32_t most = percent();
  EXPECT_LE(most, 25u);
  Dump(2'000'000'000, 0);
  EXPECT_LT(percent(), most);
}

TEST_F(ParityByLoss, EndsWhereNothingIsLost) {
  Begin(4);
  Dump(3'000'000'000, 0);
  EXPECT_EQ(percent(), 0u);
  EXPECT_EQ(ParityShare(host_), 0);
}

TEST_F(ParityByLoss, ComesBackFromNothing) {
  Begin(4);
  Dump(3'000'000'000, 0);
  Dump(3'000'000'000, 2);
  EXPECT_GT(percent(), 4u);
}

TEST_F(ParityByLoss, WhatWasLoweredInVainIsLoweredMoreSlowly) {
  Begin(4);
  for (int i = 0; i < 4; ++i) {
    Dump(600'000'000, 0);
    Dump(600'000'000, 2);
  }
  const uint32_t before = percent();
  Dump(600'000'000, 0);
  EXPECT_EQ(percent(), before);
}

TEST_F(ParityByLoss, StaysWhereFewLack) {
  Begin(4);
  Dump(3'000'000'000, 20);
  EXPECT_EQ(percent(), 4u);
}

TEST_F(ParityByLoss, StaysWhereNobodyTells) {
  Begin(4);
  Dump(3'000'000'000, 0, false);
  EXPECT_EQ(percent(), 4u);
}

TEST_F(ParityByLoss, NoneIsNone) {
  Begin(0);
  Dump(3'000'000'000, 2);
  EXPECT_EQ(ParityShare(host_), 0);
}

}  // namespace
}  // namespace dumpcast
