// SPDX-License-Identifier: Apache-2.0
// The golden vectors, read in C (vectors_reader.c) and in C++.
#include "tests/unit/wire/vectors.h"

#include <sodium.h>

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kmod/core/sender_internal.h"
#include "protos/keys/end_to_end.h"
#include "protos/keys/keys.h"
#include "protos/wire/auth.h"

namespace dumpcast {
namespace {

std::string VectorPath(const std::string& name) {
  return std::string(DUMPCAST_SOURCE_DIR) + "/protos/wire/vectors/" + name + ".hex";
}

std::vector<uint8_t> FromHex(const std::string& text) {
  std::vector<uint8_t> bytes;
  std::string digits;
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c))) digits += c;
  }
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

struct Vector {
  std::vector<uint8_t> bytes;
  std::map<std::string, std::string> wanted;
  uint64_t number(const std::string& name) const { return std::stoull(wanted.at(name)); }
};

Vector Read(const std::string& name) {
  std::ifstream file(VectorPath(name));
  EXPECT_TRUE(file.good()) << VectorPath(name);
  Vector v;
  std::string line;
  while (std::getline(file, line)) {
    if (line[0] == '=') {
      std::istringstream words(line.substr(1));
      std::string key, value;
      words >> key >> value;
      v.wanted[key] = value;
    } else {
      const std::vector<uint8_t> bytes = FromHex(line.substr(0, line.find('#')));
      v.bytes.insert(v.bytes.end(), bytes.begin(), bytes.end());
    }
  }
  return v;
}

const char* const kPackets[] = {"announce", "symbol-data", "symbol-parity", "empty", "end",
                                "hello",    "nak",         "pace",          "admit", "commit"};

class PacketVector : public ::testing::TestWithParam<const char*> {};

TEST_P(PacketVector, ReadsTheSameInC) {
  char why[256] = "";
  EXPECT_GE(dcast_check_vector(VectorPath(GetParam()).c_str(), why, sizeof(why)), 20) << why;
}

TEST_P(PacketVector, KeyDerivationAndMacHoldInCpp) {
  const Vector v = Read(GetParam());
  dcast_hdr hdr;
  ASSERT_GE(v.bytes.size(), sizeof(hdr));
  std::memcpy(&hdr, v.bytes.data(), sizeof(hdr));
  EXPECT_EQ(v.bytes.size(), sizeof(hdr) + dcast_le16(hdr.payload_len));
  Key cluster;
  const auto cluster_bytes = FromHex(v.wanted.at("cluster_key"));
  std::copy(cluster_bytes.begin(), cluster_bytes.end(), cluster.data());
  HostId host;
  std::copy(hdr.host_id, hdr.host_id + DCAST_ID_BYTES, host.begin());
  const Key key = DeriveHostKey(cluster, host, dcast_le16(hdr.key_epoch));
  EXPECT_EQ(std::vector<uint8_t>(key.data(), key.data() + key.size()),
            FromHex(v.wanted.at("host_key")));
  dcast_keys keys;
  dcast_keys_init(&keys, key.data());
  EXPECT_EQ(dcast_packet_mac(&keys, v.bytes.data(), v.bytes.size()), dcast_le64(hdr.mac));
  // Every single byte is covered.
  for (size_t i = 0; i < v.bytes.size(); i += 1 + i / 64) {
    std::vector<uint8_t> damaged = v.bytes;
    damaged[i] ^= 1;
    EXPECT_NE(dcast_packet_mac(&keys, damaged.data(), damaged.size()), dcast_load64(damaged.data()))
        << "byte " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Wire, PacketVector, ::testing::ValuesIn(kPackets));

TEST(BlockVector, DigestAndSymbolsAreCutFromTheEncoding) {
  const Vector block = Read("block");
  dcast_keys keys;
  dcast_keys_init(&keys, FromHex(block.wanted.at("host_key")).data());
  const auto* hdr = reinterpret_cast<const dcast_block_hdr*>(block.bytes.data());
  EXPECT_EQ(dcast_le32(hdr->raw_len), block.number("block.raw_len"));
  EXPECT_EQ(dcast_le16(hdr->present), block.number("block.present"));
  EXPECT_EQ(dcast_le16(hdr->zero), block.number("block.zero"));
  EXPECT_EQ(dcast_le16(hdr->unreadable), block.number("block.unreadable"));
  EXPECT_EQ(hdr->hdr_len, 16);
  const auto len = static_cast<uint32_t>(block.bytes.size());
  EXPECT_EQ(dcast_block_digest(&keys, static_cast<unsigned>(block.number("block_class")),
                               block.number("number"), block.bytes.data(), len),
            block.number("digest"));
  for (const char* name : {"symbol-data", "symbol-parity"}) {
    const Vector v = Read(name);
    dcast_hdr h;
    std::memcpy(&h, v.bytes.data(), sizeof(h));
    const uint32_t size = dcast_le16(h.symbol_size);
    EXPECT_EQ(dcast_le64(h.digest), block.number("digest"));
    const uint32_t symbol_len = dcast_symbol_len(len, size, h.k, h.index);
    ASSERT_EQ(v.bytes.size(), sizeof(h) + symbol_len);
    std::vector<uint8_t> padded = block.bytes;
    padded.resize(static_cast<size_t>(h.k) * size);
    std::vector<uint8_t> symbol(size);
    if (h.index < h.k) {
      std::memcpy(symbol.data(), &padded[static_cast<size_t>(h.index) * size], size);
    } else {
      dcast_fec_lists lists;
      dcast_fec_parity(padded.data(), size, h.k, h.index, size, symbol.data(), &lists);
    }
    EXPECT_EQ(std::memcmp(symbol.data(), v.bytes.data() + sizeof(h), symbol_len), 0) << name;
  }
}

TEST(EncryptedVector, IsTheEncodingAsThisImplementationEncryptsIt) {
  const Vector v = Read("encrypted"), block = Read("block");
  EndToEndKey dump_key;
  const auto dump_key_bytes = FromHex(v.wanted.at("dump_key"));
  std::copy(dump_key_bytes.begin(), dump_key_bytes.end(), dump_key.data());
  const CipherKeys keys(dump_key);
  EXPECT_EQ(std::vector<uint8_t>(keys.cipher, keys.cipher + sizeof(keys.cipher)),
            FromHex(v.wanted.at("cipher_key")));
  const auto dump_id = FromHex(v.wanted.at("dump_id"));
  const auto block_class = static_cast<uint8_t>(v.number("block_class"));
  const auto text = [](const std::vector<uint8_t>& bytes) {
    return std::string(bytes.begin(), bytes.end());
  };
  const std::string ours =
      EncryptEncoding(keys, dump_id.data(), block_class, v.number("number"), text(block.bytes));
  EXPECT_EQ(ours, text(v.bytes));
  const auto opened =
      DecryptEncoding(keys, dump_id.data(), block_class, v.number("number"), text(v.bytes));
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(*opened, text(block.bytes));
  dcast_keys wire;
  dcast_keys_init(&wire, FromHex(v.wanted.at("host_key")).data());
  EXPECT_EQ(dcast_block_digest(&wire, block_class, v.number("number"), v.bytes.data(),
                               static_cast<uint32_t>(v.bytes.size())),
            v.number("digest"));
}

TEST(KeysVector, OpensForItsIdentity) {
  const Vector v = Read("keys");
  Identity identity;
  const auto secret = FromHex(v.wanted.at("identity"));
  std::copy(secret.begin(), secret.end(), identity.secret.data());
  const auto recipient = ParseRecipient(v.wanted.at("recipient"));
  ASSERT_TRUE(recipient.ok());
  identity.recipient = *recipient;
  const auto key = OpenKeyBox(std::string(v.bytes.begin(), v.bytes.end()), identity);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(std::vector<uint8_t>(key->data(), key->data() + key->size()),
            FromHex(v.wanted.at("dump_key")));
}

TEST(EndVector, SumsAreTheIdMixes) {
  const Vector v = Read("end");
  __u64 sum = dcast_id_mix(0, 0) + dcast_id_mix(0, dcast_class0_number(1, 0)) +
              dcast_id_mix(0, dcast_class0_number(5, 0));
  EXPECT_EQ(v.number("end.cls[0].id_sum"), sum);
  EXPECT_EQ(v.number("end.cls[3].id_sum"), dcast_id_mix(3, 4) + dcast_id_mix(3, 8));
}

// From the SipHash paper (Aumasson, Bernstein 2012), appendix A.
TEST(SipHash, MatchesThePaper) {
  uint8_t key[16], data[15];
  for (size_t i = 0; i < sizeof(key); ++i) key[i] = static_cast<uint8_t>(i);
  for (size_t i = 0; i < sizeof(data); ++i) data[i] = static_cast<uint8_t>(i);
  const dcast_siphash_key k = {dcast_load64(key), dcast_load64(key + 8)};
  EXPECT_EQ(dcast_siphash(&k, data, sizeof(data)), 0xa129ca6149be45e5u);
}

TEST(SipHash, MatchesLibsodiumForEveryLengthAndSplit) {
  std::vector<uint8_t> data(300);
  uint8_t key[16];
  randombytes_buf(data.data(), data.size());
  randombytes_buf(key, sizeof(key));
  const dcast_siphash_key k = {dcast_load64(key), dcast_load64(key + 8)};
  for (size_t len = 0; len <= data.size(); ++len) {
    uint8_t expected[8];
    crypto_shorthash_siphash24(expected, data.data(), len, key);
    ASSERT_EQ(dcast_siphash(&k, data.data(), len), dcast_load64(expected)) << len;
    if (len >= 16) {
      const __u64 prefix[2] = {dcast_load64(data.data()), dcast_load64(data.data() + 8)};
      ASSERT_EQ(dcast_siphash_prefixed(&k, prefix, 2, data.data() + 16, len - 16),
                dcast_load64(expected));
    }
  }
}

TEST(Meta, OffsetsAreThoseOfTheDocument) {
  EXPECT_EQ(offsetof(dcast_meta, stream_len), 48u);
  EXPECT_EQ(offsetof(dcast_meta, window_end), 112u);
  EXPECT_EQ(offsetof(dcast_meta, vmemmap_vaddr), 152u);
  EXPECT_EQ(offsetof(dcast_meta, lanes), 168u);
  EXPECT_EQ(offsetof(dcast_meta, hostname), 176u);
  EXPECT_EQ(offsetof(dcast_meta, reason), 496u);
  EXPECT_EQ(offsetof(dcast_hdr, digest), 72u);
  EXPECT_EQ(offsetof(dcast_hdr, block_class), 92u);
}

}  // namespace
}  // namespace dumpcast
