// SPDX-License-Identifier: Apache-2.0
// Where the peers are: names from the options, looked up again and again, since pods move.
#ifndef DUMPCAST_RELAY_PEER_NAMES_H_
#define DUMPCAST_RELAY_PEER_NAMES_H_

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "relay/packets.h"

namespace dumpcast {

struct PeerName {
  std::string host;  // name or address, without brackets
  uint16_t port = 0;
};

// `host`, `host:port`, `v6`, `[v6]`, `[v6]:port`. INVALID_ARGUMENT says what was wanted.
absl::StatusOr<PeerName> ParsePeer(const std::string& text, uint16_t default_port);

// Thread safety: all methods may be called from any thread.
class PeerNames {
 public:
  PeerNames(std::vector<PeerName> names, uint16_t udp_port)
      : names_(std::move(names)), udp_port_(udp_port) {}

  bool empty() const { return names_.empty(); }
  // gRPC targets (`ipv4:address:port`, `ipv6:[address]:port`) of all names, as of at most kFreshNs
  // ago; may ask DNS.
  std::vector<std::string> Targets(TimeNs now);
  // Where the same peers listen for UDP; as of the last lookup.
  std::vector<Address> UdpAddresses() const;
  // The name that a target came from, for TLS; empty when unknown.
  std::string NameOf(const std::string& target) const;

  static constexpr TimeNs kFreshNs = 5 * kSecond;

 private:
  const std::vector<PeerName> names_;
  const uint16_t udp_port_;
  mutable std::mutex mu_;
  bool looked_up_ = false;
  TimeNs looked_up_ns_ = 0;
  std::map<std::string, std::string> targets_;  // to names
  std::vector<Address> udp_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_PEER_NAMES_H_
