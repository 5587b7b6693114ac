// SPDX-License-Identifier: Apache-2.0
#include "relay/options.h"

#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

class OptionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"DUMPCAST_PORT", "DUMPCAST_CONFIG", "DUMPCAST_PEERS"}) unsetenv(name);
    setenv("HOME", dir_.path().c_str(), 1);
    unsetenv("XDG_STATE_HOME");
  }
  ParsedRelayOptions Parse(std::vector<std::string> args) {
    args.insert(args.begin(), "dumpcast-relay");
    std::vector<const char*> argv;
    argv.reserve(args.size());
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
    auto parsed = ParseRelayOptions(static_cast<int>(argv.size()), argv.data(), default_config_);
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return parsed;
  }
  std::string File(const std::string& text) {
    std::string path = dir_.path() + "/relay.toml";
    std::ofstream(path) << text;
    return path;
  }
  // Refused with exit code 2 and a message that holds every one of these.
  void Refused(const std::vector<std::string>& args, const std::vector<std::string>& said) {
    const auto parsed = Parse(args);
    EXPECT_FALSE(parsed.run);
    EXPECT_EQ(parsed.exit_code, 2);
    for (const std::string& words : said) EXPECT_THAT(err_, HasSubstr(words));
  }
  void FileRefused(const std::string& text, const std::vector<std::string>& said) {
    SCOPED_TRACE(text);
    const std::string path = File(text);
    Refused({"--config", path}, said);
  }

  dumpcast::testing::TempDir dir_;
  std::string default_config_ = dir_.path() + "/none.toml";
  std::string out_, err_;
};

TEST_F(OptionsTest, NothingAtAllIsASingleNodeWithDefaults) {
  const auto parsed = Parse({});
  ASSERT_TRUE(parsed.run) << err_;
  const RelayOptions& o = parsed.options;
  EXPECT_FALSE(o.configured);
  EXPECT_EQ(o.group, "239.192.68.67");
  EXPECT_EQ(o.group6, "ff08::4443");
  EXPECT_EQ(o.port, 26210);
  EXPECT_EQ(o.listen, std::vector<std::string>{"0.0.0.0:26211"});
  EXPECT_EQ(o.store_path, dir_.path() + "/.local/state/dumpcast");
  EXPECT_FALSE(o.name.empty());
  setenv("XDG_STATE_HOME", "/var/state", 1);
  EXPECT_EQ(Parse({}).options.store_path, "/var/state/dumpcast");
}

TEST_F(OptionsTest, HelpAndVersionEndWellAndSayHowToBegin) {
  auto parsed = Parse({"--help"});
  EXPECT_FALSE(parsed.run);
  EXPECT_EQ(parsed.exit_code, 0);
  EXPECT_THAT(out_, HasSubstr("Examples"));
  EXPECT_THAT(out_, HasSubstr("--key-file"));
  parsed = Parse({"--version"});
  EXPECT_EQ(parsed.exit_code, 0);
  EXPECT_THAT(out_, HasSubstr("packet format 1."));
}

TEST_F(OptionsTest, SizesAndTimesTakeUnits) {
  const auto parsed = Parse({"--memory", "2GiB", "--dump-memory", "512M", "--min-free", "4096",
                             "--silent-after", "1m30s", "--seal-after", "500ms"});
  ASSERT_TRUE(parsed.run) << err_;
  EXPECT_EQ(parsed.options.memory_bytes, 2ull << 30);
  EXPECT_EQ(parsed.options.dump_memory_bytes, 512ull << 20);
  EXPECT_EQ(parsed.options.min_free_bytes, 4096u);
  EXPECT_EQ(parsed.options.silent_ns, 90 * kSecond);
  EXPECT_EQ(parsed.options.seal_ns, 500 * kMillisecond);
}

TEST_F(OptionsTest, WrongFlagsAreRefusedByName) {
  Refused({"--prot", "1"}, {"--prot"});
  Refused({"--port", "0"}, {"--port"});
  Refused({"--port", "65536"}, {"--port"});
  Refused({"--port", "x"}, {"--port"});
  Refused({"--lanes", "65"}, {"--lanes"});
  for (const char* lanes : {"", "x", "3-1", "64", "1,,2", "1-2-3"})
    Refused({"--own-lanes", lanes}, {"--own-lanes", "wanted lanes of 0 to 63 such as 1,4-7"});
  Refused({"--log-format", "xml"}, {"--log-format", "xml"});
  Refused({"--group", "10.0.0.1"}, {"--group", "wanted an IPv4 multicast address", "10.0.0.1"});
  Refused({"--group6", "fe80::1"}, {"--group6", "wanted an IPv6 multicast address", "fe80::1"});
  Refused({"--memory", "much"}, {"--memory", "wanted a size such as 256MiB", "much"});
  Refused({"--memory", "20000000TiB"}, {"--memory", "wanted a size"});
  Refused({"--silent-after", "0s"}, {"--silent-after", "wanted a time above 0"});
  Refused({"--silent-after", "-5s"}, {"--silent-after"});
  Refused({"--log-level", "loud"}, {"--log-level", "loud"});
  Refused({"stray"}, {"stray"});
}

TEST_F(OptionsTest, OwnLanesAreAMaskWithLane0) {
  EXPECT_EQ(Parse({}).options.own_lanes, 0b1111u);
  EXPECT_EQ(Parse({"--lanes", "64"}).options.own_lanes, ~uint64_t{0});
  EXPECT_EQ(Parse({"--own-lanes", "2-3"}).options.own_lanes, 0b1101u);
  EXPECT_EQ(Parse({"--lanes", "8", "--own-lanes", "1,4-7"}).options.own_lanes, 0b11110011u);
}

TEST_F(OptionsTest, ContradictionsSayWhatToDo) {
  Refused({"--own-lanes", "1-4"}, {"--own-lanes 1-4: --lanes says that there are 4, 0 to 3"});
  Refused({"--memory", "2MiB", "--dump-memory", "4MiB"}, {"--memory is less than --dump-memory"});
  Refused({"--memory", "1MiB"}, {"--dump-memory: wanted at least 1MiB"});
  Refused({"--dump-memory", "4096"}, {"wanted at least 1MiB"});
  Refused({"--tls-cert", "c"}, {"--tls-cert and --tls-key belong together"});
  Refused({"--tls-ca", "c"}, {"--tls-ca needs --tls-cert and --tls-key"});
  Refused({"--group", "239.255.255.255", "--lanes", "2", "--group6", "none"}, {});
  unsetenv("HOME");
  Refused({}, {"give --store"});
}

TEST_F(OptionsTest, FlagWinsOverEnvironmentWinsOverFile) {
  const std::string path = File("port = 1000\nlanes = 8\npeers = [\"a\", \"b:1\"]\n");
  auto parsed = Parse({"--config", path});
  ASSERT_TRUE(parsed.run) << err_;
  EXPECT_EQ(parsed.options.port, 1000);
  EXPECT_EQ(parsed.options.lanes, 8u);
  EXPECT_EQ(parsed.options.peers, (std::vector<std::string>{"a", "b:1"}));
  EXPECT_TRUE(parsed.options.configured);
  setenv("DUMPCAST_PORT", "2000", 1);
  setenv("DUMPCAST_PEERS", "c,d", 1);
  parsed = Parse({"--config", path});
  EXPECT_EQ(parsed.options.port, 2000);
  EXPECT_EQ(parsed.options.peers, (std::vector<std::string>{"c", "d"}));
  EXPECT_EQ(parsed.options.lanes, 8u);
  parsed = Parse({"--config", path, "--port", "3000"});
  EXPECT_EQ(parsed.options.port, 3000);
}

TEST_F(OptionsTest, ConfigComesFromTheEnvironmentOrItsUsualPlace) {
  default_config_ = File("lanes = 3\n");
  EXPECT_EQ(Parse({}).options.lanes, 3u);
  setenv("DUMPCAST_CONFIG", default_config_.c_str(), 1);
  default_config_ = "/nonexistent";
  EXPECT_EQ(Parse({}).options.lanes, 3u);
}

TEST_F(OptionsTest, EveryMistakeInTheFileHasItsLineAndTheFix) {
  FileRefused("port = 1\n\nkeyfile = \"x\"\n",
              {"relay.toml:3: unknown key `keyfile`; did you mean `key-file`?"});
  FileRefused("zzzzzzzzzzzz = 1\n", {"relay.toml:1: unknown key", "--help` lists them all"});
  FileRefused("port = 99999\n", {"relay.toml:1: `port`:"});
  FileRefused("# a\nmemory = \"lots\"\n",
              {"relay.toml:2: `memory`:", "wanted a size such as 256MiB, got `lots`"});
  FileRefused("port = [1, 2]\n", {"relay.toml:1: `port`: wanted one value"});
  FileRefused("peers = [[1]]\n", {"relay.toml:1: `peers`: wanted a list of strings"});
  FileRefused("peers = { a = 1 }\n", {"relay.toml:1: `peers`: wanted a list of strings"});
  FileRefused("store = 1.5\n", {"relay.toml:1: `store`: wanted one value"});
  FileRefused("port = = 1\n", {"relay.toml:1:"});
  FileRefused("port = 1\nport = 2\n", {"relay.toml:2:"});
  FileRefused("config = \"x\"\n", {"relay.toml:1: unknown key `config`"});
  // All of them at once.
  FileRefused("nmae = \"x\"\nlanes = 0\n", {"relay.toml:1:", "did you mean `name`", ":2: `lanes`"});
}

TEST_F(OptionsTest, AFileThatCannotBeReadIsNamed) {
  Refused({"--config", "/nonexistent/relay.toml"}, {"--config", "/nonexistent/relay.toml"});
  Refused({"--config", dir_.path()}, {dir_.path()});
}

TEST_F(OptionsTest, AnEmptyListOrFileIsNoMistake) {
  const auto parsed = Parse({"--config", File("peers = []\n")});
  EXPECT_TRUE(parsed.run) << err_;
  EXPECT_TRUE(parsed.options.peers.empty());
  EXPECT_TRUE(Parse({"--config", File("")}).run);
}

}  // namespace
}  // namespace dumpcast
