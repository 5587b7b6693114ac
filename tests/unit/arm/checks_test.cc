// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/checks.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/arm/fake_root.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using Weight = Finding::Weight;

class ChecksTest : public ::testing::Test {
 protected:
  ChecksTest() {
    config_.key_file = "/etc/dumpcast/cluster.key";
    config_.paths.push_back({"eth0", "eth0", {"239.192.68.67"}, 26210, {}});
  }
  std::vector<Finding> Find() { return FindProblems(root_.files(), config_); }
  // Exactly one finding, of this weight.
  void One(Weight weight, const std::string& what) {
    const auto findings = Find();
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].weight, weight);
    EXPECT_THAT(findings[0].what, HasSubstr(what));
    EXPECT_FALSE(findings[0].fix.empty());
  }
  FakeRoot root_;
  ArmConfig config_;
};

constexpr char kPost[] = "/sys/module/kernel/parameters/crash_kexec_post_notifiers";

TEST_F(ChecksTest, AHostThatIsRightHasNoFindings) {
  EXPECT_TRUE(Find().empty());
}

TEST_F(ChecksTest, ACrashKernelAheadOfUsKeepsTheDump) {
  root_.Set(kPost, "N");
  root_.Set("/sys/kernel/kexec_crash_loaded", "1");
  One(Weight::kBlocks, "a crash kernel is loaded");
}

TEST_F(ChecksTest, WithoutACrashKernelOnlyRegistersAreLost) {
  root_.Set(kPost, "N");
  One(Weight::kWeaker, "registers of the other processors");
}

TEST_F(ChecksTest, PanicOnOopsZeroKeepsTheDump) {
  root_.Set("/proc/sys/kernel/panic_on_oops", "0");
  One(Weight::kBlocks, "panic_on_oops is 0");
}

TEST_F(ChecksTest, PanicTimeoutZeroHangsTheHost) {
  root_.Set("/proc/sys/kernel/panic", "0");
  One(Weight::kWeaker, "panic_timeout is 0");
}

TEST_F(ChecksTest, WhatEndsAHangIsAdviceAndNotOurs) {
  for (const std::string name : {"softlockup_panic", "hardlockup_panic", "unknown_nmi_panic"}) {
    const std::string path = "/proc/sys/kernel/" + name;
    root_.Set(path, "0");
    One(Weight::kAdvice, name + " is 0");
    EXPECT_TRUE(ApplyFixes(root_.files(), Find()).ok());
    EXPECT_EQ(root_.Get(path), "0");
    root_.Set(path, "1");
  }
}

TEST_F(ChecksTest, DevicesThatCannotSendAreFound) {
  root_.Set("/sys/class/net/eth0/carrier", "0");
  One(Weight::kBlocks, "eth0 has no carrier");
  root_.Remove("/sys/class/net/eth0/carrier");
  One(Weight::kBlocks, "eth0 is down");
  root_.Remove("/sys/class/net/eth0");
  One(Weight::kBlocks, "there is no network device eth0");
}

TEST_F(ChecksTest, NoKeyFileIsSaid) {
  config_.key_file.clear();
  One(Weight::kWeaker, "can forge a dump");
}

TEST_F(ChecksTest, FixesSetWhatTheySay) {
  root_.Set(kPost, "N");
  root_.Set("/proc/sys/kernel/panic_on_oops", "0");
  root_.Set("/proc/sys/kernel/panic", "0");
  config_.reboot_after_s = 33;
  ASSERT_TRUE(ApplyFixes(root_.files(), Find()).ok());
  EXPECT_TRUE(Find().empty());
  EXPECT_EQ(root_.Get("/proc/sys/kernel/panic"), "33");
  EXPECT_EQ(root_.Get("/proc/sys/kernel/panic_on_oops"), "1");
}

TEST_F(ChecksTest, AFixThatFailsIsToldAndTheOthersAreDone) {
  root_.Set("/proc/sys/kernel/panic_on_oops", "0");
  root_.Set("/proc/sys/kernel/panic", "0");
  const auto findings = Find();
  root_.Remove("/proc/sys/kernel/panic_on_oops");
  const absl::Status status = ApplyFixes(root_.files(), findings);
  EXPECT_THAT(std::string(status.message()), HasSubstr("panic_on_oops"));
  EXPECT_EQ(root_.Get("/proc/sys/kernel/panic"), "10");
}

}  // namespace
}  // namespace dumpcast
