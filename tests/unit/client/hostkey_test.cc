// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <algorithm>

#include "absl/strings/escaping.h"
#include "protos/keys/keys.h"
#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kCluster(64, 'c');
const char kMachineId[] = "01234567-89ab-cdef-0123-456789abcdef";

class HostkeyTest : public ClientTest {
 protected:
  void Keys(const std::string& text) {
    WriteFile(file_, text);
    ASSERT_EQ(chmod(file_.c_str(), 0600), 0);
  }
  Ran Hostkey(std::vector<std::string> more = {}, const std::string& id = kMachineId) {
    std::vector<std::string> args = {"hostkey", "--key-file", file_, id};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  }
  const std::string file_ = Path("cluster.key");
};

TEST_F(HostkeyTest, PrintsTheLineThatGivesTheHostItsKey) {
  Keys("1 " + std::string(64, 'a') + "\n7 " + kCluster + "\n");
  HostId id;
  const std::string bytes = absl::HexStringToBytes("0123456789abcdef0123456789abcdef");
  std::copy(bytes.begin(), bytes.end(), id.begin());
  const ClusterKeys cluster = *LoadKeyFile(file_);
  for (const uint16_t epoch : {7, 1}) {
    const Ran ran = epoch == 7 ? Hostkey() : Hostkey({"--epoch", "1"});
    EXPECT_EQ(ran.code, kExitOk) << ran.err;
    const auto host = ParseKeyFile(ran.out, "host.key");
    ASSERT_TRUE(host.ok()) << host.status();
    EXPECT_EQ(host->host_by_epoch.at(epoch), *cluster.HostKey(id, epoch));
    EXPECT_TRUE(host->by_epoch.empty());
    EXPECT_THAT(ran.out, Not(HasSubstr(kCluster)));
  }
}

TEST_F(HostkeyTest, SaysWhatIsWrong) {
  EXPECT_EQ(Hostkey().code, kExitUsage) << "no such file, which is not a dump";
  Keys("7 " + kCluster + "\nrevoked 0123456789abcdef0123456789abcdef 7\n");
  EXPECT_EQ(Hostkey({}, "0123").code, kExitUsage);
  EXPECT_THAT(Hostkey({}, std::string(32, 'g')).err, HasSubstr("/etc/machine-id"));
  EXPECT_THAT(Hostkey({"--epoch", "3"}).err, HasSubstr("no key of epoch 3"));
  EXPECT_THAT(Hostkey().err, HasSubstr("revoked up to epoch 7"));
  Keys("host 7 " + kCluster + "\n");
  EXPECT_THAT(Hostkey().err, HasSubstr("has no cluster key"));
}

}  // namespace
}  // namespace dumpcast
