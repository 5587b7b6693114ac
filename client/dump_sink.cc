// SPDX-License-Identifier: Apache-2.0
#include "client/dump_sink.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr uint64_t kSyncEveryBytes = 256 << 20;
constexpr int kNoteVersion = 1;

absl::Status ErrnoError(int error, absl::string_view what) {
  return absl::ErrnoToStatus(error, what);
}

bool Exists(const std::string& path) {
  struct stat st {};
  return lstat(path.c_str(), &st) == 0;
}

// Changes when the machine starts anew, and with it whatever was only in its page cache.
std::string MachineBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// Makes a rename or removal in the folder of `path` durable.
absl::Status SyncFolder(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? std::string(".") : parent.string();
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("cannot open folder ", folder));
  // EINVAL: a file system that does not sync folders.
  const int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
  close(fd);
  return error == 0 ? absl::OkStatus() : ErrnoError(error, absl::StrCat("cannot sync ", folder));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PartFile>> PartFile::Open(const std::string& path,
                                                         const PartIdentity& identity,
                                                         bool overwrite) {
  auto file = std::unique_ptr<PartFile>(new PartFile(path, identity, overwrite));
  if (!overwrite && Exists(path)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists; use --force to replace it, or -O for another name"));
  }
  if (absl::Status status = file->OpenPart(); !status.ok()) return status;
  return file;
}

PartFile::~PartFile() {
  if (fd_ < 0) return;
  close(fd_);
  // A part without a byte helps nobody.
  if (offset_ == 0) {
    unlink(part_path().c_str());
    unlink(note_path().c_str());
  }
}

absl::Status PartFile::OpenPart() {
  // Memory of a kernel is nobody else's business: 0600.
  const int fd = open(part_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("cannot write ", part_path()));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat(
        part_path(), " is being written by another `dumpcast get`; wait for it, or use -O"));
  }
  struct stat st {};
  if (fstat(fd, &st) != 0) {
    const int error = errno;
    close(fd);
    return ErrnoError(error, absl::StrCat("cannot look at ", part_path()));
  }
  offset_ = static_cast<uint64_t>(st.st_size);
  absl::Status status = offset_ == 0 ? absl::OkStatus() : ReadNote();
  if (!status.ok()) {
    close(fd);  // the destructor must not remove what is not ours
    return status;
  }
  fd_ = fd;
  if (ftruncate(fd_, static_cast<off_t>(offset_)) != 0) return WriteError(errno);
  return absl::OkStatus();
}

// Decides where to go on in a part that has bytes.
absl::Status PartFile::ReadNote() {
  std::ifstream in(note_path());
  const auto note = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  const bool ours = note.is_object() && note.contains("version") &&
                    note["version"] == kNoteVersion && note.contains("etag") &&
                    note["etag"].is_string() && note.contains("file_bytes") &&
                    note["file_bytes"].is_number_unsigned() && note.contains("synced_bytes") &&
                    note["synced_bytes"].is_number_unsigned();
  if (!ours) {
    if (!overwrite_) {
      return absl::AlreadyExistsError(
          absl::StrCat(part_path(), " exists, and ", note_path(),
                       " does not say what it is; move it away, or use --force to replace it"));
    }
    offset_ = 0;
    return absl::OkStatus();
  }
  const auto file_bytes = note["file_bytes"].get<uint64_t>();
  if (note.value("name", "") != identity_.name || note.value("format", "") != identity_.format ||
      offset_ > file_bytes) {
    replaced_other_ = true;
    offset_ = 0;
    return absl::OkStatus();
  }
  synced_bytes_ = std::min(note["synced_bytes"].get<uint64_t>(), offset_);
  if (note.value("boot_id", "") != MachineBootId()) offset_ = synced_bytes_;
  if (offset_ == 0) return absl::OkStatus();
  etag_ = note["etag"].get<std::string>();
  file_bytes_ = file_bytes;
  return absl::OkStatus();
}

absl::Status PartFile::WriteNote() {
  const nlohmann::json note = {{"version", kNoteVersion},    {"name", identity_.name},
                               {"format", identity_.format}, {"etag", etag_},
                               {"file_bytes", file_bytes_},  {"synced_bytes", synced_bytes_},
                               {"boot_id", MachineBootId()}};
  const std::string draft = absl::StrCat(note_path(), ".new");
  errno = 0;
  std::ofstream out(draft, std::ios::trunc);
  out << note.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  out.close();
  if (!out || rename(draft.c_str(), note_path().c_str()) != 0) {
    const int error = errno != 0 ? errno : EIO;
    unlink(draft.c_str());
    return WriteError(error);
  }
  return absl::OkStatus();
}

absl::Status PartFile::WriteError(int error) const {
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    std::error_code ec;
    const auto space = std::filesystem::space(part_path(), ec);
    return absl::ResourceExhaustedError(absl::StrCat(
        error == ENOSPC ? "the disk is full" : std::strerror(error), ": ", part_path(), " has ",
        HumanBytes(offset_), file_bytes_ > 0 ? " of " : "",
        file_bytes_ > 0 ? HumanBytes(file_bytes_) : "", ", ",
        ec ? "unknown space" : HumanBytes(space.available),
        " is free; make room and run the same command again, or use -O on another disk"));
  }
  return ErrnoError(error, absl::StrCat("cannot write ", part_path()));
}

absl::Status PartFile::Begin(const std::string& etag, uint64_t file_bytes) {
  etag_ = etag;
  file_bytes_ = file_bytes;
  // The note goes first: a part with bytes always has one.
  if (absl::Status status = WriteNote(); !status.ok()) return status;
  // Takes the space now, beyond the end of the file, whose size stays the count of good bytes.
  // A full disk is known before hours of copying. File systems that cannot are asked no further.
  if (fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(file_bytes)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    absl::Status full = WriteError(errno);
    // Gives back what was taken; the error stands either way.
    if (ftruncate(fd_, static_cast<off_t>(offset_)) != 0) return full;
    return full;
  }
  return absl::OkStatus();
}

absl::Status PartFile::Write(absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset_));
    if (n < 0) {
      if (errno == EINTR) continue;
      return WriteError(errno);
    }
    offset_ += static_cast<uint64_t>(n);
    data.remove_prefix(static_cast<size_t>(n));
  }
  if (offset_ - synced_bytes_ < kSyncEveryBytes) return absl::OkStatus();
  if (absl::Status status = SyncData(); !status.ok()) return status;
  return WriteNote();
}

absl::Status PartFile::SyncData() {
  if (fdatasync(fd_) != 0) return WriteError(errno);
  synced_bytes_ = offset_;
  return absl::OkStatus();
}

absl::Status PartFile::Restart() {
  if (ftruncate(fd_, 0) != 0) return WriteError(errno);
  offset_ = synced_bytes_ = file_bytes_ = 0;
  etag_.clear();
  return absl::OkStatus();
}

absl::Status PartFile::Finish() {
  if (absl::Status status = SyncData(); !status.ok()) return status;
  // Space that was taken for the file and not needed goes back.
  if (ftruncate(fd_, static_cast<off_t>(offset_)) != 0) return WriteError(errno);
  if (overwrite_) {
    if (rename(part_path().c_str(), path_.c_str()) != 0) {
      return ErrnoError(errno, absl::StrCat("cannot rename ", part_path(), " to ", path_));
    }
  } else if (link(part_path().c_str(), path_.c_str()) == 0) {
    unlink(part_path().c_str());
  } else if (errno == EEXIST) {
    return absl::AlreadyExistsError(
        absl::StrCat(path_, " came into being meanwhile; the dump is in ", part_path(), ", whole"));
  } else if (Exists(path_) || rename(part_path().c_str(), path_.c_str()) != 0) {
    // A file system without hard links comes here.
    return ErrnoError(errno, absl::StrCat("cannot rename ", part_path(), " to ", path_));
  }
  close(fd_);
  fd_ = -1;
  unlink(note_path().c_str());
  return SyncFolder(path_);
}

absl::Status StreamSink::Begin(const std::string& etag, uint64_t file_bytes) {
  etag_ = etag;
  file_bytes_ = file_bytes;
  return absl::OkStatus();
}

absl::Status StreamSink::Check() const {
  if (*out_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("cannot write to ", what_, " after ", offset_,
                                                   " bytes: it is full, or its reader is gone"));
}

absl::Status StreamSink::Write(absl::string_view data) {
  out_->write(data.data(), static_cast<std::streamsize>(data.size()));
  if (absl::Status status = Check(); !status.ok()) return status;
  offset_ += data.size();
  return absl::OkStatus();
}

absl::Status StreamSink::Restart() {
  if (offset_ > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the dump changed at the relay after ", offset_, " bytes went to ", what_,
                     ", which cannot be taken back; run the command again, or write a file"));
  }
  etag_.clear();
  file_bytes_ = 0;
  return absl::OkStatus();
}

absl::Status StreamSink::Finish() {
  out_->flush();
  return Check();
}

}  // namespace dumpcast
