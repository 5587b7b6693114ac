// SPDX-License-Identifier: Apache-2.0
// A file that exists only as a rule over blocks.
#ifndef DUMPCAST_STORE_VMCORE_FILE_VIEW_H_
#define DUMPCAST_STORE_VMCORE_FILE_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace dumpcast {

// Randomly readable, never written to a disk. Its bytes depend on nothing but the set of blocks
// held when the MemoryView under it was opened: two relays with the same set give the same file.
//
// Thread safety: Read() may be called from any thread at once.
class FileView {
 public:
  virtual ~FileView() = default;

  // Bytes of the file.
  virtual uint64_t size() const = 0;

  // Bytes at its beginning that say what lies where in the rest. What they say depends on which
  // blocks are held, and on their headers.
  virtual uint64_t layout_bytes() const = 0;

  // Copies bytes [offset, offset + len) to out. Pages that are not held read as zeros where the
  // format has room for them at all.
  // OUT_OF_RANGE when the range goes past size(); errors of the block source as they are.
  virtual absl::Status Read(uint64_t offset, size_t len, char* out) const = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_FILE_VIEW_H_
