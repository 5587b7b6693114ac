// SPDX-License-Identifier: Apache-2.0
// What the receiving side (relay/) tells the services (store/) about dumps in flight.
#ifndef DUMPCAST_STORE_RECEIVE_STATUS_H_
#define DUMPCAST_STORE_RECEIVE_STATUS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "store/block_symbols.h"
#include "store/ids.h"

namespace dumpcast {

struct PathCounts {
  uint32_t path = 0;
  uint64_t origin = 0;
  uint64_t packets = 0;
  uint64_t lost = 0;
  uint64_t duplicates = 0;
};

struct ReceiveStatus {
  uint64_t blocks_announced = 0;  // the sender's own count, 0 when unknown
  bool host_dumping = false;      // the sender has not said DONE and is still heard
  std::vector<PathCounts> paths;
};

// Thread safety: implementations may be called from any thread.
class ReceiveStatusSource {
 public:
  virtual ~ReceiveStatusSource() = default;
  virtual std::optional<ReceiveStatus> GetReceiveStatus(const DumpKey& dump) const = 0;
  // Makes the answer of a request, from a block that is incomplete here. False, and nothing is
  // changed, when there are none of those wanted.
  virtual bool FindSymbols(const DumpKey& dump, BlockSymbols* symbols) const = 0;
  // Paths of the host heard lately.
  virtual uint32_t PathsHeard(const Id16& host_id) const = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_RECEIVE_STATUS_H_
