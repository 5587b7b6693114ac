// SPDX-License-Identifier: Apache-2.0
// Who else holds a dump, as replication learned it.
#ifndef DUMPCAST_STORE_HOLDER_SOURCE_H_
#define DUMPCAST_STORE_HOLDER_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "store/ids.h"

namespace dumpcast {

// What a peer said of a dump.
struct HolderInfo {
  uint64_t relay_id = 0;
  std::string relay_name;
  uint64_t blocks = 0;  // durable there, counted once per (class, number)
  bool complete = false;
  int64_t update_unix_ns = 0;  // when it said so
};

// Thread safety: implementations may be called from any thread.
class HolderSource {
 public:
  virtual ~HolderSource() = default;
  // Peers that hold blocks of the dump, by relay id. The own relay is not among them.
  virtual std::vector<HolderInfo> Holders(const DumpKey& dump) const = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_HOLDER_SOURCE_H_
