// SPDX-License-Identifier: Apache-2.0
// The dump as a kdump-compressed (diskdump) file with uncompressed pages. Layout: docs/vmcore.md.
#ifndef DUMPCAST_STORE_VMCORE_KDUMP_VIEW_H_
#define DUMPCAST_STORE_VMCORE_KDUMP_VIEW_H_

#include <memory>

#include "absl/status/statusor.h"
#include "store/vmcore/file_view.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

// Cost: ReadBlockHeader() of every block of classes 1..3 that is held, since where a page lies in
// the file depends on how many pages lie before it; 8 bytes of memory for each window of RAM. Keep
// the view rather than making it for each read. FAILED_PRECONDITION while the memory map is
// missing; errors of the source.
absl::StatusOr<std::unique_ptr<FileView>> MakeKdumpView(std::shared_ptr<const MemoryView> memory);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_VMCORE_KDUMP_VIEW_H_
