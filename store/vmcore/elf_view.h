// SPDX-License-Identifier: Apache-2.0
// The dump as an ELF64 core file, as /proc/vmcore would show it. Layout: docs/vmcore.md.
#ifndef DUMPCAST_STORE_VMCORE_ELF_VIEW_H_
#define DUMPCAST_STORE_VMCORE_ELF_VIEW_H_

#include <memory>

#include "absl/status/statusor.h"
#include "store/vmcore/file_view.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

// Most PT_LOADs that a view has.
inline constexpr size_t kMaxElfSegments = 4096;

// Cost: a walk over the windows of RAM in memory; no block is read.
// FAILED_PRECONDITION while the memory map is missing.
absl::StatusOr<std::unique_ptr<FileView>> MakeElfView(std::shared_ptr<const MemoryView> memory);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_ELF_VIEW_H_
