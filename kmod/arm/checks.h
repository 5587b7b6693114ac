// SPDX-License-Identifier: Apache-2.0
// What would keep a dump from happening, and setting it right.
#ifndef DUMPCAST_KMOD_ARM_CHECKS_H_
#define DUMPCAST_KMOD_ARM_CHECKS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kmod/arm/config.h"
#include "kmod/arm/files.h"

namespace dumpcast {

struct Finding {
  enum class Weight {
    kBlocks,  // no dump, or none after some crashes
    kWeaker,  // a dump that is worth less, or a host that does not come back
    kAdvice,  // no setting of ours; worth knowing
  };
  Weight weight = Weight::kBlocks;
  std::string what;  // what was found and what follows from it
  std::string fix;   // what a person types
  std::string path;  // with value: what ApplyFixes() writes; empty: it cannot
  std::string value;
};

// Looks at the running kernel's settings and at the devices of the paths. Never fails: what
// cannot be read is not found.
std::vector<Finding> FindProblems(const Files& files, const ArmConfig& config);

// Writes what the findings say. Errors: the first write that failed; the others are done.
[[nodiscard]] absl::Status ApplyFixes(const Files& files, const std::vector<Finding>& findings);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_CHECKS_H_
