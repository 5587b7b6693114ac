// SPDX-License-Identifier: Apache-2.0
// What `dumpcast` returns to its caller. Documented in dumpcast.1; scripts depend on the numbers.
#ifndef DUMPCAST_CLIENT_EXIT_CODE_H_
#define DUMPCAST_CLIENT_EXIT_CODE_H_

#include "absl/status/status.h"

namespace dumpcast {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitNotFound = 3,
  kExitIncomplete = 4,  // only with --require-complete
};

// INVALID_ARGUMENT is the caller's usage, NOT_FOUND says itself, the rest is failure.
inline int ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  if (absl::IsNotFound(status)) return kExitNotFound;
  return kExitFailure;
}

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_EXIT_CODE_H_
