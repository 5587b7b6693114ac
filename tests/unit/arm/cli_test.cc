// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/cli.h"

#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/arm/fake_root.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr char kModule[] = "/sys/kernel/config/dumpcast";

class CliTest : public ::testing::Test {
 protected:
  CliTest() { root_.Set("/etc/dumpcast/arm.toml", "[[path]]\ndevice = \"eth0\"\n"); }
  int Run(std::vector<const char*> args) {
    args.insert(args.begin(), "dumpcast-arm");
    out_.str("");
    err_.str("");
    const ArmEnvironment env{root_.files(), &out_, &err_,
                             [this](const Files&, const std::string& module) {
                               loaded_ = module;
                               return load_;
                             },
                             [](double) { return false; }};
    return RunArm(static_cast<int>(args.size()), args.data(), env);
  }
  FakeRoot root_;
  std::ostringstream out_, err_;
  std::string loaded_ = "(never)";
  absl::Status load_;
};

TEST_F(CliTest, MistakesInFlagsAreExitStatus2) {
  EXPECT_EQ(Run({}), kArmUsage);
  EXPECT_EQ(Run({"arn"}), kArmUsage);
  EXPECT_EQ(Run({"status", "-o", "yaml"}), kArmUsage);
  EXPECT_EQ(Run({"--help"}), kArmOk);
  EXPECT_THAT(out_.str(), HasSubstr("Exit status"));
}

TEST_F(CliTest, MistakesInTheFileAreExitStatus2WithTheirLine) {
  root_.Set("/etc/dumpcast/arm.toml", "lanes = 99\n[[path]]\ndevice = \"eth0\"\n");
  for (const char* command : {"arm", "check"}) {
    EXPECT_EQ(Run({command}), kArmUsage);
    EXPECT_THAT(err_.str(), HasSubstr("arm.toml:1: lanes wants a whole number"));
  }
  EXPECT_EQ(loaded_, "(never)");
  EXPECT_EQ(Run({"check", "--config", "/etc/none.toml"}), kArmUsage);
  EXPECT_THAT(err_.str(), HasSubstr("none.toml"));
}

TEST_F(CliTest, CheckSaysWhatKeepsADumpFromHappening) {
  EXPECT_EQ(Run({"check"}), kArmOk);
  EXPECT_THAT(out_.str(), HasSubstr("nothing keeps a dump from happening"));
  root_.Set("/proc/sys/kernel/panic_on_oops", "0");
  EXPECT_EQ(Run({"check"}), kArmProblems);
  EXPECT_THAT(err_.str(), HasSubstr("PROBLEM: panic_on_oops is 0"));
  EXPECT_THAT(err_.str(), HasSubstr("fix: echo 1 >/proc/sys/kernel/panic_on_oops"));
  EXPECT_EQ(root_.Get("/proc/sys/kernel/panic_on_oops"), "0") << "nothing is set unasked";
}

TEST_F(CliTest, FixSetsItAndChecksAgain) {
  root_.Set("/proc/sys/kernel/panic_on_oops", "0");
  EXPECT_EQ(Run({"check", "--fix"}), kArmOk);
  EXPECT_EQ(root_.Get("/proc/sys/kernel/panic_on_oops"), "1");
}

TEST_F(CliTest, CheckRefusesAHostIdOrKeyThatCannotServe) {
  root_.Set("/etc/machine-id", "uninitialized");
  EXPECT_EQ(Run({"check"}), kArmProblems);
  EXPECT_THAT(err_.str(), HasSubstr("systemd-machine-id-setup"));
  root_.Set("/etc/machine-id", "00112233445566778899aabbccddeeff");
  root_.Set("/etc/dumpcast/arm.toml", "key_file = \"/etc/none\"\n[[path]]\ndevice = \"eth0\"\n");
  EXPECT_EQ(Run({"check"}), kArmProblems);
  EXPECT_THAT(err_.str(), HasSubstr("/etc/none"));
}

TEST_F(CliTest, AModuleThatCannotBeLoadedFailsArm) {
  load_ = absl::NotFoundError("no module");
  EXPECT_EQ(Run({"arm", "--module", "/m/dumpcast.ko"}), kArmFailed);
  EXPECT_EQ(loaded_, "/m/dumpcast.ko");
  EXPECT_THAT(err_.str(), HasSubstr("no module"));
}

TEST_F(CliTest, AMissingDeviceFailsBeforeTheHostIsDisarmed) {
  root_.Set(std::string(kModule) + "/armed", "1");
  root_.Remove("/sys/class/net/eth0");
  EXPECT_EQ(Run({"arm"}), kArmFailed);
  EXPECT_THAT(err_.str(), HasSubstr("no network device eth0"));
  EXPECT_EQ(root_.Get(std::string(kModule) + "/armed"), "1");
}

TEST_F(CliTest, StatusAndTestOfAHostThatIsNotArmed) {
  EXPECT_EQ(Run({"status"}), kArmNotArmed);
  EXPECT_THAT(out_.str(), HasSubstr("disarmed"));
  EXPECT_EQ(Run({"test"}), kArmNotArmed);
  EXPECT_EQ(Run({"disarm"}), kArmOk);
}

TEST_F(CliTest, StatusAndTestOfAnArmedHost) {
  root_.Set(std::string(kModule) + "/status",
            "host state=armed dump_id=00\ntest ok=1 error=0 relays=2 packets=9 ms=5");
  root_.Set(std::string(kModule) + "/test", "");
  EXPECT_EQ(Run({"status", "-o", "json"}), kArmOk);
  EXPECT_THAT(out_.str(), HasSubstr("\"armed\""));
  EXPECT_EQ(Run({"test"}), kArmOk);
  EXPECT_THAT(out_.str(), HasSubstr("committed by 2 relays"));
  EXPECT_EQ(root_.Get(std::string(kModule) + "/test"), "1");
}

TEST_F(CliTest, DisarmTellsTheModule) {
  root_.Set(std::string(kModule) + "/armed", "1");
  EXPECT_EQ(Run({"disarm"}), kArmOk);
  EXPECT_EQ(root_.Get(std::string(kModule) + "/armed"), "0");
}

TEST_F(CliTest, DumpWritesLevelAndRateAndSaysHowItEnded) {
  EXPECT_EQ(Run({"dump"}), kArmNotArmed);
  root_.Set(absl::StrCat(kModule, "/dump"), "");
  root_.Set(absl::StrCat(kModule, "/status"),
            "host state=armed dump_id=01\nlive ok=1 error=0 relays=2 packets=5 ms=70");
  EXPECT_EQ(Run({"dump"}), kArmOk);
  EXPECT_EQ(root_.Get(absl::StrCat(kModule, "/dump")), "31 20480")
      << "not at full speed by default";
  EXPECT_THAT(out_.str(), HasSubstr("the live dump is committed by 2 relays"));
  EXPECT_EQ(Run({"dump", "--level", "0", "--rate", "0.5"}), kArmOk);
  EXPECT_EQ(root_.Get(absl::StrCat(kModule, "/dump")), "0 512");
  EXPECT_EQ(Run({"dump", "--level", "32"}), kArmUsage);
}

TEST_F(CliTest, ASecondDumpIsRefusedWhileOneIsUnderWay) {
  root_.Set(absl::StrCat(kModule, "/dump"), "");
  root_.Set(absl::StrCat(kModule, "/status"), "host state=armed\nrunning test=0 dump_id=07 done=1");
  for (const char* command : {"dump", "test"}) {
    EXPECT_EQ(Run({command}), kArmFailed);
    EXPECT_THAT(err_.str(), HasSubstr("another dump is under way: 07"));
  }
  EXPECT_EQ(root_.Get(absl::StrCat(kModule, "/dump")), "");
}

}  // namespace
}  // namespace dumpcast
