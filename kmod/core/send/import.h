// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The vmcore of another host as a dump of that host.
#ifndef DUMPCAST_KMOD_CORE_SEND_IMPORT_H_
#define DUMPCAST_KMOD_CORE_SEND_IMPORT_H_

#include "absl/status/status.h"
#include "kmod/core/send/memory_source.h"
#include "kmod/core/send/options.h"

namespace dumpcast {

// Fills in who and which, where the command line has not: the host's name as the file has it
// (kdump-compressed ones do), host_id as a hash of the name, dump_id and boot_id as hashes of the
// file, dump level; and the host's wire keys. Errors: kInvalidArgument for an id that is none.
[[nodiscard]] absl::Status ApplyImport(const MemorySource& source, SendOptions* options);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_IMPORT_H_
