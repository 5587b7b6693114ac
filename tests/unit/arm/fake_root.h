// SPDX-License-Identifier: Apache-2.0
// A folder that stands for "/": the files of /proc and /sys that dumpcast-arm looks at.
#ifndef DUMPCAST_TESTS_UNIT_ARM_FAKE_ROOT_H_
#define DUMPCAST_TESTS_UNIT_ARM_FAKE_ROOT_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "kmod/arm/files.h"

namespace dumpcast {

class FakeRoot {
 public:
  FakeRoot() : root_(::testing::TempDir() + "/dumpcast-arm-XXXXXX") {
    if (mkdtemp(root_.data()) == nullptr) std::abort();
    // A host on which nothing is wrong.
    Set("/proc/sys/kernel/panic_on_oops", "1");
    Set("/proc/sys/kernel/panic", "10");
    Set("/proc/sys/kernel/softlockup_panic", "1");
    Set("/proc/sys/kernel/hardlockup_panic", "1");
    Set("/proc/sys/kernel/unknown_nmi_panic", "1");
    Set("/sys/kernel/kexec_crash_loaded", "0");
    Set("/sys/module/kernel/parameters/crash_kexec_post_notifiers", "Y");
    Set("/sys/class/net/eth0/carrier", "1");
    Set("/etc/machine-id", "00112233445566778899aabbccddeeff");
    Set("/proc/sys/kernel/random/boot_id", "01234567-89ab-cdef-0123-456789abcdef");
    Set("/proc/sys/kernel/hostname", "db7");
  }
  ~FakeRoot() { std::filesystem::remove_all(root_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void Set(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text << "\n";
  }
  void Remove(const std::string& path) { std::filesystem::remove_all(root_ + path); }
  std::string Get(const std::string& path) const { return files().Read(path).value_or("?"); }
  Files files() const { return Files(root_); }

 private:
  std::string root_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_ARM_FAKE_ROOT_H_
