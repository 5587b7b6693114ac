// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/file_bytes.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

// makedumpfile.h: struct makedumpfile_header in the first 4 KiB, then records of a
// struct makedumpfile_data_header and its bytes. Big-endian.
constexpr char kFlatSignature[16] = "makedumpfile";
struct FlatHeader {
  char signature[16];
  uint64_t type;     // 1: flattened
  uint64_t version;  // 1
};
struct FlatRecord {
  uint64_t offset;  // of the file; all ones at the end
  uint64_t bytes;
};
constexpr uint64_t kFlatHeaderBytes = 4096;
constexpr uint64_t kFlatEnd = ~uint64_t{0};
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 62;

}  // namespace

FileBytes::~FileBytes() {
  if (mapped_) munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::unique_ptr<FileBytes>> FileBytes::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string message = absl::StrCat("cannot open ", path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  absl::Cleanup closer = [fd] { close(fd); };
  struct stat st;
  struct statfs fs;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a regular file with anything in it"));
  }
  std::unique_ptr<FileBytes> file(new FileBytes);
  file->size_ = static_cast<uint64_t>(st.st_size);
  if (fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC) {
    file->fd_ = fd;
    std::move(closer).Cancel();
    return file;
  }
  void* map = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) {
    return absl::UnavailableError(absl::StrCat("cannot map ", path, ": ", std::strerror(errno)));
  }
  file->data_ = static_cast<const uint8_t*>(map);
  file->mapped_ = true;
  const absl::Status status = file->Unflatten(path);
  if (!status.ok()) return status;
  return file;
}

absl::StatusOr<std::unique_ptr<FileBytes>> FileBytes::FromMemory(const uint8_t* data, size_t size,
                                                                 absl::string_view name) {
  std::unique_ptr<FileBytes> file(new FileBytes);
  file->data_ = data;
  file->size_ = size;
  const absl::Status status = file->Unflatten(name);
  if (!status.ok()) return status;
  return file;
}

// What comes later replaces what was written there before.
void FileBytes::AddPiece(uint64_t offset, Piece piece) {
  const uint64_t end = offset + piece.bytes;
  auto it = flat_.lower_bound(offset);
  if (it != flat_.begin()) {
    const auto before = std::prev(it);
    const uint64_t before_end = before->first + before->second.bytes;
    if (before_end > end)
      flat_[end] = {before_end - end, before->second.at + (end - before->first)};
    if (before_end > offset) before->second.bytes = offset - before->first;
  }
  while (it != flat_.end() && it->first < end) {
    const uint64_t it_end = it->first + it->second.bytes;
    if (it_end > end) flat_[end] = {it_end - end, it->second.at + (end - it->first)};
    it = flat_.erase(it);
  }
  flat_[offset] = piece;
  flat_size_ = std::max(flat_size_, end);
}

absl::Status FileBytes::Unflatten(absl::string_view name) {
  FlatHeader header;
  if (size_ < kFlatHeaderBytes || !CopyStored(0, &header, sizeof(header)) ||
      std::memcmp(header.signature, kFlatSignature, sizeof(kFlatSignature)) != 0) {
    return absl::OkStatus();
  }
  if (be64toh(header.type) != 1 || be64toh(header.version) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": a flattened file of type ",
                                                   be64toh(header.type), " and version ",
                                                   be64toh(header.version), ": wanted 1 and 1"));
  }
  FlatRecord record;
  for (uint64_t at = kFlatHeaderBytes;;) {
    if (!CopyStored(at, &record, sizeof(record))) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": the flattened file ends at byte ", size_,
                       " without its last record: it is incomplete, fetch it again"));
    }
    at += sizeof(record);
    const uint64_t offset = be64toh(record.offset), bytes = be64toh(record.bytes);
    if (offset == kFlatEnd) break;
    if (bytes > size_ - at || offset > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": the flattened file has a record of ", bytes, " bytes for offset ",
                       offset, " at byte ", at, " of ", size_, ": it is cut off or damaged"));
    }
    if (bytes != 0) AddPiece(offset, {bytes, at});
    at += bytes;
  }
  if (flat_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": the flattened file has nothing in it"));
  }
  return absl::OkStatus();
}

bool FileBytes::Copy(uint64_t offset, void* dst, size_t len) const {
  if (flat_.empty()) return CopyStored(offset, dst, len);
  if (offset > flat_size_ || flat_size_ - offset < len) return false;
  auto* out = static_cast<uint8_t*>(dst);
  std::memset(out, 0, len);  // what was never written is a hole
  auto it = flat_.upper_bound(offset);
  if (it != flat_.begin()) --it;
  for (; it != flat_.end() && it->first < offset + len; ++it) {
    const uint64_t from = std::max(offset, it->first);
    const uint64_t to = std::min(offset + len, it->first + it->second.bytes);
    if (from >= to) continue;
    if (!CopyStored(it->second.at + (from - it->first), out + (from - offset), to - from))
      return false;
  }
  return true;
}

bool FileBytes::CopyStored(uint64_t offset, void* dst, size_t len) const {
  if (offset > size_ || size_ - offset < len) return false;
  if (fd_ < 0) {
    if (len != 0) std::memcpy(dst, data_ + offset, len);
    return true;
  }
  auto* out = static_cast<char*>(dst);
  while (len != 0) {
    const ssize_t n = pread(fd_, out, len, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    out += n;
    offset += static_cast<uint64_t>(n);
    len -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace dumpcast
