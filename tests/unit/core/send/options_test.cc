// SPDX-License-Identifier: Apache-2.0
#include "kmod/core/send/options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protos/keys/keys.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

const char* const kHostId = "00112233445566778899aabbccddeeff";

ParsedSendOptions Parse(std::vector<const char*> args, std::string* errors = nullptr) {
  args.insert(args.begin(), "dumpcast-send");
  ::testing::internal::CaptureStderr();
  ParsedSendOptions parsed = ParseSendOptions(static_cast<int>(args.size()), args.data());
  const std::string text = ::testing::internal::GetCapturedStderr();
  if (errors != nullptr) *errors = text;
  return parsed;
}

TEST(SendOptions, DefaultsAreTheGroupOfTheWireFormat) {
  const auto parsed = Parse({"--file", "f", "--host-id", kHostId});
  ASSERT_TRUE(parsed.run);
  ASSERT_EQ(parsed.options.paths.size(), 1u);
  ASSERT_EQ(parsed.options.paths[0].destinations.size(), 1u);
  EXPECT_EQ(parsed.options.paths[0].destinations[0].ToString(), "239.192.68.67:26210");
  EXPECT_EQ(parsed.options.paths[0].destinations[0].ForLane(3).ToString(), "239.192.68.70:26210");
  EXPECT_EQ(parsed.options.replay.config.symbol_size, 1376);
  EXPECT_TRUE(parsed.options.unauthenticated);
  EXPECT_EQ(parsed.options.replay.config.key_epoch, 0);
  EXPECT_EQ(parsed.options.replay.config.host_id[15], 0xff);
}

TEST(SendOptions, AFileIsNeeded) {
  std::string errors;
  EXPECT_EQ(Parse({"--host-id", kHostId}, &errors).exit_code, 2);
  EXPECT_THAT(errors, HasSubstr("--file is required"));
}

TEST(SendOptions, ASecondSenderNeedsNothingToBeSaid) {
  const auto parsed = Parse({"--kdump"});
  ASSERT_TRUE(parsed.run);
  EXPECT_TRUE(parsed.options.kdump);
  EXPECT_EQ(parsed.options.file, "/proc/vmcore");
  EXPECT_TRUE(parsed.options.paths.empty()) << "the record names them";
  EXPECT_TRUE(parsed.options.replay.continues);
  EXPECT_EQ(parsed.options.replay.config.time_limit_ns, 600'000'000'000u) << "kdump waits behind";
  EXPECT_NE(parsed.options.replay.config.origin, 0u);
  EXPECT_EQ(parsed.options.replay.arm_ns, 0u);
}

TEST(SendOptions, ASecondSenderGoesWhereItIsTold) {
  const auto parsed = Parse({"--kdump", "-f", "f", "--relay", "127.0.0.1", "--time-limit", "5"});
  ASSERT_TRUE(parsed.run);
  EXPECT_EQ(parsed.options.file, "f");
  ASSERT_EQ(parsed.options.paths.size(), 1u);
  EXPECT_EQ(parsed.options.paths[0].destinations[0].ToString(), "127.0.0.1:26210");
  EXPECT_EQ(parsed.options.replay.config.time_limit_ns, 5'000'000'000u);
}

TEST(SendOptions, ASecondSendersIdsAreTheFirstOnes) {
  std::string errors;
  EXPECT_EQ(Parse({"--kdump", "--dump-id", kHostId}, &errors).exit_code, 2);
  EXPECT_THAT(errors, HasSubstr("--kdump finishes the dump that the record names"));
}

TEST(SendOptions, InterfacesArePathsAndRelaysReplaceTheGroup) {
  const auto parsed =
      Parse({"-f",     "f",       "--host-id", kHostId,   "-i",       "lo",     "-i",
             "eth9",   "--relay", "127.0.0.1", "--relay", "[::1]:99", "--mode", "stripe",
             "--drop", "50",      "--rate",    "1.5",     "--mtu",    "9000"});
  ASSERT_TRUE(parsed.run);
  ASSERT_EQ(parsed.options.paths.size(), 2u);
  EXPECT_EQ(parsed.options.paths[1].interface, "eth9");
  EXPECT_EQ(parsed.options.paths[1].destinations[0].ToString(), "127.0.0.1:26210");
  EXPECT_EQ(parsed.options.paths[1].destinations[1].ToString(), "[::1]:99");
  EXPECT_EQ(parsed.options.paths[1].destinations[1].ForLane(3).ToString(), "[::1]:99");
  EXPECT_EQ(parsed.options.replay.config.mode, DCAST_STRIPE);
  EXPECT_EQ(parsed.options.replay.config.rate_kib_s, 1536u);
  EXPECT_EQ(parsed.options.replay.config.symbol_size, 8840);
  EXPECT_DOUBLE_EQ(parsed.options.paths[0].drop, 0.5);
}

TEST(SendOptions, SeedMakesIdsRepeatable) {
  const auto a = Parse({"-f", "f", "--host-id", kHostId, "--seed", "5"});
  const auto b = Parse({"-f", "f", "--host-id", kHostId, "--seed", "5"});
  const auto c = Parse({"-f", "f", "--host-id", kHostId});
  EXPECT_EQ(std::memcmp(a.options.replay.config.dump_id, b.options.replay.config.dump_id, 16), 0);
  EXPECT_NE(std::memcmp(a.options.replay.config.dump_id, c.options.replay.config.dump_id, 16), 0);
  EXPECT_EQ(a.options.replay.config.origin, b.options.replay.config.origin);
}

TEST(SendOptions, MistakesExitWithTwoAndSayTheFix) {
  const struct {
    std::vector<const char*> args;
    const char* says;
  } kCases[] = {
      {{}, "--file"},
      {{"-f", "f", "--host-id", "12"}, "32 hex digits"},
      {{"-f", "f", "--host-id", kHostId, "--relay", "239.1.1.1"}, "give it as --group"},
      {{"-f", "f", "--host-id", kHostId, "--group", "10.0.0.1"}, "give it as --relay"},
      {{"-f", "f", "--host-id", kHostId, "--relay", "10.0.0.1:0"}, "1..65535"},
      {{"-f", "f", "--host-id", kHostId, "--relay", "[::1"}, "`]` is missing"},
      {{"-f", "f", "--host-id", kHostId, "--symbol-size", "1100"}, "multiple of 8"},
      {{"-f", "f", "--host-id", kHostId, "--lanes", "65"}, "--lanes"},
      {{"-f", "f", "--host-id", kHostId, "--mode", "both"}, "--mode"},
      {{"-f", "f", "--host-id", kHostId, "--no-such-flag"}, "no-such-flag"},
      {{"-f", "f", "--host-id", kHostId, "--key-file", "/nonexistent"}, "cannot read the key"},
  };
  for (const auto& c : kCases) {
    std::string errors;
    const auto parsed = Parse(c.args, &errors);
    EXPECT_FALSE(parsed.run) << c.says;
    EXPECT_EQ(parsed.exit_code, 2) << c.says;
    EXPECT_THAT(errors, HasSubstr(c.says));
  }
}

TEST(SendOptions, FileAndEnvironmentSetFlagsAndTheFlagWins) {
  const std::string path = ::testing::TempDir() + "/send_" + std::to_string(getpid()) + ".toml";
  std::ofstream(path) << "file = \"from-file\"\ninterface = [\"eth0\", \"eth1\"]\nlanes = 4\n"
                      << "host-id = \"" << kHostId << "\"\n";
  setenv("DUMPCAST_SLOTS", "3", 1);
  const auto parsed = Parse({"--config", path.c_str(), "--lanes", "2"});
  unsetenv("DUMPCAST_SLOTS");
  unlink(path.c_str());
  ASSERT_TRUE(parsed.run);
  EXPECT_EQ(parsed.options.file, "from-file");
  EXPECT_EQ(parsed.options.paths.size(), 2u);
  EXPECT_EQ(parsed.options.replay.config.lanes, 2);
  EXPECT_EQ(parsed.options.replay.config.slots, 3);
}

TEST(SendOptions, KeyFileGivesTheHostKeyOfItsNewestEpoch) {
  const std::string path = ::testing::TempDir() + "/send_" + std::to_string(getpid()) + ".key";
  std::ofstream(path) << "1 " << std::string(64, 'a') << "\n2 " << std::string(64, 'b') << "\n";
  chmod(path.c_str(), 0600);
  const auto parsed = Parse({"-f", "f", "--host-id", kHostId, "--key-file", path.c_str()});
  unlink(path.c_str());
  ASSERT_TRUE(parsed.run);
  EXPECT_FALSE(parsed.options.unauthenticated);
  EXPECT_EQ(parsed.options.replay.config.key_epoch, 2);
  Key cluster;
  cluster.fill(0xbb);
  HostId host;
  ASSERT_TRUE(ParseId(kHostId, "", host.data()).ok());
  dcast_keys keys;
  dcast_keys_init(&keys, DeriveHostKey(cluster, host, 2).data());
  EXPECT_EQ(std::memcmp(&keys, &parsed.options.replay.secrets.wire, sizeof(keys)), 0);
}

TEST(SendOptions, SymbolSizesFitTheirMtu) {
  EXPECT_EQ(SymbolSizeForMtu(1500, false), 1376);
  EXPECT_EQ(SymbolSizeForMtu(1500, true), 1352);
  EXPECT_EQ(SymbolSizeForMtu(9000, true), 8840);
  EXPECT_EQ(SymbolSizeForMtu(9000, false), 8840);
  EXPECT_EQ(SymbolSizeForMtu(1280, true), 1136);
}

}  // namespace
}  // namespace dumpcast
