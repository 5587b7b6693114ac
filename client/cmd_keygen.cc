// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/config.h"
#include "client/text.h"
#include "protos/keys/end_to_end.h"

namespace dumpcast {
namespace {

// A new file of mode 0600, on disk when this returns OK.
absl::Status WriteNewFile(const std::string& path, absl::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 && errno == EEXIST) {
    return absl::AlreadyExistsError(absl::StrCat(
        path, " exists, and dumps may need it; use -O for another file, or --force to replace it"));
  }
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  absl::Cleanup close_fd = [fd] { close(fd); };
  // One write: a file system that takes less of a few hundred bytes is full.
  errno = ENOSPC;
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || fsync(fd) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExitCode> RunKeygen(const Environment& env, bool json,
                                   const KeygenOptions& options) {
  std::string path = options.path;
  if (path.empty()) {
    path = DefaultIdentityPath(env);
    if (path.empty()) {
      return absl::InvalidArgumentError("there is no HOME to write to: name a file with -O");
    }
    std::error_code ec;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
  }
  const Identity identity = NewIdentity();
  const std::string recipient = RecipientText(identity.recipient);
  const std::string draft = options.force ? absl::StrCat(path, ".new") : path;
  if (options.force) unlink(draft.c_str());  // what an earlier run may have left
  std::string text = IdentityText(identity);
  absl::Status written = WriteNewFile(draft, text);
  sodium_memzero(text.data(), text.size());
  if (!written.ok()) return written;
  if (options.force && rename(draft.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(draft.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("cannot rename ", draft, " to ", path));
  }
  if (json) {
    const nlohmann::ordered_json result = {{"file", path}, {"recipient", recipient}};
    *env.out << result.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
             << "\n";
    return kExitOk;
  }
  *env.out << "recipients = [\"" << recipient << "\"]\n";
  *env.err << "dumpcast: the identity is in " << Printable(path)
           << ": keep it secret, and a copy of it; the line above is for arm.toml of hosts whose "
              "dumps it shall open\n";
  return kExitOk;
}

}  // namespace dumpcast
