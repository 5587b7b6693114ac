// SPDX-License-Identifier: Apache-2.0
#include "kmod/core/signature.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

std::string Text(const char* reason, const std::string& log) {
  // Exactly as long: what is read beyond is seen by the sanitizers.
  const std::vector<char> exact(log.begin(), log.end());
  char out[DCAST_SIGNATURE_TEXT_BYTES];
  const auto len =
      dcast_signature_text(reason, exact.data(), static_cast<__u32>(exact.size()), out);
  return {out, len};
}

// As Linux 6.1 writes them.
constexpr char kOops[] =
    "[   12.001000] WARNING: CPU: 0 PID: 9 at kernel/other.c:12 something_else+0x10/0x20\n"
    "[   12.001100] RIP: 0010:something_else+0x10/0x20\n"
    "[   12.001200] Call Trace:\n"
    "[   12.001300]  unrelated+0x1/0x2\n"
    "[   13.500000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
    "[   13.500100] #PF: supervisor write access in kernel mode\n"
    "[   13.500200] Oops: 0002 [#1] PREEMPT SMP NOPTI\n"
    "[   13.500300] CPU: 1 PID: 77 Comm: sh Not tainted 6.1.0-57-amd64 #1\n"
    "[   13.500400] RIP: 0010:ext4_read_inode.constprop.0+0x1a/0x90 [ext4]\n"
    "[   13.500500] Code: 00 00 00 0f 1f 44 00 00\n"
    "[   13.500600] RSP: 0018:ffffb1f3c01b7e40 EFLAGS: 00010282\n"
    "[   13.500700] Call Trace:\n"
    "[   13.500800]  <TASK>\n"
    "[   13.500900]  ? __die+0x20/0x70\n"
    "[   13.501000]  ext4_iget.cold+0x5f/0x1000 [ext4]\n"
    "[   13.501100]  ext4_lookup+0x10/0x20 [ext4]\n"
    "[   13.501200]  vfs_read+0x9d/0x310\n"
    "[   13.501300]  ksys_read+0x5f/0xe0\n"
    "[   13.501400]  do_syscall_64+0x5b/0xc0\n"
    "[   13.501500]  </TASK>\n"
    "[   13.501600] RIP: 0033:0x7f0f4e8a4b1d\n"
    "[   13.501700] ---[ end trace 0000000000000000 ]---\n"
    "[   13.501800] RIP: 0010:ext4_read_inode.constprop.0+0x1a/0x90 [ext4]\n"
    "[   13.501900] Kernel panic - not syncing: Fatal exception in interrupt\n";

TEST(Signature, IsReasonPlaceAndTheFirstFramesOfTheLastTrace) {
  EXPECT_EQ(Text("Fatal exception in interrupt", kOops),
            "Fatal exception in interrupt\n"
            "ext4_read_inode+0x1a\n"
            "ext4_iget\next4_lookup\nvfs_read\nksys_read\n");
}

TEST(Signature, ForgetsWhatDiffersFromCrashToCrash) {
  std::string other = kOops;
  for (const auto& [from, to] : {std::pair{"0000000000000008", "0000000000000010"},
                                 {"PID: 77", "PID: 4711"},
                                 {"ffffb1f3c01b7e40", "ffffb1f3c0ffee00"},
                                 {"[   13.5", "[ 9913.5"}}) {
    for (size_t at; (at = other.find(from)) != std::string::npos;)
      other.replace(at, std::strlen(from), to);
  }
  EXPECT_EQ(Text("x", other), Text("x", kOops));
  EXPECT_EQ(Text("CPU 3: hung since 120 s at 0xffff8881", ""),
            Text("CPU 0: hung since 9 s at 0x1", ""));
  EXPECT_EQ(Text("CPU 3 is gone", ""), "CPU # is gone\n");
}

TEST(Signature, APlainPanicHasItsCallersAndNoPlace) {
  const std::string log =
      "[    5.1][    T1] Kernel panic - not syncing: sysrq triggered crash\n"
      "[    5.2][    T1] CPU: 0 PID: 1 Comm: init\n"
      "[    5.3][    T1] Call Trace:\n"
      "[    5.4][    T1]  <TASK>\n"
      "[    5.5][    T1]  dump_stack_lvl+0x44/0x5c\n"
      "[    5.6][    T1]  panic+0x118/0x2ed\n"
      "[    5.7][    T1]  sysrq_handle_crash+0x16/0x20\n"
      "[    5.8][    T1]  __handle_sysrq.cold+0xa3/0x100\n"
      "[    5.9][    T1]  </TASK>\n";
  EXPECT_EQ(Text("sysrq triggered crash", log),
            "sysrq triggered crash\nsysrq_handle_crash\n__handle_sysrq\n");
}

TEST(Signature, AnyTextHasOneAndNothingIsReadBeyondIt) {
  const std::string log = kOops;
  for (size_t cut = 0; cut <= log.size(); ++cut) {
    const std::string text = Text("r", log.substr(0, cut));
    EXPECT_LE(text.size(), size_t{DCAST_SIGNATURE_TEXT_BYTES});
    EXPECT_EQ(text.rfind("r\n", 0), 0u);
  }
  EXPECT_EQ(Text(std::string(2000, 'a').c_str(), log), std::string(512, 'a'));
  EXPECT_EQ(Text("r", std::string(100, '[') + "Call Trace:\n[[[[\n"), "r\n");
}

TEST(Signature, DependsOnItsKey) {
  const dcast_siphash_key one{1, 2}, two{1, 3};
  __u8 a[DCAST_SIGNATURE_BYTES], b[DCAST_SIGNATURE_BYTES], c[DCAST_SIGNATURE_BYTES];
  dcast_signature(&one, "reason", kOops, sizeof(kOops) - 1, a);
  dcast_signature(&one, "reason", kOops, sizeof(kOops) - 1, b);
  dcast_signature(&two, "reason", kOops, sizeof(kOops) - 1, c);
  EXPECT_EQ(std::memcmp(a, b, sizeof(a)), 0);
  EXPECT_NE(std::memcmp(a, c, sizeof(a)), 0);
}

}  // namespace
}  // namespace dumpcast
