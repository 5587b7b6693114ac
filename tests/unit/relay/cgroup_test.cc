// SPDX-License-Identifier: Apache-2.0
#include "relay/cgroup.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  CgroupTest() { Write("/proc/self/cgroup", ""); }
  ~CgroupTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  // Tests may run side by side, each in a process of its own.
  const std::string root_ = absl::StrCat(::testing::TempDir(), "cgroup-test-", getpid());
};

TEST_F(CgroupTest, TheLeastOfThoseAbove) {
  Write("/proc/self/cgroup", "0::/kubepods/pod1/relay\n");
  Write("/sys/fs/cgroup/kubepods/pod1/relay/memory.max", "max\n");
  Write("/sys/fs/cgroup/kubepods/pod1/memory.max", "2147483648\n");
  Write("/sys/fs/cgroup/kubepods/memory.max", "8589934592\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), 2147483648u);
}

TEST_F(CgroupTest, InAContainerTheMountIsIt) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), 1073741824u);
}

TEST_F(CgroupTest, Version1) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/x\n");
  Write("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "536870912\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), 536870912u);
}

TEST_F(CgroupTest, NoneIsNone) {
  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);
  Write("/proc/self/cgroup", "rubbish\n0::\n::/x\n0::/a\n");
  Write("/sys/fs/cgroup/a/memory.max", "max\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);
  EXPECT_EQ(CgroupMemoryLimit(root_ + "/nowhere"), std::nullopt);
}

}  // namespace
}  // namespace dumpcast
