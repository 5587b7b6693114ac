// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/config.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPath[] = "\n[[path]]\ndevice = \"eth0\"\n";

ArmConfig Good(const std::string& text) {
  const auto config = ParseArmConfig(text, "arm.toml");
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << text;
  return config.value_or(ArmConfig{});
}

// Refused with this line of the file, and these words.
void Bad(const std::string& text, int line, const std::string& words) {
  const auto config = ParseArmConfig(text, "arm.toml");
  ASSERT_FALSE(config.ok()) << text;
  EXPECT_TRUE(absl::IsInvalidArgument(config.status()));
  const std::string message(config.status().message());
  EXPECT_THAT(message, HasSubstr("arm.toml:" + std::to_string(line) + ": ")) << text;
  EXPECT_THAT(message, HasSubstr(words)) << text;
}

TEST(ArmConfigTest, TheShippedExampleIsRight) {
  std::ifstream file(DUMPCAST_SOURCE_DIR "/kmod/arm/arm.toml");
  std::stringstream text;
  text << file.rdbuf();
  const ArmConfig config = Good(text.str());
  EXPECT_EQ(config.key_file, "/etc/dumpcast/cluster.key");
  EXPECT_TRUE(config.fix_kernel);
  ASSERT_EQ(config.paths.size(), 1u);
  EXPECT_EQ(config.paths[0].device, "eth0");
}

// What is commented out there says the default: it must be taken, too.
TEST(ArmConfigTest, EveryCommentedLineOfTheExampleIsRight) {
  std::ifstream file(DUMPCAST_SOURCE_DIR "/kmod/arm/arm.toml");
  std::string line, text;
  int keys = 0;
  while (std::getline(file, line)) {
    if (line.rfind("# ", 0) == 0 && line.find(" = ") != std::string::npos) {
      line.erase(0, 2);
      ++keys;
    }
    text += line + "\n";
  }
  EXPECT_GE(keys, 20);
  const ArmConfig config = Good(text);
  EXPECT_EQ(config.attributes.at("dump_level"), "31");
  EXPECT_EQ(config.attributes.at("mode"), "mirror");
  EXPECT_EQ(config.paths[0].attributes.at("ttl"), "16");
}

TEST(ArmConfigTest, LeastIsADevice) {
  const ArmConfig config = Good(kPath);
  ASSERT_EQ(config.paths.size(), 1u);
  EXPECT_EQ(config.paths[0].name, "eth0");
  EXPECT_THAT(config.paths[0].destinations, ElementsAre("239.192.68.67"));
  EXPECT_EQ(config.paths[0].port, 26210);
  EXPECT_TRUE(config.attributes.empty()) << "the module's defaults stay";
}

TEST(ArmConfigTest, DestinationsTakeAPort) {
  const auto destinations = [](const std::string& list) {
    return Good("[[path]]\ndevice = \"e\"\ndestinations = " + list + "\n").paths[0];
  };
  EXPECT_EQ(destinations("[\"10.0.0.5:99\", \"10.0.0.6:99\"]").port, 99);
  EXPECT_THAT(destinations("[\"[fd00::1]:99\", \"[fd00::2]:99\"]").destinations,
              ElementsAre("fd00::1", "fd00::2"));
  EXPECT_THAT(destinations("[\"ff08::4443\"]").destinations, ElementsAre("ff08::4443"));
}

TEST(ArmConfigTest, RateIsGivenInMibAndKeptInKib) {
  EXPECT_EQ(Good(std::string("rate_mib_s = 1.5") + kPath).attributes.at("rate_kib_s"), "1536");
  EXPECT_EQ(Good(std::string("rate_mib_s = 0") + kPath).attributes.at("rate_kib_s"), "0");
  EXPECT_EQ(Good(std::string("rate_mib_s = 0.0001") + kPath).attributes.at("rate_kib_s"), "1")
      << "0 would mean no ceiling";
}

TEST(ArmConfigTest, MistakesAreRefusedWithTheirLineAndTheFix) {
  Bad(std::string("\ndump_levle = 1") + kPath, 2, "unknown key dump_levle; known are key_file");
  Bad(std::string("dump_level = 32") + kPath, 1,
      "dump_level wants a whole number in 0..31, not 32");
  Bad(std::string("exclude_unused_vmemmap = 1") + kPath, 1,
      "exclude_unused_vmemmap wants true or false");
  Bad(std::string("dump_level = \"31\"") + kPath, 1, "dump_level wants a whole number");
  Bad(std::string("lanes = 0") + kPath, 1, "lanes wants a whole number in 1..64");
  Bad(std::string("mode = \"both\"") + kPath, 1,
      "mode wants one of \"mirror\", \"stripe\", not \"both\"");
  Bad(std::string("codec = \"gzip\"") + kPath, 1,
      "codec wants one of \"auto\", \"none\", \"lz4\", \"zstd\", not \"gzip\"");
  Bad(std::string("fix_kernel = 1") + kPath, 1, "fix_kernel wants true or false");
  Bad(std::string("key_file = 1") + kPath, 1, "key_file wants a string in quotes");
  Bad(std::string("hostname = \"a\\nb\"") + kPath, 1, "one line");
  Bad(std::string("host_id = \"12\"") + kPath, 1, "host_id wants 32 hex digits");
  Bad(std::string("host_id = \"0011223344556677889900112233445g\"") + kPath, 1, "host_id wants");
  Bad(std::string("rate_mib_s = -1") + kPath, 1, "rate_mib_s wants a number");
  Bad(std::string("rate_mib_s = nan") + kPath, 1, "rate_mib_s wants a number");
  Bad(std::string("reboot_after_s = 0") + kPath, 1, "reboot_after_s");
  Bad("a = = 1\n", 1, "");
  Bad("path = 1\n", 1, "[[path]]");
}

TEST(ArmConfigTest, MistakesOfAPathAreRefused) {
  const auto path = [](const std::string& lines) { return "[[path]]\ndevice = \"e\"\n" + lines; };
  Bad("[[path]]\nname = \"a\"\n", 1, "[[path]] wants a device");
  Bad("[[path]]\ndevice = \"a/b\"\n", 1, "no name of a network device");
  Bad("[[path]]\ndevice = \"sixteen-letters-\"\n", 1, "no name of a network device");
  Bad(path("name = \"..\"\n"), 1, "path name");
  Bad(path("name = \"a b\"\n"), 1, "path name");
  Bad(path("ttl = 0\n"), 3, "ttl wants a whole number in 1..255");
  Bad(path("tll = 1\n"), 3, "unknown key tll in [[path]]");
  Bad(path("destinations = []\n"), 3, "destinations wants a list");
  Bad(path("destinations = \"10.0.0.1\"\n"), 3, "destinations wants a list");
  Bad(path("destinations = [\"relay-0\"]\n"), 3, "no DNS names");
  Bad(path("destinations = [\"10.0.0.1:0\"]\n"), 3, "wanted an IPv4 or IPv6 address");
  Bad(path("destinations = [\"10.0.0.1\", \"fd00::1\"]\n"), 3, "one address family");
  Bad(path("destinations = [\"239.0.0.1\", \"10.0.0.1\"]\n"), 3, "one group, or unicast relays");
  Bad(path("destinations = [\"10.0.0.1:1\", \"10.0.0.2:2\"]\n"), 3, "one port");
  Bad("[[path]]\ndevice = \"e\"\n[[path]]\ndevice = \"e\"\n", 3, "two paths are named \"e\"");
  std::string many;
  for (int i = 0; i < 9; ++i) many += "[[path]]\ndevice = \"e" + std::to_string(i) + "\"\n";
  Bad(many, 1, "1 to 8 tables");
}

TEST(ArmConfigTest, NoPathSaysWhatToAdd) {
  const auto config = ParseArmConfig("dump_level = 1\n", "arm.toml");
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("add [[path]] with device"));
}

TEST(ArmConfigTest, AMissingFileIsNamed) {
  const auto config = LoadArmConfig("/nonexistent/arm.toml");
  EXPECT_TRUE(absl::IsNotFound(config.status()));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("/nonexistent/arm.toml"));
}

}  // namespace
}  // namespace dumpcast
