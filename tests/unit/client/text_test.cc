// SPDX-License-Identifier: Apache-2.0
#include "client/text.h"

#include <gtest/gtest.h>

#include "client/config.h"
#include "client/crc32c.h"

namespace dumpcast {
namespace {

TEST(Crc32cTest, MatchesThePublishedVectors) {
  // RFC 3720 appendix B.4, and the check value of the CRC catalogue.
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(TextTest, SizesKeepThreeDigits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(1023 * 1024), "1.0 MiB");
  EXPECT_EQ(HumanBytes(256 << 20), "256 MiB");
  EXPECT_EQ(HumanBytes(~0ull), "16.0 EiB");
}

TEST(TextTest, AgesGrowCoarser) {
  const absl::Time now = absl::FromUnixSeconds(1000000000);
  auto age = [&](absl::Duration d) { return HumanAge(now - d, now); };
  EXPECT_EQ(age(absl::ZeroDuration()), "now");
  EXPECT_EQ(age(absl::Seconds(-30)), "now");
  EXPECT_EQ(age(absl::Seconds(119)), "119 s ago");
  EXPECT_EQ(age(absl::Seconds(120)), "2 min ago");
  EXPECT_EQ(age(absl::Hours(3)), "3 h ago");
  EXPECT_EQ(age(absl::Hours(49)), "2 d ago");
  EXPECT_EQ(age(absl::Minutes(-5)), "in 5:00");
  EXPECT_EQ(HumanAge(absl::InfinitePast(), now), "-");
  EXPECT_EQ(HumanDuration(absl::Seconds(3723)), "1:02:03");
  EXPECT_EQ(HumanDuration(absl::InfiniteDuration()), "-");
}

TEST(TextTest, CutsBetweenCharactersNotWithinThem) {
  EXPECT_EQ(Truncate("h\xc3\xa4user", 6), "h\xc3\xa4user");
  EXPECT_EQ(Truncate("h\xc3\xa4user", 3), "h\xc3\xa4~");
  EXPECT_EQ(Truncate("h\xc3\xa4user", 2), "h~");
  EXPECT_EQ(Truncate("abc", 0), "");
}

TEST(TextTest, ControlCharactersBecomeQuestionMarks) {
  EXPECT_EQ(Printable("a\x1b[1m\r\n\x7f\xc2\x9b"
                      "b\xc3\xa4"),
            "a?[1m????b\xc3\xa4");
  EXPECT_EQ(Printable("a\tb\nc\x1b", true), "a\tb\nc?");
}

TEST(ConfigTest, ServersGetTheirPort) {
  EXPECT_EQ(*ParseServer("relay-0"), "relay-0:26211");
  EXPECT_EQ(*ParseServer(" relay-0:1 "), "relay-0:1");
  EXPECT_EQ(*ParseServer("::1"), "[::1]:26211");
  EXPECT_EQ(*ParseServer("[::1]"), "[::1]:26211");
  EXPECT_EQ(*ParseServer("[fe80::1%eth0]:7"), "[fe80::1%eth0]:7");
  EXPECT_EQ(*ParseServer("unix:/run/relay"), "unix:/run/relay");
}

}  // namespace
}  // namespace dumpcast
