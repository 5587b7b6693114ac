// SPDX-License-Identifier: Apache-2.0
// Cluster keys and the host keys derived from them.
//
// A cluster key is 32 random bytes with an epoch, a number that rises when the key is
// replaced. It never leaves the file that it is kept in: relays hold it, and a host is given
// the key derived from it for that host, so that a key stolen from a host forges only
// that host. The derivation is described in protos/wire/WIRE.md.
//
// Everything here is thread-safe: functions of their arguments, and values.
#ifndef DUMPCAST_PROTOS_KEYS_KEYS_H_
#define DUMPCAST_PROTOS_KEYS_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "protos/keys/secret.h"

namespace dumpcast {

inline constexpr size_t kKeyBytes = 32;
inline constexpr size_t kHostIdBytes = 16;
using Key = Secret<kKeyBytes>;
using HostId = std::array<uint8_t, kHostIdBytes>;

// The keys known to a process, by epoch. With at least one when it came from the functions below.
struct ClusterKeys {
  // Cluster keys. Epochs 1..65535; epoch 0 only for UnauthenticatedKeys().
  std::map<uint16_t, Key> by_epoch;
  // The keys of this host alone, which has no cluster key then.
  std::map<uint16_t, Key> host_by_epoch;
  // Hosts that are believed no longer, and up to which epoch.
  std::map<HostId, uint16_t> revoked;

  // The epoch to send under: the highest.
  uint16_t NewestEpoch() const;
  // The key of a host under an epoch, whether it is revoked or not; nullopt when neither this
  // host's own nor the cluster key of that epoch is known.
  std::optional<Key> HostKey(const HostId& host_id, uint16_t epoch) const;
  bool IsRevoked(const HostId& host_id, uint16_t epoch) const;
};

// Parses the text of a key file; `name` is used in messages. Of each line one of
//   EPOCH HEX64            a cluster key: epoch in decimal, 64 hex digits
//   host EPOCH HEX64       a host's own key
//   revoked HOST_ID EPOCH  packets of this host under that epoch and lower ones are refused
// Blank lines and what follows a `#` are skipped.
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
