// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/end_to_end.h"

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint8_t kDump[DCAST_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
constexpr uint64_t kNumber = 0x123456789a;

// A header and so many bytes behind it.
std::string Encoding(size_t payload) {
  dcast_block_hdr header{};
  header.raw_len = dcast_to_le32(static_cast<uint32_t>(payload));
  header.page_shift = 12;
  header.hdr_len = sizeof(header);
  header.present = dcast_to_le16(0xffff);
  header.zero = dcast_to_le16(0x00f0);
  std::string encoding(reinterpret_cast<const char*>(&header), sizeof(header));
  for (size_t i = 0; i < payload; ++i) encoding.push_back(static_cast<char>(i * 7));
  return encoding;
}

std::string Stream(std::initializer_list<dcast_key_box> boxes) {
  std::string stream;
  for (const dcast_key_box& box : boxes) {
    stream.append(reinterpret_cast<const char*>(&box), sizeof(box));
  }
  return stream;
}

TEST(KeyBox, OpensForEachRecipientAndNobodyElse) {
  const EndToEndKey key = NewEndToEndKey();
  const Identity a = NewIdentity();
  const Identity b = NewIdentity();
  const std::string stream = Stream({MakeKeyBox(key, a.recipient), MakeKeyBox(key, b.recipient)});
  for (const Identity& identity : {a, b}) {
    const auto opened = OpenKeyBox(stream, identity);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(*opened, key);
  }
  const auto other = OpenKeyBox(stream, NewIdentity());
  EXPECT_EQ(other.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(other.status().message(), HasSubstr("2 other recipients"));
}

TEST(KeyBox, ADamagedStreamIsDataLoss) {
  const Identity me = NewIdentity();
  const std::string good = Stream({MakeKeyBox(NewEndToEndKey(), me.recipient)});
  std::string bad = good;
  bad[40] ^= 1;
  EXPECT_EQ(OpenKeyBox(bad, me).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenKeyBox(good.substr(1), me).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenKeyBox("", me).status().code(), absl::StatusCode::kDataLoss);
}

TEST(EncryptedEncoding, ComesBackAsItWas) {
  const CipherKeys keys(NewEndToEndKey());
  for (const size_t payload : {0, 1, 7, 8, 63, 64, 4096, 65536}) {
    const std::string encoding = Encoding(payload);
    const std::string encrypted = EncryptEncoding(keys, kDump, 2, kNumber, encoding);
    EXPECT_EQ(encrypted.size(), encoding.size() + DCAST_ENCRYPTED_HDR_BYTES + DCAST_TAG_BYTES);
    const auto decrypted = DecryptEncoding(keys, kDump, 2, kNumber, encrypted);
    ASSERT_TRUE(decrypted.ok()) << decrypted.status();
    EXPECT_EQ(*decrypted, encoding);
    // Symbols that are sent again must join those sent before.
    EXPECT_EQ(EncryptEncoding(keys, kDump, 2, kNumber, encoding), encrypted);
  }
}

TEST(EncryptedEncoding, TwoInputsNeverShareANonce) {
  const CipherKeys keys(NewEndToEndKey());
  const std::string encoding = Encoding(100);
  const auto nonce = [](const std::string& encrypted) { return encrypted.substr(16, 24); };
  const std::string first = nonce(EncryptEncoding(keys, kDump, 2, kNumber, encoding));
  EXPECT_NE(nonce(EncryptEncoding(keys, kDump, 3, kNumber, encoding)), first);
  EXPECT_NE(nonce(EncryptEncoding(keys, kDump, 2, kNumber + 1, encoding)), first);
  const uint8_t other[DCAST_ID_BYTES] = {9};
  EXPECT_NE(nonce(EncryptEncoding(keys, other, 2, kNumber, encoding)), first);
  for (size_t at = 0; at < encoding.size(); ++at) {
    std::string changed = encoding;
    changed[at] ^= 1;
    EXPECT_NE(nonce(EncryptEncoding(keys, kDump, 2, kNumber, changed)), first) << at;
  }
}

TEST(EncryptedEncoding, EveryBitThatIsChangedIsNoticed) {
  const CipherKeys keys(NewEndToEndKey());
  const std::string encrypted = EncryptEncoding(keys, kDump, 2, kNumber, Encoding(24));
  for (size_t bit = 0; bit < encrypted.size() * 8; ++bit) {  // header, nonce, ciphertext, tag
    std::string changed = encrypted;
    changed[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_EQ(DecryptEncoding(keys, kDump, 2, kNumber, changed).status().code(),
              absl::StatusCode::kDataLoss)
        << "bit " << bit;
  }
  for (size_t size = 0; size < encrypted.size(); ++size) {
    EXPECT_FALSE(DecryptEncoding(keys, kDump, 2, kNumber, encrypted.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecryptEncoding(keys, kDump, 2, kNumber, encrypted + "x").ok());
}

TEST(EncryptedEncoding, BelongsToItsBlockAndDumpAndKey) {
  const CipherKeys keys(NewEndToEndKey());
  const std::string encrypted = EncryptEncoding(keys, kDump, 2, kNumber, Encoding(24));
  const uint8_t other[DCAST_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1};
  EXPECT_FALSE(DecryptEncoding(keys, other, 2, kNumber, encrypted).ok());
  EXPECT_FALSE(DecryptEncoding(keys, kDump, 3, kNumber, encrypted).ok());
  EXPECT_FALSE(DecryptEncoding(keys, kDump, 2, kNumber + 1, encrypted).ok());
  EXPECT_FALSE(DecryptEncoding(CipherKeys(NewEndToEndKey()), kDump, 2, kNumber, encrypted).ok());
  EXPECT_TRUE(DecryptEncoding(keys, kDump, 2, kNumber, encrypted).ok());
}

TEST(EncryptedEncoding, ItsHeaderIsReadFromTheFirstBytes) {
  const CipherKeys keys(NewEndToEndKey());
  for (const size_t payload : {0, 100, 4096}) {
    const std::string encoding = Encoding(payload);
    const std::string encrypted = EncryptEncoding(keys, kDump, 1, kNumber, encoding);
    for (const size_t prefix : {size_t{56}, size_t{72}, encrypted.size()}) {
      const auto header = DecryptHeaderUnchecked(keys, encrypted.substr(0, prefix));
      ASSERT_TRUE(header.ok()) << header.status();
      EXPECT_EQ(*header, encoding.substr(0, sizeof(dcast_block_hdr)));
    }
    EXPECT_EQ(DecryptHeaderUnchecked(keys, encrypted.substr(0, 55)).status().code(),
              absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(DecryptHeaderUnchecked(keys, Encoding(100)).status().code(),
            absl::StatusCode::kDataLoss)
      << "it is not encrypted";
}

TEST(Siphash128, IsThatOfLibsodium) {
  uint8_t key_bytes[crypto_shorthash_siphashx24_KEYBYTES];
  uint8_t data[200];
  for (size_t i = 0; i < sizeof(key_bytes); ++i) key_bytes[i] = static_cast<uint8_t>(i * 3);
  for (size_t i = 0; i < sizeof(data); ++i) data[i] = static_cast<uint8_t>(i * 5);
  const dcast_siphash_key key = {dcast_load64(key_bytes), dcast_load64(key_bytes + 8)};
  for (size_t words = 0; words <= 6; ++words) {
    for (size_t len = words * 8; len <= sizeof(data); ++len) {
      uint8_t wanted[crypto_shorthash_siphashx24_BYTES];
      crypto_shorthash_siphashx24(wanted, data, len, key_bytes);
      uint64_t prefix[6];
      for (size_t i = 0; i < words; ++i) prefix[i] = dcast_load64(data + i * 8);
      __u64 got[2];
      dcast_siphash128_prefixed(&key, reinterpret_cast<const __u64*>(prefix),
                                static_cast<unsigned>(words), data + words * 8, len - words * 8,
                                got);
      EXPECT_EQ(got[0], dcast_load64(wanted)) << words << " " << len;
      EXPECT_EQ(got[1], dcast_load64(wanted + 8)) << words << " " << len;
    }
  }
}

TEST(SignatureKey, IsThatOfTheSetOfRecipients) {
  const Recipient a = NewIdentity().recipient;
  const Recipient b = NewIdentity().recipient;
  EXPECT_EQ(SignatureKey({a, b}), SignatureKey({b, a, b}));
  EXPECT_FALSE(SignatureKey({a, b}) == SignatureKey({a}));
}

TEST(ParseRecipient, TakesWhatRecipientTextWrites) {
  const Recipient recipient = NewIdentity().recipient;
  EXPECT_EQ(*ParseRecipient(RecipientText(recipient)), recipient);
  for (const std::string& text : {std::string(63, 'a'), std::string(65, 'a'), std::string(),
                                  std::string(63, 'a') + "g", std::string(64, '0')}) {
    const auto parsed = ParseRecipient(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(parsed.status().message(), HasSubstr("dumpcast keygen"));
  }
}

class IdentityFileTest : public ::testing::Test {
 protected:
  void TearDown() override { unlink(path_.c_str()); }
  absl::StatusOr<Identity> Load(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_) << text;
    EXPECT_EQ(chmod(path_.c_str(), mode), 0);
    return LoadIdentity(path_);
  }
  const std::string path_ = ::testing::TempDir() + "/dumpcast_identity_" + std::to_string(getpid());
};

TEST_F(IdentityFileTest, GivesBackWhatWasWritten) {
  const Identity made = NewIdentity();
  const auto loaded = Load(IdentityText(made));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->recipient, made.recipient);
  EXPECT_EQ(loaded->secret, made.secret);
  EXPECT_THAT(IdentityText(made), HasSubstr("# recipient: " + RecipientText(made.recipient)));
}

TEST_F(IdentityFileTest, IsRefusedWhenOthersMayReadIt) {
  for (const mode_t mode : {0644, 0640, 0602, 0604}) {
    const auto loaded = Load(IdentityText(NewIdentity()), mode);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kPermissionDenied) << mode;
    EXPECT_THAT(loaded.status().message(), HasSubstr("chmod"));
    EXPECT_THAT(loaded.status().message(), HasSubstr(path_));
  }
}

TEST_F(IdentityFileTest, ErrorsNameTheLineAndNeverTheSecret) {
  const std::string hex(64, 'c');
  const struct {
    std::string text;
    const char* wanted;
  } kCases[] = {
      {"", "no identity in it"},
      {"# nothing\n", "`dumpcast keygen` makes one"},
      {"identity " + hex.substr(1) + "\n", ":1: wanted one line `identity`"},
      {"# a\n\nidentity " + hex + "\nidentity " + hex + "\n", ":4: wanted one line"},
      {"identity\n", ":1: wanted one line"},
      {"recipient " + hex + "\n", ":1: wanted one line"},
      {hex + "\n", ":1: wanted one line"},
      {"identity " + hex + " x\n", ":1: wanted one line"},
  };
  for (const auto& c : kCases) {
    const auto loaded = Load(c.text);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << c.text;
    EXPECT_THAT(loaded.status().message(), HasSubstr(c.wanted));
    EXPECT_THAT(loaded.status().message(), Not(HasSubstr("ccc")));
  }
  unlink(path_.c_str());
  EXPECT_EQ(LoadIdentity(path_).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace dumpcast
