// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Finds the handover record that an armed module left in a crashed host's memory
// (protos/wire/dumpcast_handover.h) and the class 0 streams that it names.
#ifndef DUMPCAST_KMOD_CORE_SEND_HANDOVER_H_
#define DUMPCAST_KMOD_CORE_SEND_HANDOVER_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "kmod/core/send/memory_source.h"
#include "kmod/core/send/replay.h"
#include "kmod/core/send/udp_path.h"
#include "protos/keys/keys.h"
#include "protos/wire/dumpcast_handover.h"

namespace dumpcast {

struct Handover {
  dcast_handover record = {};
  dcast_secrets secrets = {};
  // Of the first sender, all lengths as META says; empty when no dump was begun.
  std::array<std::string, DCAST_STREAMS> streams;

  bool begun() const { return record.state != DCAST_HANDOVER_ARMED; }
};

// Looks at every page that a filter at level 31 keeps, so that what an earlier boot left in pages
// that are free now does not count. `memory` must have a filter set for that level. A record
// counts with a right MAC under a key of `keys`, and the newest of several.
// Errors: kNotFound when there is none, with what was found instead; kDataLoss when the dump is
// encrypted and the keys for it cannot be read.
[[nodiscard]] absl::StatusOr<Handover> FindHandover(const MemorySource& memory,
                                                    const ClusterKeys& keys);

// For people: which dump of which host, and what the first sender made of it.
std::string Describe(const Handover& handover);

// The engine's configuration but for its secrets and, when `paths` is empty, the paths that the
// first sender had. Paths whose device this kernel does not have by that name are left out; when it
// has none of them, the first one goes by the routing table.
void ApplyHandover(const Handover& handover, dcast_config* config,
                   std::vector<UdpPathOptions>* paths);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_HANDOVER_H_
