// SPDX-License-Identifier: Apache-2.0
// Gets the module and its configfs folder in place.
#ifndef DUMPCAST_KMOD_ARM_LOADING_H_
#define DUMPCAST_KMOD_ARM_LOADING_H_

#include <string>

#include "absl/status/status.h"
#include "kmod/arm/files.h"

namespace dumpcast {

// The module's folder, when it is loaded and configfs is mounted.
inline constexpr char kConfigRoot[] = "/sys/kernel/config/dumpcast";

// Mounts configfs and loads the module when they are not there yet. module: path of
// dumpcast.ko, or empty: modprobe finds it. Errors say what to install or sign.
[[nodiscard]] absl::Status EnsureModule(const Files& files, const std::string& module);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_LOADING_H_
