// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/udp_path.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "protos/keys/siphash.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {
namespace {

// The kernel takes twice that. Less than what interfaces queue, which would drop what is over.
constexpr int kSendBufferBytes = 1 << 20;
constexpr int kReceiveBufferBytes = 4 << 20;
// Of one message that the kernel cuts into packets (udp(7), UDP_SEGMENT): what fits a datagram.
constexpr size_t kMaxSegments = 64;
constexpr size_t kMaxMessageBytes = 65000;

absl::Status Errno(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// What a kernel without UDP_SEGMENT says, or one whose interface has no checksums or a smaller MTU.
bool CannotCut(int error) {
  return error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP;
}

const sockaddr_in& V4(const sockaddr_storage& a) {
  return reinterpret_cast<const sockaddr_in&>(a);
}
const sockaddr_in6& V6(const sockaddr_storage& a) {
  return reinterpret_cast<const sockaddr_in6&>(a);
}

}  // namespace

bool Endpoint::is_multicast() const {
  return is_v6() ? IN6_IS_ADDR_MULTICAST(&V6(addr).sin6_addr)
                 : IN_MULTICAST(ntohl(V4(addr).sin_addr.s_addr));
}

Endpoint Endpoint::ForLane(unsigned lane) const {
  Endpoint e = *this;
  if (!is_multicast()) return e;
  if (is_v6()) {
    auto* last = reinterpret_cast<sockaddr_in6&>(e.addr).sin6_addr.s6_addr + 12;
    uint32_t v;
    std::memcpy(&v, last, 4);
    v = htonl(ntohl(v) + lane);
    std::memcpy(last, &v, 4);
  } else {
    auto& v4 = reinterpret_cast<sockaddr_in&>(e.addr).sin_addr.s_addr;
    v4 = htonl(ntohl(v4) + lane);
  }
  return e;
}

std::string Endpoint::ToString() const {
  char text[INET6_ADDRSTRLEN];
  if (is_v6()) {
    inet_ntop(AF_INET6, &V6(addr).sin6_addr, text, sizeof(text));
    return absl::StrFormat("[%s]:%d", text, ntohs(V6(addr).sin6_port));
  }
  inet_ntop(AF_INET, &V4(addr).sin_addr, text, sizeof(text));
  return absl::StrFormat("%s:%d", text, ntohs(V4(addr).sin_port));
}

absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text, uint16_t default_port) {
  std::string host = text;
  uint32_t port = default_port;
  const auto bad = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text, "`: ", what, "; write address, address:port or [v6 address]:port"));
  };
  std::string port_text;
  if (!host.empty() && host[0] == '[') {
    const size_t close = host.find(']');
    if (close == std::string::npos) return bad("`]` is missing");
    if (close + 1 < host.size()) {
      if (host[close + 1] != ':') return bad("something other than `:port` after `]`");
      port_text = host.substr(close + 2);
      if (port_text.empty()) return bad("no port after `:`");
    }
    host = host.substr(1, close - 1);
  } else if (std::count(host.begin(), host.end(), ':') == 1) {
    port_text = host.substr(host.find(':') + 1);
    host.resize(host.find(':'));
    if (port_text.empty()) return bad("no port after `:`");
  }
  if (!port_text.empty() && (!absl::SimpleAtoi(port_text, &port) || port < 1 || port > 65535)) {
    return bad("the port is not a number of 1..65535");
  }
  if (host.empty()) return bad("no address");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) return bad(gai_strerror(error));
  const absl::Cleanup freer = [list] { freeaddrinfo(list); };
  Endpoint e;
  std::memcpy(&e.addr, list->ai_addr, list->ai_addrlen);
  if (e.is_v6()) {
    reinterpret_cast<sockaddr_in6&>(e.addr).sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in&>(e.addr).sin_port = htons(static_cast<uint16_t>(port));
  }
  return e;
}

UdpPath::UdpPath(UdpPathOptions options) : options_(std::move(options)), rng_(options_.drop_seed) {
  options_.packet_bytes = (options_.packet_bytes + 63) & ~size_t{63};
  buffers_.resize(options_.packet_bytes * kBatch);
  for (unsigned lane = 0; lane < DCAST_MAX_LANES; ++lane) {
    by_lane_.emplace_back();
    for (const Endpoint& e : options_.destinations) by_lane_[lane].push_back(e.ForLane(lane));
  }
}

UdpPath::~UdpPath() {
  for (const int fd : fds_) {
    if (fd >= 0) close(fd);
  }
}

absl::StatusOr<std::unique_ptr<UdpPath>> UdpPath::Open(UdpPathOptions options) {
  std::unique_ptr<UdpPath> path(new UdpPath(std::move(options)));
  path->fds_.assign(2, -1);
  for (const Endpoint& e : path->options_.destinations) {
    int& fd = path->fds_[e.is_v6()];
    if (fd >= 0) continue;
    const auto opened = path->OpenSocket(e.is_v6() ? AF_INET6 : AF_INET);
    if (!opened.ok()) return opened.status();
    fd = *opened;
  }
  return path;
}

absl::StatusOr<int> UdpPath::OpenSocket(int family) {
  const int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Errno("cannot open a UDP socket");
  absl::Cleanup closer = [fd] { close(fd); };
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof(int));
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof(int));
  const int on = 1;
  sockaddr_storage local = {};
  local.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    reinterpret_cast<sockaddr_in6&>(local).sin6_port = htons(options_.source_port);
  } else {
    reinterpret_cast<sockaddr_in&>(local).sin_port = htons(options_.source_port);
  }
  if (!options_.interface.empty()) {
    const int index = static_cast<int>(if_nametoindex(options_.interface.c_str()));
    if (index == 0) {
      return absl::InvalidArgumentError(absl::StrCat("no interface ", options_.interface,
                                                     " here; `ip link` lists those that exist"));
    }
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options_.interface.c_str(),
                   static_cast<socklen_t>(options_.interface.size())) != 0) {
      return Errno(absl::StrCat("cannot bind to interface ", options_.interface));
    }
    const ip_mreqn v4 = {{}, {}, index};
    const int failed = family == AF_INET6
                           ? setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index))
                           : setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &v4, sizeof(v4));
    if (failed) return Errno(absl::StrCat("cannot multicast on ", options_.interface));
  }
  if (family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &options_.ttl, sizeof(int));
  } else {
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &options_.ttl, sizeof(int));
  }
  if (bind(fd, reinterpret_cast<sockaddr*>(&local),
           family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)) != 0) {
    return Errno(absl::StrCat("cannot bind to UDP port ", options_.source_port));
  }
  std::move(closer).Cancel();
  return fd;
}

uint8_t* UdpPath::Get() {
  if (queue_.size() == kBatch) Flush();
  if (queue_.size() == kBatch) return nullptr;
  return &buffers_[queue_.size() * options_.packet_bytes];
}

void UdpPath::Put(uint32_t len, unsigned lane) {
  const bool drop =
      options_.drop > 0 && std::uniform_real_distribution<>(0, 1)(rng_) < options_.drop;
  if (!drop) queue_.push_back({len, lane, queue_.size(), keys_ == nullptr});
}

size_t UdpPath::RunLength(size_t first) const {
  if (!segments_) return 1;
  const Queued& head = queue_[first];
  size_t count = 0, bytes = 0;
  for (size_t i = first; i < queue_.size() && count < kMaxSegments; ++i, ++count) {
    if (queue_[i].lane != head.lane || queue_[i].len > head.len) break;
    bytes += queue_[i].len;
    if (bytes > kMaxMessageBytes) break;
    if (queue_[i].len < head.len) return count + 1;
  }
  return std::max<size_t>(count, 1);
}

void UdpPath::FillMacs() {
  for (size_t first = 0; first < queue_.size(); ++first) {
    if (queue_[first].has_mac) continue;
    std::array<const char*, kBatch> packets;
    std::array<uint64_t, kBatch> macs;
    size_t count = 0;
    for (size_t i = first; i < queue_.size(); ++i) {
      if (queue_[i].has_mac || queue_[i].len != queue_[first].len) continue;
      packets[count++] =
          reinterpret_cast<const char*>(&buffers_[queue_[i].buffer * options_.packet_bytes]);
      queue_[i].has_mac = true;
    }
    PacketMacs(*keys_, {packets.data(), count}, queue_[first].len, macs.data());
    for (size_t i = 0; i < count; ++i) {
      const __le64 mac = dcast_to_le64(macs[i]);
      std::memcpy(const_cast<char*>(packets[i]) + offsetof(dcast_hdr, mac), &mac, sizeof(mac));
    }
  }
}

void UdpPath::Flush() {
  mmsghdr messages[kBatch];
  iovec parts[kBatch];
  struct alignas(cmsghdr) Control {
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
  } controls[kBatch] = {};
  // Packets of one lane can leave as one message.
  if (next_destination_ == 0)
    std::stable_sort(queue_.begin() + static_cast<ptrdiff_t>(next_packet_), queue_.end(),
                     [](const Queued& a, const Queued& b) { return a.lane < b.lane; });
  for (size_t i = 0; i < queue_.size(); ++i)
    parts[i] = {&buffers_[queue_[i].buffer * options_.packet_bytes], queue_[i].len};
  FillMacs();
  blocked_ = false;
  while (next_packet_ < queue_.size()) {
    // Messages for one socket.
    unsigned count = 0;
    int fd = -1;
    size_t packet = next_packet_, destination = next_destination_, run = run_;
    while (count < kBatch && packet < queue_.size()) {
      auto& to = by_lane_[queue_[packet].lane];
      const int this_fd = fds_[to[destination].is_v6()];
      if (fd >= 0 && this_fd != fd) break;
      fd = this_fd;
      msghdr& message = messages[count].msg_hdr;
      message = {};
      message.msg_name = &to[destination].addr;
      message.msg_namelen = to[destination].length();
      message.msg_iov = &parts[packet];
      if (destination == 0) run = RunLength(packet);
      message.msg_iovlen = run;
      if (message.msg_iovlen > 1) {
        const auto length = static_cast<uint16_t>(queue_[packet].len);
        message.msg_control = controls[count].bytes;
        message.msg_controllen = sizeof(controls[count].bytes);
        cmsghdr* c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(length));
        std::memcpy(CMSG_DATA(c), &length, sizeof(length));
      }
      ++count;
      if (++destination == to.size()) {
        destination = 0;
        packet += run;
      }
    }
    int done = sendmmsg(fd, messages, count, 0);
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) {
      blocked_ = true;
      break;
    }
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && messages[0].msg_hdr.msg_iovlen > 1 && CannotCut(errno)) {
      segments_ = false;
      run_ = 1;
      continue;
    }
    if (done < 0) {  // these packets are lost, as packets may be
      errors_ += messages[0].msg_hdr.msg_iovlen;
      last_error_ = std::strerror(errno);
      done = 1;
    }
    for (int i = 0; i < done; ++i) {
      run_ = messages[i].msg_hdr.msg_iovlen;
      if (++next_destination_ == options_.destinations.size()) {
        next_destination_ = 0;
        next_packet_ += run_;
      }
    }
  }
  if (next_packet_ == queue_.size()) {
    queue_.clear();
    next_packet_ = 0;
  }
}

bool UdpPath::Up() const {
  if (options_.interface.empty()) return true;
  ifreq request = {};
  std::strncpy(request.ifr_name, options_.interface.c_str(), IFNAMSIZ - 1);
  const int fd = fds_[0] >= 0 ? fds_[0] : fds_[1];
  return ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING) != 0;
}

void UdpPath::Receive(const std::function<void(const uint8_t*, uint32_t)>& take) {
  uint8_t packet[65536];
  for (const int fd : fds_) {
    if (fd < 0) continue;
    for (;;) {
      const ssize_t got = recv(fd, packet, sizeof(packet), 0);
      if (got < 0 && (errno == EINTR || errno == ECONNREFUSED)) continue;
      if (got < 0) break;
      take(packet, static_cast<uint32_t>(got));
    }
  }
}

}  // namespace dumpcast
