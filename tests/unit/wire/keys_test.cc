// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/keys.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHexKey(64, 'a');

class KeyFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "/dumpcast_keys_" + std::to_string(getpid());
  }
  void TearDown() override { unlink(path_.c_str()); }
  void Write(const std::string& text, mode_t mode) {
    std::ofstream(path_) << text;
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
  }
  std::string path_;
};

TEST(ParseKeyFile, TakesCommentsBlankLinesAndSeveralEpochs) {
  const auto keys = ParseKeyFile(
      "# the keys\n\n 1 " + kHexKey + "\n\t7\t" + std::string(64, 'B') + "  # newest\n", "f");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->NewestEpoch(), 7);
  EXPECT_EQ(keys->by_epoch.at(1)[31], 0xaa);
  EXPECT_EQ(keys->by_epoch.at(7)[0], 0xbb);
  const HostId host = {1, 2, 3};
  EXPECT_EQ(keys->HostKey(host, 7), DeriveHostKey(keys->by_epoch.at(7), host, 7));
  EXPECT_EQ(keys->HostKey(host, 2), std::nullopt);
}

TEST(ParseKeyFile, AHostNeedsOnlyItsOwnKey) {
  const auto keys = ParseKeyFile("host 3 " + kHexKey + "\n", "f");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->NewestEpoch(), 3);
  EXPECT_TRUE(keys->by_epoch.empty());
  Key own;
  own.fill(0xaa);
  EXPECT_EQ(keys->HostKey({}, 3), own);
  EXPECT_EQ(keys->HostKey({}, 2), std::nullopt);
}

TEST(ParseKeyFile, AHostIsRevokedUpToAnEpoch) {
  const auto keys =
      ParseKeyFile("2 " + kHexKey + "\nrevoked 0102030000000000000000000000000f 2\n", "f");
  ASSERT_TRUE(keys.ok()) << keys.status();
  const HostId host = {1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15};
  EXPECT_TRUE(keys->IsRevoked(host, 1));
  EXPECT_TRUE(keys->IsRevoked(host, 2));
  EXPECT_FALSE(keys->IsRevoked(host, 3));
  EXPECT_FALSE(keys->IsRevoked({}, 1));
  // What it sent before can still be checked.
  EXPECT_TRUE(keys->HostKey(host, 2).has_value());
}

TEST(ParseKeyFile, NamesLineAndFixWithoutRepeatingTheKey) {
  const struct {
    std::string text;
    const char* wanted;
  } kCases[] = {
      {"1 " + kHexKey + "\n2 " + kHexKey.substr(1) + "\n", "f:2: no key of 64 hex digits"},
      {"1 " + kHexKey.substr(1) + "g\n", "64 hex digits"},
      {"0 " + kHexKey + "\n", "f:1: no epoch"},
      {"65536 " + kHexKey + "\n", "1..65535"},
      {"-1 " + kHexKey + "\n", "1..65535"},
      {kHexKey + "\n", "wanted two, found 1"},
      {"1 " + kHexKey + " x\n", "wanted two, found 3"},
      {"1 " + kHexKey + "\n1 " + kHexKey + "\n", "f:2: epoch 1 is given twice"},
      {"# nothing\n", "no key in it"},
      {"host " + kHexKey + "\n", "wanted three words, found 2"},
      {"host 0 " + kHexKey + "\n", "f:1: no epoch"},
      {"1 " + kHexKey + "\nrevoked 00 1\n", "f:2: no host id of 32 hex digits"},
      {"1 " + kHexKey + "\nrevoked " + std::string(32, '0') + "\n", "wanted three words"},
      {"1 " + kHexKey + "\nrevoked " + std::string(32, '0') + " 1\nrevoked " +
           std::string(32, '0') + " 2\n",
       "f:3: this host is revoked twice"},
      {"revoked " + std::string(32, '0') + " 1\n", "no key in it"},
  };
  for (const auto& c : kCases) {
    const auto keys = ParseKeyFile(c.text, "f");
    ASSERT_FALSE(keys.ok()) << c.text;
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr(c.wanted));
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr("openssl rand"));
    EXPECT_THAT(std::string(keys.status().message()), Not(HasSubstr("aaaaaaaa")));
  }
}

TEST_F(KeyFileTest, OpenToOthersIsRefusedWithTheFix) {
  for (const mode_t mode : {0640, 0604, 0620, 0666}) {
    Write("1 " + kHexKey + "\n", mode);
    const auto keys = LoadKeyFile(path_);
    ASSERT_EQ(keys.status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr("chmod 600 " + path_));
  }
  Write("1 " + kHexKey + "\n", 0600);
  const auto keys = LoadKeyFile(path_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->NewestEpoch(), 1);
}

TEST_F(KeyFileTest, MissingFileIsNotFound) {
  EXPECT_EQ(LoadKeyFile(path_).status().code(), absl::StatusCode::kNotFound);
}

// The expected values come from another implementation:
//   python3 -c "import hmac,hashlib; print(hmac.new(bytes(range(32)), b'dumpcast host key v1' +
//     bytes(range(16)) + (0x0102).to_bytes(2, 'little'), hashlib.sha256).hexdigest())"
//   printf 'dumpcast unauthenticated' | sha256sum
std::string Hex(const Key& key) {
  std::string hex;
  for (size_t i = 0; i < key.size(); ++i) {
    hex += "0123456789abcdef"[key[i] >> 4];
    hex += "0123456789abcdef"[key[i] & 15];
  }
  return hex;
}

TEST(DeriveHostKey, MatchesAnIndependentHmac) {
  Key cluster;
  HostId host;
  for (size_t i = 0; i < cluster.size(); ++i) cluster[i] = static_cast<uint8_t>(i);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<uint8_t>(i);
  const Key key = DeriveHostKey(cluster, host, 0x0102);
  EXPECT_EQ(Hex(key), "c69c2954253f40dac8a9d4ce48ec2287e6c8eb1cac030513021e9263c376b960");
  host[15] ^= 1;
  EXPECT_NE(DeriveHostKey(cluster, host, 0x0102), key);
  host[15] ^= 1;
  EXPECT_NE(DeriveHostKey(cluster, host, 0x0103), key);
}

TEST(UnauthenticatedKeys, AreEpochZeroOfTheFixedLabel) {
  const ClusterKeys keys = UnauthenticatedKeys();
  ASSERT_EQ(keys.NewestEpoch(), 0);
  EXPECT_EQ(Hex(keys.by_epoch.at(0)),
            "56b22c4762e2d3bfabfac6f7597327e7eba714fbd7ea8642e5f6f5a94b516638");
}

}  // namespace
}  // namespace dumpcast
