// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The bytes of a file: mapped, read piece by piece, or put in order first.
#ifndef DUMPCAST_KMOD_CORE_SEND_FILE_BYTES_H_
#define DUMPCAST_KMOD_CORE_SEND_FILE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

// Immutable once it is made; Copy() may be called from any thread. A file is mapped and must not
// shrink meanwhile; one of procfs (/proc/vmcore) is read piece by piece, since page tables for all
// of a large host would not fit a crash kernel.
//
// A flattened file (makedumpfile -F, as it comes out of a pipe) is read as the file that
// `makedumpfile -R` would make of it.
class FileBytes {
 public:
  // Errors: kNotFound, kUnavailable when it cannot be read; kInvalidArgument for what is no file,
  // and for a flattened one that is cut off or malformed.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<FileBytes>> Open(const std::string& path);
  // Bytes that the caller keeps.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<FileBytes>> FromMemory(
      const uint8_t* data, size_t size, absl::string_view name);
  ~FileBytes();
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  uint64_t size() const { return flat_.empty() ? size_ : flat_size_; }
  // Of a flattened file less, since holes are not in it.
  uint64_t stored_bytes() const { return size_; }
  // False when they are not there or cannot be read.
  bool Copy(uint64_t offset, void* dst, size_t len) const;

 private:
  // A piece of the file that a flattened one stands for.
  struct Piece {
    uint64_t bytes = 0;
    uint64_t at = 0;  // in the flattened file
  };
  FileBytes() = default;
  absl::Status Unflatten(absl::string_view name);
  void AddPiece(uint64_t offset, Piece piece);
  bool CopyStored(uint64_t offset, void* dst, size_t len) const;

  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  bool mapped_ = false;
  int fd_ = -1;                     // instead of data_
  std::map<uint64_t, Piece> flat_;  // by offset, disjoint
  uint64_t flat_size_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_FILE_BYTES_H_
