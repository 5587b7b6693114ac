// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

absl::Status Failed(const std::string& path, absl::string_view what, int error) {
  const std::string message = absl::StrCat(path, ": ", what, ": ", std::strerror(error));
  switch (error) {
    case EINVAL:
      return absl::InvalidArgumentError(message);
    case EBUSY:
      return absl::FailedPreconditionError(message);
    case ENOENT:
    case ENODEV:
      return absl::NotFoundError(message);
    case EINTR:
      return absl::CancelledError(message);
    case ETIMEDOUT:
      return absl::DeadlineExceededError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(message, " (root is needed)"));
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace

bool Files::Exists(absl::string_view path) const {
  return access(Path(path).c_str(), F_OK) == 0;
}

absl::StatusOr<std::string> Files::Read(absl::string_view path) const {
  const std::string name = Path(path);
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failed(name, "cannot be opened", errno);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed(name, "cannot be read", errno);
    if (n == 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  absl::StripTrailingAsciiWhitespace(&text);
  return text;
}

absl::Status Files::Write(absl::string_view path, absl::string_view text) const {
  const std::string name = Path(path);
  const int fd = open(name.c_str(), O_WRONLY | O_CLOEXEC | O_TRUNC);
  if (fd < 0) return Failed(name, "cannot be opened", errno);
  const ssize_t n = write(fd, text.data(), text.size());
  const int error = n < 0 ? errno : 0;
  // configfs stores an attribute when it is written; close reports nothing more.
  close(fd);
  if (error != 0) return Failed(name, "was refused by the kernel", error);
  if (static_cast<size_t>(n) != text.size()) return Failed(name, "was written in part", EIO);
  return absl::OkStatus();
}

absl::Status Files::WriteSecret(absl::string_view path, const uint8_t* bytes, size_t count) const {
  std::string hex(2 * count + 1, '\0');  // with a NUL
  sodium_bin2hex(hex.data(), hex.size(), bytes, count);
  const absl::Status status = Write(path, absl::string_view(hex.data(), 2 * count));
  sodium_memzero(hex.data(), hex.size());
  return status;
}

std::vector<std::string> Files::List(absl::string_view path) const {
  std::vector<std::string> names;
  DIR* folder = opendir(Path(path).c_str());
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Files::MakeFolder(absl::string_view path) const {
  const std::string name = Path(path);
  if (mkdir(name.c_str(), 0755) == 0 || errno == EEXIST) return absl::OkStatus();
  return Failed(name, "cannot be made", errno);
}

absl::Status Files::RemoveFolder(absl::string_view path) const {
  const std::string name = Path(path);
  if (rmdir(name.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return Failed(name, "cannot be removed", errno);
}

}  // namespace dumpcast
