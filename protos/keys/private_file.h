// SPDX-License-Identifier: Apache-2.0
// Reading files that hold secrets.
#ifndef DUMPCAST_PROTOS_KEYS_PRIVATE_FILE_H_
#define DUMPCAST_PROTOS_KEYS_PRIVATE_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

struct PrivateFileKind {
  absl::string_view what;    // "key file"
  absl::string_view danger;  // "who reads it can forge dumps"
};

// The whole file, at most 1 MiB. The caller wipes what it is given.
// NOT_FOUND, UNAVAILABLE; PERMISSION_DENIED when group or others may read or write it, with how to
// mend it; INVALID_ARGUMENT when it is larger.
absl::StatusOr<std::string> ReadPrivateFile(const std::string& path, const PrivateFileKind& kind);

}  // namespace dumpcast

#endif  // DUMPCAST_PROTOS_KEYS_PRIVATE_FILE_H_
