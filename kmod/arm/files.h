// SPDX-License-Identifier: Apache-2.0
// The small files of /proc, /sys and /etc that arming reads and writes.
#ifndef DUMPCAST_KMOD_ARM_FILES_H_
#define DUMPCAST_KMOD_ARM_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

// Thread-safe: holds only the folder that stands for "/".
class Files {
 public:
  // root: "" for the machine itself; a test's folder otherwise.
  explicit Files(std::string root = "") : root_(std::move(root)) {}

  std::string Path(absl::string_view path) const { return root_ + std::string(path); }
  bool Exists(absl::string_view path) const;
  // The whole content, trailing white space removed. Errors: kNotFound, kUnavailable.
  [[nodiscard]] absl::StatusOr<std::string> Read(absl::string_view path) const;
  // Writes text in one write(2), as attributes want it, to a file that exists. Errors:
  // kInvalidArgument (EINVAL), kFailedPrecondition (EBUSY), kNotFound, kDeadlineExceeded
  // (ETIMEDOUT), kUnavailable; each with the path and what the kernel said.
  [[nodiscard]] absl::Status Write(absl::string_view path, absl::string_view text) const;
  // The same with bytes as hex digits, of which no copy is left in this process.
  [[nodiscard]] absl::Status WriteSecret(absl::string_view path, const uint8_t* bytes,
                                         size_t count) const;
  // Names in a folder, sorted; empty when there is none.
  std::vector<std::string> List(absl::string_view path) const;
  [[nodiscard]] absl::Status MakeFolder(absl::string_view path) const;
  [[nodiscard]] absl::Status RemoveFolder(absl::string_view path) const;

 private:
  const std::string root_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_FILES_H_
