// SPDX-License-Identifier: Apache-2.0
#include "relay/reply.h"

#include <cstring>

#include "gtest/gtest.h"
#include "relay/verify.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

class ReplyTest : public testing::Test {
 protected:
  std::string Make(uint8_t type, std::string_view payload) {
    return MakePacket(type, {SenderDouble::Dump(), SenderDouble::kEpoch, &keys_}, 77, 5, 3,
                      payload);
  }
  template <typename T>
  static T PayloadOf(const std::string& packet) {
    T value;
    EXPECT_GE(packet.size(), sizeof(dcast_hdr) + sizeof(value));
    std::memcpy(&value, packet.data() + sizeof(dcast_hdr), sizeof(value));
    return value;
  }
  const dcast_keys keys_ = SenderDouble::Keys();
};

TEST_F(ReplyTest, HeaderSaysWhoAndToWhomAndVerifies) {
  const std::string packet = Make(DCAST_PACE, PacePayload(1234, 5));
  Verifier verifier([this](const Id16&, uint16_t) { return std::optional(keys_); });
  const Verified v = verifier.Verify({packet, {}, false});
  EXPECT_EQ(v.verdict, Counter::kPeerPacket);
  EXPECT_EQ(v.dump(), SenderDouble::Dump());
  EXPECT_EQ(dcast_le64(v.hdr.origin), 77u);
  EXPECT_EQ(dcast_le64(v.hdr.seq), 5u);
  EXPECT_EQ(dcast_le16(v.hdr.key_epoch), SenderDouble::kEpoch);
  EXPECT_EQ(v.hdr.path, 3);
  EXPECT_EQ(dcast_le32(PayloadOf<dcast_pace>(packet).kib_s), 1234u);
}

TEST_F(ReplyTest, HelloNamesTheRelayAndNeverRunsOverItsName) {
  const auto hello = PayloadOf<dcast_hello>(
      Make(DCAST_HELLO, HelloPayload(dcast_to_le64(9), 0xf, 100, std::string(200, 'n'))));
  EXPECT_EQ(dcast_le64(hello.announce_seq), 9u);
  EXPECT_EQ(dcast_le64(hello.lane_mask), 0xfu);
  EXPECT_EQ(dcast_le32(hello.pace_kib_s), 100u);
  EXPECT_EQ(strnlen(hello.name, sizeof(hello.name)), sizeof(hello.name) - 1);
}

TEST_F(ReplyTest, NakCarriesItsEntriesAndTheirSize) {
  std::vector<dcast_nak_entry> entries(3);
  entries[2].number = dcast_to_le64(42);
  const std::string payload = NakPayload(entries);
  EXPECT_EQ(payload.size(), sizeof(dcast_nak) + 3 * sizeof(dcast_nak_entry));
  const auto nak = PayloadOf<dcast_nak>(Make(DCAST_NAK, payload));
  EXPECT_EQ(dcast_le32(nak.entries), 3u);
  EXPECT_EQ(dcast_le32(nak.entry_bytes), sizeof(dcast_nak_entry));
}

TEST_F(ReplyTest, CommitSaysWhichLanesAndHowManyBlocks) {
  const auto commit = PayloadOf<dcast_commit>(Make(DCAST_COMMIT, CommitPayload(0b101, 99)));
  EXPECT_EQ(dcast_le64(commit.lane_mask), 0b101u);
  EXPECT_EQ(dcast_le64(commit.blocks), 99u);
}

}  // namespace
}  // namespace dumpcast
