// SPDX-License-Identifier: Apache-2.0
#include "relay/verify.h"

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

class VerifyTest : public testing::Test {
 protected:
  VerifyTest()
      : verifier_([this](const Id16&, uint16_t epoch) -> std::optional<dcast_keys> {
          ++lookups_;
          if (epoch != SenderDouble::kEpoch) return std::nullopt;
          return SenderDouble::Keys();
        }) {}

  Counter Verdict(const std::string& packet, bool truncated = false) {
    return verifier_.Verify({packet, {}, truncated}).verdict;
  }
  // The verdict on a symbol whose header was changed before the MAC was made.
  Counter Changed(const std::function<void(dcast_hdr&)>& change) {
    const std::string packet = sender_.Symbol(1, 5, block_, 0);
    dcast_hdr hdr;
    std::memcpy(&hdr, packet.data(), sizeof(hdr));
    change(hdr);
    return Verdict(SenderDouble::Seal(hdr, packet.substr(sizeof(hdr))));
  }

  SenderDouble sender_;
  const std::string block_ = SenderDouble::Encode(std::string(4096, 'x'), 12, 1);
  int lookups_ = 0;
  Verifier verifier_;
};

TEST_F(VerifyTest, GoodPacketsOfEachTypeAreTaken) {
  EXPECT_EQ(Verdict(sender_.Symbol(1, 5, block_, 0)), Counter::kSymbol);
  EXPECT_EQ(Verdict(sender_.Symbol(1, 5, block_, 63)), Counter::kSymbol);
  EXPECT_EQ(Verdict(sender_.Empty(3, 70000)), Counter::kEmpty);
  EXPECT_EQ(Verdict(sender_.Announce(DCAST_ST_ARMED)), Counter::kAnnounce);
  EXPECT_EQ(Verdict(sender_.End()), Counter::kEnd);
}

TEST_F(VerifyTest, ManyAtOnceAreJudgedAsEachAlone) {
  std::vector<std::string> packets;
  for (uint64_t number = 0; number < 100; ++number) {
    packets.push_back(sender_.Symbol(1, number, block_, 0));
    std::string& packet = packets.back();
    if (number % 7 == 3) packet.back() ^= 1;
    if (number % 11 == 5) packet.pop_back();
    if (number % 13 == 6) packet[offsetof(dcast_hdr, host_id)] ^= 1;
    if (number % 29 == 8) packet = "foreign";
    if (number % 31 == 9) packets.push_back(sender_.Announce(DCAST_ST_ARMED));
  }
  std::vector<Datagram> datagrams;
  for (const std::string& packet : packets) datagrams.push_back({packet, {}, false});
  Verifier other([](const Id16&, uint16_t) { return std::optional(SenderDouble::Keys()); });
  for (int round = 0; round < 2; ++round) {  // keys are not known yet, and known
    std::vector<Verified> verified;
    verifier_.VerifyAll(datagrams, &verified);
    ASSERT_EQ(verified.size(), datagrams.size());
    size_t taken = 0;
    for (size_t i = 0; i < datagrams.size(); ++i) {
      const Verified alone = other.Verify(datagrams[i]);
      EXPECT_EQ(verified[i].verdict, alone.verdict) << i;
      EXPECT_EQ(verified[i].payload, alone.payload) << i;
      taken += verified[i].ok();
    }
    EXPECT_GT(taken, 50u);
    EXPECT_LT(taken, 90u);
  }
}

TEST_F(VerifyTest, EveryCutIsTruncated) {
  const std::string packet = sender_.Symbol(1, 5, block_, 0);
  for (size_t length = 0; length < packet.size(); ++length)
    EXPECT_EQ(Verdict(packet.substr(0, length)), Counter::kTruncated) << length;
  EXPECT_EQ(Verdict(packet, true), Counter::kTruncated);
}

TEST_F(VerifyTest, EveryFlippedBitIsRefused) {
  const std::string packet = sender_.Symbol(1, 5, block_, 0);
  for (size_t bit = 0; bit < packet.size() * 8; bit += 3) {
    std::string bad = packet;
    bad[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_LT(Verdict(bad), Counter::kAnnounce) << "bit " << bit;
  }
}

TEST_F(VerifyTest, ForeignMagicIsRefusedBeforeKeysAreLookedUp) {
  std::string packet = sender_.Symbol(1, 5, block_, 0);
  packet[8] ^= 1;
  EXPECT_EQ(Verdict(packet), Counter::kMagic);
  EXPECT_EQ(lookups_, 0);
}

TEST_F(VerifyTest, NewerMajorIsRefusedByName) {
  EXPECT_EQ(Changed([](dcast_hdr& h) { h.major = 2; }), Counter::kVersion);
  EXPECT_EQ(Changed([](dcast_hdr& h) { h.minor = 9; }), Counter::kSymbol);
}

TEST_F(VerifyTest, UnknownEpochAndWrongKeyAreToldApart) {
  EXPECT_EQ(Changed([](dcast_hdr& h) { h.key_epoch = dcast_to_le16(4); }), Counter::kUnknownEpoch);
  std::string packet = sender_.Symbol(1, 5, block_, 0);
  packet.back() ^= 1;
  EXPECT_EQ(Verdict(packet), Counter::kMac);
}

TEST_F(VerifyTest, ARevokedHostIsNotBelievedAndAskedForOnceItsKeysAreForgotten) {
  bool revoked = false;
  Verifier verifier([&](const Id16&, uint16_t) {
    HostKeys host(SenderDouble::Keys());
    host.revoked = revoked;
    return host;
  });
  const std::string packet = sender_.Symbol(1, 5, block_, 0);
  const auto verdict = [&] { return verifier.Verify({packet, {}, false}).verdict; };
  EXPECT_EQ(verdict(), Counter::kSymbol);
  revoked = true;
  EXPECT_EQ(verdict(), Counter::kSymbol) << "remembered";
  verifier.Forget();
  EXPECT_EQ(verdict(), Counter::kRevoked);
  revoked = false;
  EXPECT_EQ(verdict(), Counter::kSymbol);
}

TEST_F(VerifyTest, KeysAreRememberedOnlyAfterARightMac) {
  std::string forged = sender_.Symbol(1, 5, block_, 0);
  forged[0] ^= 1;
  EXPECT_EQ(Verdict(forged), Counter::kMac);
  EXPECT_EQ(Verdict(forged), Counter::kMac);
  EXPECT_EQ(lookups_, 2);
  EXPECT_EQ(Verdict(sender_.Symbol(1, 5, block_, 0)), Counter::kSymbol);
  EXPECT_EQ(Verdict(sender_.Symbol(1, 5, block_, 1)), Counter::kSymbol);
  EXPECT_EQ(lookups_, 3);
}

TEST_F(VerifyTest, BytesBehindThePayloadAreRefused) {
  dcast_hdr hdr = sender_.Header(DCAST_EMPTY);
  std::string packet = SenderDouble::Seal(hdr, "12345678");
  const auto none = dcast_to_le16(0);
  std::memcpy(packet.data() + offsetof(dcast_hdr, payload_len), &none, sizeof(none));
  const dcast_keys keys = SenderDouble::Keys();
  const uint64_t mac = dcast_to_le64(dcast_packet_mac(&keys, packet.data(), packet.size()));
  std::memcpy(packet.data(), &mac, sizeof(mac));
  EXPECT_EQ(Verdict(packet), Counter::kFormat);
}

TEST_F(VerifyTest, ImpossibleFieldsAreRefused) {
  const auto bad = [this](const std::function<void(dcast_hdr&)>& change) {
    EXPECT_EQ(Changed(change), Counter::kFormat);
  };
  bad([](dcast_hdr& h) { h.block_class = 4; });
  bad([](dcast_hdr& h) { h.digest = 0; });
  bad([](dcast_hdr& h) { h.k = 5; });
  bad([](dcast_hdr& h) { h.k = 0; });
  bad([](dcast_hdr& h) { h.index = 64; });
  bad([](dcast_hdr& h) { h.index = 3; });  // the last symbol is shorter
  bad([](dcast_hdr& h) { h.symbol_size = 0; });
  bad([](dcast_hdr& h) { h.symbol_size = dcast_to_le16(1353); });
  bad([](dcast_hdr& h) { h.symbol_size = dcast_to_le16(65528); });
  bad([](dcast_hdr& h) { h.encoded_len = 0; });
  bad([](dcast_hdr& h) { h.encoded_len = dcast_to_le32(~0u); });
  bad([](dcast_hdr& h) { h.number = dcast_to_le64(~0ull); });
  bad([](dcast_hdr& h) { h.lane = 64; });
  bad([](dcast_hdr& h) { h.path = 8; });
  bad([](dcast_hdr& h) {  // class 0 travels in lane 0
    h.block_class = 0;
    h.lane = 1;
  });
  bad([](dcast_hdr& h) { h.type = DCAST_NAK; });
}

TEST_F(VerifyTest, ShortPayloadsAreRefusedAndLongerOnesTaken) {
  const auto with = [this](uint8_t type, size_t bytes) {
    return Verdict(SenderDouble::Seal(sender_.Header(type), std::string(bytes, '\0')));
  };
  EXPECT_EQ(with(DCAST_ANNOUNCE, sizeof(dcast_announce) - 1), Counter::kFormat);
  EXPECT_EQ(with(DCAST_ANNOUNCE, sizeof(dcast_announce) + 8), Counter::kAnnounce);
  EXPECT_EQ(with(DCAST_END, sizeof(dcast_end) - 1), Counter::kFormat);
  EXPECT_EQ(with(DCAST_END, sizeof(dcast_end) + 8), Counter::kEnd);
}

TEST_F(VerifyTest, NakWhoseEntriesLieBeyondItsEndIsRefused) {
  dcast_nak nak{};
  nak.entries = dcast_to_le32(2);
  nak.entry_bytes = dcast_to_le32(sizeof(dcast_nak_entry));
  std::string payload(reinterpret_cast<const char*>(&nak), sizeof(nak));
  payload.resize(sizeof(nak) + 2 * sizeof(dcast_nak_entry) - 1);
  EXPECT_EQ(Verdict(SenderDouble::Seal(sender_.Header(DCAST_NAK), payload)), Counter::kFormat);
  payload.push_back('\0');
  EXPECT_EQ(Verdict(SenderDouble::Seal(sender_.Header(DCAST_NAK), payload)), Counter::kPeerPacket);
}

TEST_F(VerifyTest, UnknownTypeOfANewerMinorIsCountedByItself) {
  EXPECT_EQ(Verdict(SenderDouble::Seal(sender_.Header(9), "")), Counter::kUnknownType);
}

}  // namespace
}  // namespace dumpcast
