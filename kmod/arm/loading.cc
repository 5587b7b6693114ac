// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/loading.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

constexpr char kConfigfs[] = "/sys/kernel/config";

// Runs modprobe; its exit status, or 127 when there is none.
int Modprobe(const char* name) {
  std::array<const char*, 3> argv = {"modprobe", name, nullptr};
  std::array<const char*, 2> environment = {"PATH=/sbin:/usr/sbin:/bin:/usr/bin", nullptr};
  for (const char* program : {"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe"}) {
    pid_t pid = 0;
    if (access(program, X_OK) != 0) continue;
    if (posix_spawn(&pid, program, nullptr, nullptr, const_cast<char**>(argv.data()),
                    const_cast<char**>(environment.data())) != 0) {
      continue;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
  }
  return 127;
}

std::string Release() {
  utsname names{};
  uname(&names);
  return names.release;
}

absl::Status LoadFile(const std::string& module) {
  const int fd = open(module.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return absl::NotFoundError(absl::StrCat("module ", module, ": ", std::strerror(errno)));
  }
  const absl::Cleanup close_fd = [fd] { close(fd); };
  // modprobe would do that by modules.dep; the file may lie anywhere.
  Modprobe("lz4_compress");
  if (syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST) return absl::OkStatus();
  const int error = errno;
  std::string hint;
  if (error == ENOEXEC) {
    hint = absl::StrCat("; it is not built for this kernel, ", Release(),
                        ": build it with `./dev "
                        "kmod --kernel ",
                        Release(), "`");
  } else if (error == ENOENT) {
    hint = "; a symbol is missing: `modprobe lz4_compress` must work";
  } else if (error == EPERM || error == EKEYREJECTED) {
    hint = "; root is needed, and with Secure Boot a module signed with an enrolled key";
  }
  return absl::UnavailableError(
      absl::StrCat("module ", module, " cannot be loaded: ", std::strerror(error), hint));
}

}  // namespace

absl::Status EnsureModule(const Files& files, const std::string& module) {
  if (files.Exists(absl::StrCat(kConfigRoot, "/armed"))) return absl::OkStatus();
  if (!files.Exists(kConfigfs)) Modprobe("configfs");
  // A folder without a mount is empty on a host that has modules in it, too: look at the list.
  const absl::StatusOr<std::string> mounts = files.Read("/proc/mounts");
  if (mounts.ok() && !absl::StrContains(*mounts, " /sys/kernel/config configfs ")) {
    if (mount("configfs", kConfigfs, "configfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
      return absl::UnavailableError(absl::StrCat("cannot mount configfs on ", kConfigfs, ": ",
                                                 std::strerror(errno), " (root is needed)"));
    }
  }
  if (!module.empty()) {
    absl::Status status = LoadFile(module);
    if (!status.ok()) return status;
  } else if (const int exit = Modprobe("dumpcast"); exit != 0) {
    return absl::NotFoundError(absl::StrCat("`modprobe dumpcast` failed (exit status ", exit,
                                            "): see dmesg; install the module in /lib/modules/",
                                            Release(),
                                            "/extra and run depmod, or name its file in "
                                            "`module`; with Secure Boot it must be signed by a key "
                                            "that the kernel trusts"));
  }
  if (files.Exists(absl::StrCat(kConfigRoot, "/armed"))) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the module is loaded, but ", kConfigRoot, " is not there; see dmesg"));
}

}  // namespace dumpcast
