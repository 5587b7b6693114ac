// SPDX-License-Identifier: Apache-2.0
#include "relay/decode.h"

#include <algorithm>

#include "protos/wire/auth.h"
#include "relay/fec.h"

namespace dumpcast {

absl::Status DecodeBlock(const BlockKey& key, const Gathered& gathered, std::string* data) {
  if (!gathered.parity.empty() &&
      !RecoverData(data->data(), gathered.symbol_size, gathered.k, gathered.have, gathered.parity,
                   std::min<uint32_t>(gathered.encoded_len, gathered.symbol_size)))
    return absl::InvalidArgumentError("too few symbols");
  if (dcast_block_digest(&gathered.keys, key.block_class, key.number, data->data(),
                         gathered.encoded_len) != key.digest)
    return absl::InvalidArgumentError("the digest is not that of the encoding");
  data->resize(gathered.encoded_len);
  return absl::OkStatus();
}

absl::Status DecodeOp(StoreOp* op) {
  return op->gathered ? DecodeBlock(op->key, *op->gathered, &op->encoded) : absl::OkStatus();
}

}  // namespace dumpcast
