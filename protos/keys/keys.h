// SPDX-License-Identifier: Apache-2.0
// Cluster keys and the host keys derived from them.
//
// A cluster key is 32 random bytes with an epoch, a number that rises when the key is
// replaced. It never leaves the file that it is kept in: relays hold it, and whoever arms
// a host derives that host's key from it, so that a key stolen from a host forges only
// that host. The derivation is described in protos/wire/WIRE.md.
//
// Everything here is thread-safe: functions of their arguments, and values.
#ifndef DUMPCAST_PROTOS_KEYS_KEYS_H_
#define DUMPCAST_PROTOS_KEYS_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

inline constexpr size_t kKeyBytes = 32;
inline constexpr size_t kHostIdBytes = 16;
using Key = std::array<uint8_t, kKeyBytes>;
using HostId = std::array<uint8_t, kHostIdBytes>;

// The cluster keys known to a process, by epoch. Never empty when it came from the
// functions below.
struct ClusterKeys {
  // Epochs 1..65535; epoch 0 only for UnauthenticatedKeys().
  std::map<uint16_t, Key> by_epoch;

  // The epoch to send under: the highest. REQUIRES: !by_epoch.empty().
  uint16_t NewestEpoch() const { return by_epoch.rbegin()->first; }
  // The key of an epoch, or nullptr when this process does not have it.
  const Key* Find(uint16_t epoch) const;
};

// Parses the text of a key file: one `epoch hex64` per line (epoch in decimal, the key as
// 64 hex digits), blank lines and `#` comments skipped. `name` is used in messages.
// Errors: kInvalidArgument with name, line and fix; a file without any key is one, too.
// A message never repeats key material.
[[nodiscard]] absl::StatusOr<ClusterKeys> ParseKeyFile(absl::string_view text,
                                                       absl::string_view name);

// Reads and parses a key file. Errors: as ParseKeyFile(); kNotFound or kUnavailable when it
// cannot be read; kPermissionDenied when group or others may read or write it.
[[nodiscard]] absl::StatusOr<ClusterKeys> LoadKeyFile(const std::string& path);

// What is used when no key file is configured: epoch 0 with a key that anybody can compute
// (SHA-256 of "dumpcast unauthenticated"). It detects damage and forges nothing away:
// callers must warn, kUnauthenticatedWarning is the text.
ClusterKeys UnauthenticatedKeys();
extern const char kUnauthenticatedWarning[];

// HMAC-SHA-256(cluster_key, "dumpcast host key v1" || host_id || le16 epoch).
Key DeriveHostKey(const Key& cluster_key, const HostId& host_id, uint16_t epoch);

}  // namespace dumpcast

#endif  // DUMPCAST_PROTOS_KEYS_KEYS_H_
