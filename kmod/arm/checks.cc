// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/checks.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

using Weight = Finding::Weight;

constexpr absl::string_view kPostNotifiers =
    "/sys/module/kernel/parameters/crash_kexec_post_notifiers";
constexpr absl::string_view kPanicOnOops = "/proc/sys/kernel/panic_on_oops";
constexpr absl::string_view kPanicTimeout = "/proc/sys/kernel/panic";

// What ends a hang by a panic. An oops may hang, too, before it is one (decision 26).
struct Hang {
  const char* sysctl;
  const char* who;
};
constexpr Hang kHangs[] = {
    {"softlockup_panic", "a processor that hangs in the kernel"},
    {"hardlockup_panic", "a processor that hangs with interrupts off"},
    {"unknown_nmi_panic", "a host that hangs and is sent an NMI by its management controller"},
};

std::string Value(const Files& files, absl::string_view path) {
  return files.Read(path).value_or("");
}

Finding Setting(Weight weight, std::string what, absl::string_view path, absl::string_view value) {
  return Finding{weight, std::move(what), absl::StrCat("echo ", value, " >", path),
                 std::string(path), std::string(value)};
}

void CheckPanicSettings(const Files& files, const ArmConfig& config, std::vector<Finding>* out) {
  const std::string post = Value(files, kPostNotifiers);
  if (post == "N" || post == "0") {
    if (Value(files, "/sys/kernel/kexec_crash_loaded") == "1") {
      out->push_back(Setting(Weight::kBlocks,
                             "a crash kernel is loaded and is started before our hook: no dump "
                             "would be sent",
                             kPostNotifiers, "1"));
    } else {
      out->push_back(Setting(Weight::kWeaker,
                             "crash_kexec_post_notifiers is off: the registers of the other "
                             "processors would not be saved",
                             kPostNotifiers, "1"));
    }
  }
  if (Value(files, kPanicOnOops) == "0") {
    out->push_back(Setting(Weight::kBlocks,
                           "panic_on_oops is 0: the kernel goes on after most of its faults, "
                           "without a dump",
                           kPanicOnOops, "1"));
  }
  if (Value(files, kPanicTimeout) == "0") {
    out->push_back(Setting(Weight::kWeaker,
                           "panic_timeout is 0: the host would hang after the dump", kPanicTimeout,
                           absl::StrCat(config.reboot_after_s)));
  }
  for (const Hang& hang : kHangs) {
    const std::string path = absl::StrCat("/proc/sys/kernel/", hang.sysctl);
    if (Value(files, path) == "0") {
      out->push_back(Finding{Weight::kAdvice,
                             absl::StrCat(hang.sysctl, " is 0: ", hang.who, " makes no dump"),
                             absl::StrCat("echo 1 >", path), "", ""});
    }
  }
}

void CheckPath(const Files& files, const PathConfig& path, std::vector<Finding>* out) {
  const std::string device = absl::StrCat("/sys/class/net/", path.device);
  if (!files.Exists(device)) {
    out->push_back(
        Finding{Weight::kBlocks,
                absl::StrCat("path ", path.name, ": there is no network device ", path.device),
                "see `ip link` for the names, and correct [[path]] device", "", ""});
    return;
  }
  // Reading it fails while the device is down.
  const absl::StatusOr<std::string> carrier = files.Read(absl::StrCat(device, "/carrier"));
  if (!carrier.ok()) {
    out->push_back(Finding{Weight::kBlocks,
                           absl::StrCat("path ", path.name, ": ", path.device, " is down"),
                           absl::StrCat("ip link set ", path.device, " up"), "", ""});
  } else if (*carrier != "1") {
    out->push_back(Finding{Weight::kBlocks,
                           absl::StrCat("path ", path.name, ": ", path.device, " has no carrier"),
                           "see to its cable and the switch's port", "", ""});
  }
}

}  // namespace

std::vector<Finding> FindProblems(const Files& files, const ArmConfig& config) {
  std::vector<Finding> findings;
  CheckPanicSettings(files, config, &findings);
  for (const PathConfig& path : config.paths) CheckPath(files, path, &findings);
  if (config.key_file.empty()) {
    findings.push_back(Finding{Weight::kWeaker,
                               "no key_file: anybody who can send to the relays can forge a dump",
                               "set key_file to the cluster's key, as the relays have it", "", ""});
  }
  return findings;
}

absl::Status ApplyFixes(const Files& files, const std::vector<Finding>& findings) {
  absl::Status result;
  for (const Finding& finding : findings) {
    if (!finding.path.empty()) result.Update(files.Write(finding.path, finding.value));
  }
  return result;
}

}  // namespace dumpcast
