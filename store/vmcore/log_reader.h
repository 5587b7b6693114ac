// SPDX-License-Identifier: Apache-2.0
// The kernel log of a dump, without debug information.
#ifndef DUMPCAST_STORE_VMCORE_LOG_READER_H_
#define DUMPCAST_STORE_VMCORE_LOG_READER_H_

#include <cstdint>
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
  // OK when the whole ring buffer was read; otherwise why the text comes from the stream or, when
  // there is none, why lines are missing from it.
  absl::Status memory_status;
};

// The log from the ring buffer (Linux 5.10 and newer); from the stream LOG while a part of the ring
// is missing; from the readable part of the ring when there is no such stream.
// NOT_FOUND, with both reasons, when neither can be read.
absl::StatusOr<KernelLog> ReadKernelLog(const MemoryView& memory);

struct PrintkRing {
  std::string text;           // lines, as in KernelLog
  uint64_t records = 0;       // in text
  uint64_t lost_records = 0;  // not readable: their memory is not held, or another record's
};

// Only the ring buffer. Bounded in time and memory by what the ring itself says of its size, which
// is limited. NOT_FOUND when vmcoreinfo or memory needed to find the records is missing; DATA_LOSS
// when what is there cannot be a ring buffer.
absl::StatusOr<PrintkRing> ReadPrintkRing(const MemoryView& memory);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_LOG_READER_H_
