// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/private_file.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadPrivateFile(const std::string& path, const PrivateFileKind& kind) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string message =
        absl::StrCat("cannot read the ", kind.what, " ", path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat st;
  if (fstat(fd, &st) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot stat ", path, ": ", std::strerror(errno)));
  }
  if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(absl::StrFormat(
        "the %s %s is open to group or others (mode %03o), and %s; run: chmod 600 %s", kind.what,
        path, static_cast<unsigned>(st.st_mode & 0777), kind.danger, path));
  }
  // Never moved while it grows: nothing of it is left behind unwiped.
  std::string text(kMaxBytes + 1, '\0');
  size_t used = 0;
  ssize_t got = 0;
  while (used < text.size() && (got = read(fd, text.data() + used, text.size() - used)) > 0) {
    used += static_cast<size_t>(got);
  }
  const int error = errno;
  // Of no use in the page cache, from where a dump could take it.
  (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  if (got < 0) {
    sodium_memzero(text.data(), text.size());
    return absl::UnavailableError(absl::StrCat("cannot read ", path, ": ", std::strerror(error)));
  }
  if (used > kMaxBytes) {
    sodium_memzero(text.data(), text.size());
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is larger than 1 MiB and cannot be a ", kind.what));
  }
  text.resize(used);
  return text;
}

}  // namespace dumpcast
