// SPDX-License-Identifier: Apache-2.0
#include "relay/peer_names.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

TEST(PeerNamesTest, HostAndPort) {
  const auto check = [](const std::string& text, const std::string& host, uint16_t port) {
    const auto name = ParsePeer(text, 26211);
    ASSERT_TRUE(name.ok()) << text << ": " << name.status();
    EXPECT_EQ(name->host, host);
    EXPECT_EQ(name->port, port);
  };
  check("relay-1", "relay-1", 26211);
  check("relay-1.relays.svc:99", "relay-1.relays.svc", 99);
  check("10.0.0.1:65535", "10.0.0.1", 65535);
  check("[fd00::1]", "fd00::1", 26211);
  check("[fd00::1]:5", "fd00::1", 5);
  check("fd00::1", "fd00::1", 26211);
}

TEST(PeerNamesTest, WhatIsNoPeerIsRefusedWithWhatWasWanted) {
  for (const char* text : {"", ":5", "a:", "a:0", "a:65536", "a:x", "a:-1", "[fd00::1", "[]",
                           "[]:5", "[fd00::1]x", "[fd00::1]:"}) {
    const auto name = ParsePeer(text, 26211);
    EXPECT_FALSE(name.ok()) << text << " became " << (name.ok() ? name->host : "");
    if (name.ok()) continue;
    EXPECT_THAT(std::string(name.status().message()), HasSubstr("wanted")) << text;
  }
}

TEST(PeerNamesTest, AddressesAreTargetsOfBothKinds) {
  PeerNames names({{"127.0.0.1", 26211}, {"::1", 7}}, 26210);
  EXPECT_FALSE(names.empty());
  const auto targets = names.Targets(kSecond);
  EXPECT_THAT(targets, ::testing::UnorderedElementsAre("ipv4:127.0.0.1:26211", "ipv6:[::1]:7"));
  EXPECT_EQ(names.UdpAddresses().size(), 2u);
  EXPECT_EQ(names.NameOf("ipv4:127.0.0.1:26211"), "127.0.0.1");
  EXPECT_EQ(names.NameOf("ipv4:127.0.0.2:26211"), "");
}

}  // namespace
}  // namespace dumpcast
