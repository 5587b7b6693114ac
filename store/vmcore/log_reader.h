// SPDX-License-Identifier: Apache-2.0
// The kernel log of a dump, without debug information.
#ifndef DUMPCAST_STORE_VMCORE_LOG_READER_H_
#define DUMPCAST_STORE_VMCORE_LOG_READER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

enum class LogOrigin {
  kMemory,  // the printk ring buffer in the dumped memory
  kStream,  // the text that the sender sent ahead of memory
};

struct KernelLog {
  LogOrigin origin = LogOrigin::kMemory;
  // Whole lines as `dmesg` shows them: "[    1.234567] text\n", oldest first.
  std::string text;
  // kStream: why the ring buffer could not be read. kMemory: empty.
  absl::Status memory_status;
};

// The log from the ring buffer (Linux 5.10 and newer), or else the stream LOG.
// NOT_FOUND, with both reasons, when neither can be read.
absl::StatusOr<KernelLog> ReadKernelLog(const MemoryView& memory);

// Only the ring buffer. NOT_FOUND when vmcoreinfo or memory needed for it is missing;
// DATA_LOSS when what is there cannot be a ring buffer.
absl::StatusOr<std::string> ReadPrintkRing(const MemoryView& memory);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_LOG_READER_H_
