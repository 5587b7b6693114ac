// SPDX-License-Identifier: Apache-2.0
#include "relay/decode.h"

#include <algorithm>
#include <string_view>

#include "protos/keys/siphash.h"
#include "protos/wire/auth.h"
#include "relay/fec.h"

namespace dumpcast {
namespace {

absl::Status Recover(const Gathered& gathered, std::string* data) {
  if (gathered.parity.empty() ||
      RecoverData(data->data(), gathered.symbol_size, gathered.k, gathered.have, gathered.parity,
                  std::min<uint32_t>(gathered.encoded_len, gathered.symbol_size)))
    return absl::OkStatus();
  return absl::InvalidArgumentError("too few symbols");
}

absl::Status Check(const BlockKey& key, uint64_t digest, uint32_t encoded_len, std::string* data) {
  if (digest != key.digest)
    return absl::InvalidArgumentError("the digest is not that of the encoding");
  data->resize(encoded_len);
  return absl::OkStatus();
}

}  // namespace

absl::Status DecodeBlock(const BlockKey& key, const Gathered& gathered, std::string* data) {
  if (absl::Status status = Recover(gathered, data); !status.ok()) return status;
  return Check(key,
               dcast_block_digest(&gathered.keys, key.block_class, key.number, data->data(),
                                  gathered.encoded_len),
               gathered.encoded_len, data);
}

std::vector<absl::Status> DecodeOps(std::span<StoreOp> ops) {
  std::vector<absl::Status> statuses(ops.size());
  std::vector<size_t> recovered;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (!ops[i].gathered) continue;
    statuses[i] = Recover(*ops[i].gathered, &ops[i].encoded);
    if (statuses[i].ok()) recovered.push_back(i);
  }
  std::sort(recovered.begin(), recovered.end(), [&](size_t a, size_t b) {
    return ops[a].gathered->encoded_len < ops[b].gathered->encoded_len;
  });
  std::vector<Encoding> encodings;
  for (const size_t i : recovered) {
    const Gathered& gathered = *ops[i].gathered;
    encodings.push_back({&gathered.keys, ops[i].key.block_class, ops[i].key.number,
                         std::string_view(ops[i].encoded).substr(0, gathered.encoded_len)});
  }
  std::vector<uint64_t> digests(encodings.size());
  BlockDigests(encodings, digests.data());
  for (size_t i = 0; i < recovered.size(); ++i) {
    StoreOp& op = ops[recovered[i]];
    statuses[recovered[i]] = Check(op.key, digests[i], op.gathered->encoded_len, &op.encoded);
  }
  return statuses;
}

}  // namespace dumpcast
