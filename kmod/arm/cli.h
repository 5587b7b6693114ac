// SPDX-License-Identifier: Apache-2.0
// The `dumpcast-arm` command line.
#ifndef DUMPCAST_KMOD_ARM_CLI_H_
#define DUMPCAST_KMOD_ARM_CLI_H_

#include <functional>
#include <iosfwd>
#include <string>

#include "kmod/arm/files.h"

namespace dumpcast {

// Exit statuses; README.md documents them.
enum ArmExit : int {
  kArmOk = 0,
  kArmFailed = 1,
  kArmUsage = 2,     // flags or configuration
  kArmNotArmed = 3,  // status, test, dump
  kArmNoRelay = 4,   // test, dump: too few commits
  kArmProblems = 5,  // check: something keeps a dump from happening
};

struct ArmEnvironment {
  Files files;
  std::ostream* out;
  std::ostream* err;
  // Loads the module; kmod/arm/loading.h's EnsureModule but in tests.
  std::function<absl::Status(const Files& files, const std::string& module)> ensure_module;
  // Waits; false when the process was asked to end.
  std::function<bool(double seconds)> sleep;
  bool terminal = false;  // whether err is one: progress is written over itself
};

// Runs one command. Never throws.
int RunArm(int argc, const char* const* argv, const ArmEnvironment& env);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_CLI_H_
