// SPDX-License-Identifier: Apache-2.0
// A download onto a disk that is really full: a small tmpfs in a mount namespace of the test's
// thread, which vanishes with the thread.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <thread>

#include "client/dump_sink.h"
#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DiskFullTest : public ClientTest {
 protected:
  // Runs `body` in a thread that alone sees 1 MiB of disk in folder_. False without the privilege.
  bool OnSmallDisk(const std::function<void()>& body) {
    bool mounted = false;
    std::thread([&] {
      mounted = unshare(CLONE_NEWNS) == 0 &&
                mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=1m") == 0;
      if (mounted) body();
    }).join();
    return mounted;
  }
};

TEST_F(DiskFullTest, IsKnownBeforeTheFirstByteIsWritten) {
  FakeRelay relay;
  relay.dumps = {MakeDump()};
  relay.views["elf"] = {RandomBytes(2 << 20, 1), "v1"};
  const bool mounted = OnSmallDisk([&] {
    const Ran ran = Run({"get", "3fa9", "-O", Path("vmcore")}, {&relay});
    EXPECT_EQ(ran.code, kExitFailure);
    EXPECT_THAT(ran.err, HasSubstr("the disk is full"));
    EXPECT_THAT(ran.err, HasSubstr("0 B of 2.0 MiB"));
    EXPECT_THAT(FilesLeft(), ElementsAre());
  });
  if (!mounted) GTEST_SKIP() << "mounting a tmpfs needs CAP_SYS_ADMIN";
}

TEST_F(DiskFullTest, KeepsThePartWhenOthersFillTheDiskMeanwhile) {
  const std::string bytes = RandomBytes(512 << 10, 1);
  const bool mounted = OnSmallDisk([&] {
    const PartIdentity identity = {"hosts/a/dumps/b", "elf"};
    {
      auto part = PartFile::Open(Path("vmcore"), identity, false);
      ASSERT_TRUE(part.ok()) << part.status();
      // The relay's file grew in a way that reserving could not know: more is written than begun.
      ASSERT_TRUE((*part)->Begin("v1", 1000).ok());
      WriteFile(Path("hog"), std::string(700 << 10, 'x'));
      const absl::Status status = (*part)->Write(bytes);
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("make room"));
      EXPECT_GT((*part)->offset(), 0u);
    }
    EXPECT_THAT(FilesLeft(), ElementsAre("hog", "vmcore.part", "vmcore.part.json"));
    EXPECT_EQ(ReadFile(Path("vmcore.part")),
              bytes.substr(0, std::filesystem::file_size(Path("vmcore.part"))));
  });
  if (!mounted) GTEST_SKIP() << "mounting a tmpfs needs CAP_SYS_ADMIN";
}

TEST_F(ClientTest, TwoWritersDoNotShareAPart) {
  const PartIdentity identity = {"hosts/a/dumps/b", "elf"};
  auto first = PartFile::Open(Path("vmcore"), identity, false);
  ASSERT_TRUE(first.ok());
  auto second = PartFile::Open(Path("vmcore"), identity, false);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace dumpcast
