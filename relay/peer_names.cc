// SPDX-License-Identifier: Apache-2.0
#include "relay/peer_names.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "relay/udp.h"

namespace dumpcast {
namespace {

std::string TargetOf(const Address& address, uint16_t port) {
  char text[INET6_ADDRSTRLEN] = "";
  sockaddr_in6 storage;
  std::memcpy(&storage, address.bytes.data(), sizeof(storage));
  if (storage.sin6_family == AF_INET6) {
    inet_ntop(AF_INET6, &storage.sin6_addr, text, sizeof(text));
    return absl::StrCat("ipv6:[", text, "]:", port);
  }
  sockaddr_in v4;
  std::memcpy(&v4, address.bytes.data(), sizeof(v4));
  inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
  return absl::StrCat("ipv4:", text, ":", port);
}

}  // namespace

absl::StatusOr<PeerName> ParsePeer(const std::string& text, uint16_t default_port) {
  const auto wrong = [&text] {
    return absl::InvalidArgumentError(
        absl::StrCat("peer: wanted host, host:port or [v6]:port, got `", text, "`"));
  };
  PeerName name{text, default_port};
  std::string port;
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    if (end == std::string::npos) return wrong();
    name.host = text.substr(1, end - 1);
    if (end + 1 < text.size() && text[end + 1] != ':') return wrong();
    if (end + 1 < text.size()) port = text.substr(end + 2);
    if (end + 1 < text.size() && port.empty()) return wrong();
  } else if (const size_t colon = text.find(':');
             colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    name.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return wrong();
  }
  uint32_t number = default_port;
  if (!port.empty() && (!absl::SimpleAtoi(port, &number) || number == 0 || number > 65535))
    return wrong();
  if (name.host.empty()) return wrong();
  name.port = static_cast<uint16_t>(number);
  return name;
}

std::vector<std::string> PeerNames::Targets(TimeNs now) {
  bool fresh;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    fresh = looked_up_ && now < looked_up_ns_ + kFreshNs;
  }
  if (!fresh) {
    // Without the lock: DNS may take its time.
    std::map<std::string, std::string> targets;
    std::vector<Address> udp;
    for (const PeerName& name : names_)
      for (const Address& address : ResolveUdp(name.host, udp_port_)) {
        targets[TargetOf(address, name.port)] = name.host;
        udp.push_back(address);
      }
    const std::lock_guard<std::mutex> lock(mu_);
    // A name server that is down says nothing of peers that were there a moment ago.
    if (!targets.empty() || !looked_up_) {
      targets_ = std::move(targets);
      udp_ = std::move(udp);
    }
    looked_up_ = true;
    looked_up_ns_ = now;
  }
  std::vector<std::string> names;
  const std::lock_guard<std::mutex> lock(mu_);
  for (const auto& [target, name] : targets_) names.push_back(target);
  return names;
}

std::vector<Address> PeerNames::UdpAddresses() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return udp_;
}

std::string PeerNames::NameOf(const std::string& target) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto it = targets_.find(target);
  return it == targets_.end() ? "" : it->second;
}

}  // namespace dumpcast
