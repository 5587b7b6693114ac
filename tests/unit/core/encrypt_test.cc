// SPDX-License-Identifier: Apache-2.0
// Encrypted dumps, as they leave the engine.
#include <cstring>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protos/keys/end_to_end.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

class EncryptTest : public ::testing::Test {
 protected:
  EncryptTest() : host_({{0, 4 << 20}}) {
    for (size_t i = 0; i < key_.size(); ++i) key_[i] = static_cast<uint8_t>(i);
    host_.secrets.end_to_end = CipherKeys(key_);
    host_.secrets.encrypted = 1;
    host_.streams[DCAST_STREAM_KEYS] = std::string(2 * sizeof(dcast_key_box), 'k');
  }
  void Dump() {
    host_.Init();
    host_.Begin();
    ASSERT_TRUE(host_.RunToPhase(DCAST_PHASE_LINGER));
    got_.keys = host_.secrets.wire;
    for (const SentPacket& packet : host_.packets) got_.Add(packet);
    EXPECT_EQ(got_.bad_digests, 0u);
  }
  static bool IsClear(const BlockId& id) {
    return id.first == 0 &&
           dcast_stream_is_clear(static_cast<unsigned>(id.second >> DCAST_STREAM_SHIFT));
  }
  // The encoding within; the block must be encrypted.
  std::string Decrypt(const BlockId& id) {
    const auto& encoded = got_.blocks.at(id).encoded;
    const auto opened =
        DecryptEncoding(CipherKeys(key_), host_.config.dump_id, static_cast<uint8_t>(id.first),
                        id.second, {reinterpret_cast<const char*>(encoded.data()), encoded.size()});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.value_or("");
  }
  static Reassembler::Block AsBlock(const std::string& encoding) {
    return {1, {encoding.begin(), encoding.end()}};
  }
  dcast_meta Meta(unsigned stream) {
    const BlockId id{0, dcast_class0_number(stream, 0)};
    const auto raw =
        Reassembler::Raw(stream == DCAST_STREAM_META ? got_.blocks.at(id) : AsBlock(Decrypt(id)));
    dcast_meta meta = {};
    EXPECT_EQ(raw.size(), sizeof(meta));
    std::memcpy(&meta, raw.data(), std::min(raw.size(), sizeof(meta)));
    return meta;
  }

  EndToEndKey key_;
  FakeHost host_;
  Reassembler got_;
};

TEST_F(EncryptTest, EveryBlockButTheClearStreamsOpensToThePagesAsTheyWere) {
  Dump();
  std::set<std::string> nonces;
  size_t pages = 0;
  for (const auto& [id, block] : got_.blocks) {
    const dcast_block_hdr outer = Reassembler::Header(block);
    if (IsClear(id)) {
      EXPECT_EQ(outer.cipher, DCAST_CIPHER_NONE) << id.second;
      continue;
    }
    ASSERT_EQ(outer.cipher, DCAST_CIPHER_XCHACHA20_POLY1305) << id.first << "/" << id.second;
    EXPECT_EQ(outer.present | outer.zero | outer.unreadable | outer.codec | outer.page_shift, 0);
    EXPECT_TRUE(nonces
                    .insert({reinterpret_cast<const char*>(block.encoded.data()) + sizeof(outer),
                             DCAST_NONCE_BYTES})
                    .second);
    if (id.first == 0) continue;
    const Reassembler::Block inner = AsBlock(Decrypt(id));
    const dcast_block_hdr hdr = Reassembler::Header(inner);
    const std::vector<uint8_t> raw = Reassembler::Raw(inner);
    size_t at = 0;
    for (unsigned i = 0; i < 16; ++i) {
      if (!((dcast_le16(hdr.present) & ~dcast_le16(hdr.zero)) >> i & 1)) continue;
      ASSERT_LE(at + 4096, raw.size());
      EXPECT_EQ(std::memcmp(&raw[at], host_.Page(id.second * 16 + i), 4096), 0);
      at += 4096;
      ++pages;
    }
  }
  EXPECT_GT(pages, 300u);
  EXPECT_GT(nonces.size(), 100u);
}

TEST_F(EncryptTest, MetaTellsTheLeastAndIsWholeWithin) {
  Dump();
  const dcast_meta least = Meta(DCAST_STREAM_META), whole = Meta(DCAST_STREAM_WHOLE_META);
  EXPECT_EQ(least.flags, dcast_to_le64(DCAST_META_ENCRYPTED));
  EXPECT_EQ(whole.flags, 0u);
  EXPECT_STREQ(whole.reason, "sysrq triggered crash");
  EXPECT_STREQ(least.reason, "");
  EXPECT_EQ(std::memcmp(least.stream_len, whole.stream_len, sizeof(least.stream_len)), 0);
  EXPECT_EQ(dcast_le64(least.stream_len[DCAST_STREAM_WHOLE_META]), sizeof(dcast_meta));
  EXPECT_EQ(dcast_le64(least.stream_len[DCAST_STREAM_KEYS]), 2 * sizeof(dcast_key_box));
  // Not one packet has what is known to be in it.
  for (const char* text : {"sysrq triggered", "OSRELEASE=", "] line", "nnnnnnnnnnnnnnnn"}) {
    for (const SentPacket& packet : host_.packets) {
      const std::string bytes(packet.bytes.begin(), packet.bytes.end());
      ASSERT_EQ(bytes.find(text), std::string::npos) << text;
    }
  }
}

TEST_F(EncryptTest, TheKeysLeaveBeforeWhatTheyOpen) {
  host_.config.slots = 1;
  Dump();
  std::vector<uint64_t> streams;
  for (const SentPacket* packet : host_.Sent(DCAST_SYMBOL)) {
    if (packet->hdr().block_class != 0) break;
    const uint64_t stream = packet->number() >> DCAST_STREAM_SHIFT;
    if (streams.empty() || streams.back() != stream) streams.push_back(stream);
  }
  EXPECT_THAT(streams,
              ::testing::ElementsAre(DCAST_STREAM_META, DCAST_STREAM_KEYS, DCAST_STREAM_WHOLE_META,
                                     DCAST_STREAM_VMCOREINFO, DCAST_STREAM_NOTES,
                                     DCAST_STREAM_MEMMAP, DCAST_STREAM_LOG, DCAST_STREAM_PRESENCE));
}

TEST_F(EncryptTest, TheSameBlockComesOutTheSameAndAChangedOneUnderAnotherNonce) {
  Dump();
  const BlockId first = [&] {
    for (const auto& [id, block] : got_.blocks)
      if (id.first == 1) return id;
    return BlockId{};
  }();
  const auto before = got_.blocks.at(first);
  const auto again = [&] {
    Reassembler got;
    got.keys = host_.secrets.wire;
    host_.on_packet = [&](const SentPacket& packet) { got.Add(packet); };
    host_.Hello(7);
    host_.Nak(7, {{dcast_to_le64(first.second), 0, 0, dcast_to_le32(1), 1, 0, {}}});
    EXPECT_TRUE(host_.Run([&] { return got.blocks.contains(first); }, 5'000'000'000));
    host_.on_packet = nullptr;
    return got.blocks[first];
  };
  EXPECT_EQ(again().encoded, before.encoded);
  host_.change_on_read = true;
  const auto changed = again();
  EXPECT_NE(changed.digest, before.digest);
  EXPECT_NE(std::memcmp(&changed.encoded[16], &before.encoded[16], 16), 0);
}

TEST_F(EncryptTest, LargestBlocksFit) {
  // Pages of noise: what is encrypted is a header longer than the window.
  Dump();
  size_t largest = 0;
  for (const auto& [id, block] : got_.blocks) largest = std::max(largest, block.encoded.size());
  EXPECT_LE(largest, size_t{DCAST_MAX_ENCODED_BYTES});
}

TEST_F(EncryptTest, HelpersEncryptAsTheSenderDoes) {
  host_.config.helpers = 3;
  Dump();
  EXPECT_GT(host_.sender->stats.helped_blocks, 10u);
  for (const auto& [id, block] : got_.blocks) {
    if (IsClear(id)) continue;
    EXPECT_FALSE(Decrypt(id).empty());
  }
}

}  // namespace
}  // namespace dumpcast
