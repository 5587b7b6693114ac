// SPDX-License-Identifier: Apache-2.0
// Names of what is stored: dumps and blocks.
#ifndef DUMPCAST_STORE_IDS_H_
#define DUMPCAST_STORE_IDS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dumpcast {

// host_id, dump_id, boot_id: 16 opaque bytes, shown as 32 lower-case hex digits.
using Id16 = std::array<uint8_t, 16>;

std::string ToHex(const Id16& id);
// INVALID_ARGUMENT unless `hex` is 32 hex digits.
absl::StatusOr<Id16> Id16FromHex(std::string_view hex);
// INVALID_ARGUMENT unless `bytes` is 16 bytes.
absl::StatusOr<Id16> Id16FromBytes(std::string_view bytes);

// One crash of one host.
struct DumpKey {
  Id16 host_id{};
  Id16 dump_id{};
  auto operator<=>(const DumpKey&) const = default;
  // `hosts/{hex}/dumps/{hex}`.
  std::string ResourceName() const;
};

// One encoding of one block. digest 0 is an EMPTY block (no bytes, counts as held).
struct BlockKey {
  uint8_t block_class = 0;  // 0..3
  uint64_t number = 0;      // class 0: stream << 48 | chunk
  uint64_t digest = 0;
  auto operator<=>(const BlockKey&) const = default;
};

template <typename H>
H AbslHashValue(H h, const DumpKey& key) {
  return H::combine(std::move(h), key.host_id, key.dump_id);
}
template <typename H>
H AbslHashValue(H h, const BlockKey& key) {
  return H::combine(std::move(h), key.block_class, key.number, key.digest);
}

// 64-bit mix of a stored key, summed to compare sets (replication.proto, key_sum).
uint64_t MixBlockKey(const BlockKey& key);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_IDS_H_
