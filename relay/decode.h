// SPDX-License-Identifier: Apache-2.0
// Symbols to a block's encoding: what parity gives back, and whether it is what its digest says.
#ifndef DUMPCAST_RELAY_DECODE_H_
#define DUMPCAST_RELAY_DECODE_H_

#include <string>

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "relay/packets.h"

namespace dumpcast {

// `data`: room for k symbols of symbol_size bytes, with the data symbols that are held in place;
// when it is OK, the encoding. INVALID_ARGUMENT: its digest is another. Thread safety: pure.
absl::Status DecodeBlock(const BlockKey& key, const Gathered& gathered, std::string* data);

// The same of each kPut that is still to be decoded; nothing to do for any other op.
std::vector<absl::Status> DecodeOps(std::span<StoreOp> ops);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_DECODE_H_
