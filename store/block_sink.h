// SPDX-License-Identifier: Apache-2.0
// Where a relay's engine puts what it has verified. The Store is one; the simulation has another.
#ifndef DUMPCAST_STORE_BLOCK_SINK_H_
#define DUMPCAST_STORE_BLOCK_SINK_H_

#include <string>

#include "absl/status/status.h"
#include "store/ids.h"

namespace dumpcast {

class BlockSink {
 public:
  virtual ~BlockSink() = default;

  // Adds one verified encoding. Putting a key twice is harmless. The bytes are readable at once and
  // durable only after the next Flush() has returned OK.
  // RESOURCE_EXHAUSTED: the disk is too full for new blocks; nothing was stored.
  // FAILED_PRECONDITION: the dump was deleted or evicted and is declined.
  [[nodiscard]] virtual absl::Status PutBlock(const DumpKey& dump, const BlockKey& key,
                                              std::string encoded) = 0;

  // Makes everything put before durable: survives kill -9 and power loss once OK is returned.
  [[nodiscard]] virtual absl::Status Flush() = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_BLOCK_SINK_H_
