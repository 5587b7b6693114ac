// SPDX-License-Identifier: Apache-2.0
// Arming through configfs: from a configuration to a module that heartbeats.
#ifndef DUMPCAST_KMOD_ARM_ARMING_H_
#define DUMPCAST_KMOD_ARM_ARMING_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kmod/arm/config.h"
#include "kmod/arm/files.h"
#include "kmod/arm/status.h"
#include "protos/keys/keys.h"

namespace dumpcast {

// host_id: config.host_id, or /etc/machine-id. Errors: kFailedPrecondition with the fix.
[[nodiscard]] absl::StatusOr<HostId> FindHostId(const Files& files, const ArmConfig& config);

// Arms, disarming first when the host is armed. REQUIRES: EnsureModule(). Errors: what is wrong
// with the host's id, key file or devices, and then an armed host stays armed as it was; or the
// first write that the module refused, and the kernel log says what was wanted.
[[nodiscard]] absl::Status Arm(const Files& files, const ArmConfig& config);

// Disarms and removes the paths. Fine when not armed or not loaded.
[[nodiscard]] absl::Status Disarm(const Files& files);

// Sends a test dump; blocks until it is committed or given up (30 s). Errors:
// kDeadlineExceeded when too few relays committed it, kFailedPrecondition when not armed,
// kAborted while another dump is under way.
[[nodiscard]] absl::Status SendTestDump(const Files& files);

// Sends a live dump of that dump level, with at most rate_kib_s on a path (0: no limit); blocks
// until it is committed or given up. Errors: kDeadlineExceeded when too few relays committed it,
// kCancelled when a signal or disarming ended it, kFailedPrecondition when not armed, kAborted
// while another one is under way.
[[nodiscard]] absl::Status SendLiveDump(const Files& files, unsigned dump_level,
                                        uint64_t rate_kib_s);

// The module's status; disarmed when it is not loaded.
[[nodiscard]] absl::StatusOr<ArmStatus> ReadStatus(const Files& files);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_ARMING_H_
