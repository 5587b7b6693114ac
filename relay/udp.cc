// SPDX-License-Identifier: Apache-2.0
#include "relay/udp.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {
namespace {

constexpr unsigned kBatch = 32;
// Taken at a time: as much as a processor's cache holds until it is verified and copied.
constexpr size_t kBatchBytes = 512 << 10;
// Of one message, which may be several datagrams that the kernel has joined (UDP_GRO).
constexpr size_t kMessageBytes = 65536;
// Headers and the largest symbol; anything longer is refused as truncated.
constexpr size_t kDatagramBytes = sizeof(dcast_hdr) + DCAST_MAX_SYMBOL_BYTES;
constexpr size_t kControlBytes = 128;
// To be woken for each packet costs more than the packet, here and in whoever sends it. At 25
// Gbit/s, what comes within the longer time takes a third of the large buffer.
constexpr auto kGather = std::chrono::milliseconds(3);
constexpr auto kGatherLittle = std::chrono::milliseconds(1);
constexpr uint64_t kLargeBufferBytes = 32 << 20;

std::string ErrnoText() {
  return std::strerror(errno);
}

void SetOption(int fd, int level, int name, int value) {
  // Each of these makes things better, none is needed.
  (void)setsockopt(fd, level, name, &value, sizeof(value));
}

// The group of a lane: the address of lane 0 plus the lane.
in_addr Group4(const std::string& lane0, int lane) {
  in_addr group{};
  inet_pton(AF_INET, lane0.c_str(), &group);
  group.s_addr = htonl(ntohl(group.s_addr) + static_cast<uint32_t>(lane));
  return group;
}
in6_addr Group6(const std::string& lane0, int lane) {
  in6_addr group{};
  inet_pton(AF_INET6, lane0.c_str(), &group);
  uint32_t low;
  std::memcpy(&low, group.s6_addr + 12, sizeof(low));
  low = htonl(ntohl(low) + static_cast<uint32_t>(lane));
  std::memcpy(group.s6_addr + 12, &low, sizeof(low));
  return group;
}

int FamilyOf(const Address& address) {
  sa_family_t family;
  std::memcpy(&family, address.bytes.data() + offsetof(sockaddr_in, sin_family), sizeof(family));
  return family;
}
socklen_t LengthOf(int family) {
  return family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

// Interfaces that are up, and can multicast or are the loopback.
std::map<std::string, unsigned> Interfaces() {
  std::map<std::string, unsigned> found;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return found;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next)
    if ((i->ifa_flags & IFF_UP) != 0 && (i->ifa_flags & (IFF_MULTICAST | IFF_LOOPBACK)) != 0)
      found[i->ifa_name] = if_nametoindex(i->ifa_name);
  freeifaddrs(list);
  return found;
}

}  // namespace

struct Udp::Batch {
  unsigned wanted = kBatch;  // messages of the next call
  std::array<mmsghdr, kBatch> messages;
  std::array<iovec, kBatch> iovecs;
  std::array<sockaddr_in6, kBatch> names;
  std::array<std::array<char, kControlBytes>, kBatch> controls;
  // Not touched before there is something to put there.
  std::unique_ptr<char[]> bytes{new char[kBatch * kMessageBytes]};
  std::vector<Datagram> datagrams;
};

absl::StatusOr<Udp::Socket> Udp::OpenSocket(int family, int lane) {
  Socket socket{-1, family, lane, 0};
  socket.fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket.fd < 0)
    return absl::FailedPreconditionError(absl::StrCat("cannot open a UDP socket: ", ErrnoText()));
  const int bytes = static_cast<int>(std::min<uint64_t>(options_.buffer_bytes, 1u << 30));
  if (setsockopt(socket.fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
    SetOption(socket.fd, SOL_SOCKET, SO_RCVBUF, bytes);
  SetOption(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
  SetOption(socket.fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
  SetOption(socket.fd, SOL_UDP, UDP_GRO, 1);

  sockaddr_in6 storage{};
  char text[INET6_ADDRSTRLEN] = "";
  if (family == AF_INET) {
    // Only what this socket has joined itself, not what any socket of the machine has.
    SetOption(socket.fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    SetOption(socket.fd, IPPROTO_IP, IP_PKTINFO, 1);
    auto* address = reinterpret_cast<sockaddr_in*>(&storage);
    address->sin_family = AF_INET;
    address->sin_port = htons(options_.port);
    if (lane >= 0) address->sin_addr = Group4(options_.group, lane);
    inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
  } else {
    SetOption(socket.fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    SetOption(socket.fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    storage.sin6_family = AF_INET6;
    storage.sin6_port = htons(options_.port);
    if (lane >= 0) storage.sin6_addr = Group6(options_.group6, lane);
    inet_ntop(AF_INET6, &storage.sin6_addr, text, sizeof(text));
  }
  if (bind(socket.fd, reinterpret_cast<sockaddr*>(&storage), LengthOf(family)) != 0) {
    const absl::Status status = absl::FailedPreconditionError(
        absl::StrCat("cannot bind UDP ", text, " port ", options_.port, ": ", ErrnoText()));
    close(socket.fd);
    return status;
  }
  int got = 0;
  socklen_t length = sizeof(got);
  getsockopt(socket.fd, SOL_SOCKET, SO_RCVBUF, &got, &length);
  if (buffer_bytes_ == 0) buffer_bytes_ = static_cast<uint64_t>(got);
  return socket;
}

absl::StatusOr<std::unique_ptr<Udp>> Udp::Open(const UdpOptions& options) {
  std::unique_ptr<Udp> udp(new Udp);
  udp->options_ = options;
  udp->stop_fd_ = eventfd(0, EFD_CLOEXEC);
  const bool v4 = options.group != "none";
  const bool v6 = options.group6 != "none";
  for (uint32_t lane = 0; lane < 64; ++lane) {
    if ((options.lanes >> lane & 1) == 0) continue;
    std::vector<Socket> sockets;
    for (const int family : {AF_INET, AF_INET6}) {
      if (!(family == AF_INET ? v4 : v6)) continue;
      auto socket = udp->OpenSocket(family, static_cast<int>(lane));
      if (socket.ok()) {
        sockets.push_back(*socket);
      } else if (family == AF_INET) {
        return socket.status();  // machines without IPv6 are common, without IPv4 they are not
      }
    }
    if (!sockets.empty()) udp->receivers_.push_back(std::move(sockets));
  }
  std::vector<Socket> unicast;
  for (const int family : {AF_INET, AF_INET6}) {
    auto socket = udp->OpenSocket(family, -1);
    if (socket.ok()) {
      (family == AF_INET ? udp->send4_ : udp->send6_) = socket->fd;
      unicast.push_back(*socket);
    } else if (family == AF_INET) {
      return socket.status();
    }
  }
  udp->receivers_.push_back(std::move(unicast));

  const auto there = Interfaces();
  for (const std::string& name : options.interfaces) {
    if (there.contains(name)) continue;
    std::vector<std::string> names;
    names.reserve(there.size());
    for (const auto& [other, index] : there) names.push_back(other);
    return absl::FailedPreconditionError(
        absl::StrCat("--interface ", name,
                     ": not there, or not up; those that are: ", absl::StrJoin(names, ", ")));
  }
  udp->JoinInterfaces();
  return udp;
}

Udp::~Udp() {
  for (const auto& sockets : receivers_)
    for (const Socket& socket : sockets) close(socket.fd);
  if (stop_fd_ >= 0) close(stop_fd_);
}

bool Udp::Join(const Socket& socket, unsigned ifindex) {
  if (socket.family == AF_INET) {
    ip_mreqn request{};
    request.imr_multiaddr = Group4(options_.group, socket.lane);
    request.imr_ifindex = static_cast<int>(ifindex);
    return setsockopt(socket.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) == 0;
  }
  ipv6_mreq request{};
  request.ipv6mr_multiaddr = Group6(options_.group6, socket.lane);
  request.ipv6mr_interface = ifindex;
  return setsockopt(socket.fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof(request)) == 0;
}

std::vector<std::string> Udp::JoinInterfaces() {
  std::vector<std::string> fresh;
  const std::lock_guard<std::mutex> lock(joined_mu_);
  const auto there = Interfaces();
  // One that went away and came back has a new index, or lost its memberships with the old.
  std::erase_if(joined_, [&there](unsigned index) {
    return std::none_of(there.begin(), there.end(),
                        [index](const auto& i) { return i.second == index; });
  });
  for (const auto& [name, index] : there) {
    if (joined_.contains(index)) continue;
    if (!options_.interfaces.empty() &&
        std::find(options_.interfaces.begin(), options_.interfaces.end(), name) ==
            options_.interfaces.end())
      continue;
    bool any = false;
    for (const auto& sockets : receivers_)
      for (const Socket& socket : sockets)
        if (socket.lane >= 0) any = Join(socket, index) || any;
    if (!any) continue;
    joined_.insert(index);
    fresh.push_back(name);
  }
  return fresh;
}

bool Udp::joined() const {
  const std::lock_guard<std::mutex> lock(joined_mu_);
  return !joined_.empty() || receivers_.size() == 1;
}

void Udp::Run(size_t receiver, const OnBatch& on_batch) {
  std::vector<Socket>& sockets = receivers_[receiver];
  const auto batch = std::make_unique<Batch>();
  std::vector<pollfd> polls;
  polls.reserve(sockets.size() + 1);
  for (const Socket& socket : sockets) polls.push_back({socket.fd, POLLIN, 0});
  polls.push_back({stop_fd_, POLLIN, 0});
  while (true) {
    if (poll(polls.data(), polls.size(), -1) < 0 && errno != EINTR) return;
    if (polls.back().revents != 0) return;
    for (size_t i = 0; i < sockets.size(); ++i)
      while (polls[i].revents != 0 && ReceiveOne(sockets[i], *batch, on_batch)) {
      }
    std::this_thread::sleep_for(buffer_bytes_ >= kLargeBufferBytes ? kGather : kGatherLittle);
  }
}

bool Udp::ReceiveOne(Socket& socket, Batch& batch, const OnBatch& on_batch) {
  for (unsigned i = 0; i < batch.wanted; ++i) {
    batch.iovecs[i] = {batch.bytes.get() + i * kMessageBytes, kMessageBytes};
    msghdr& header = batch.messages[i].msg_hdr;
    header = {};
    header.msg_name = &batch.names[i];
    header.msg_namelen = sizeof(batch.names[i]);
    header.msg_iov = &batch.iovecs[i];
    header.msg_iovlen = 1;
    header.msg_control = batch.controls[i].data();
    header.msg_controllen = kControlBytes;
  }
  const unsigned wanted = batch.wanted;
  const int count = recvmmsg(socket.fd, batch.messages.data(), wanted, MSG_DONTWAIT, nullptr);
  if (count <= 0) return false;
  size_t bytes = 1;
  for (int i = 0; i < count; ++i) bytes += batch.messages[i].msg_len;
  batch.wanted = static_cast<unsigned>(
      std::clamp<size_t>(kBatchBytes * static_cast<unsigned>(count) / bytes, 1, kBatch));
  batch.datagrams.clear();
  for (int i = 0; i < count; ++i) {
    msghdr& header = batch.messages[i].msg_hdr;
    Datagram datagram;
    std::memcpy(datagram.from.bytes.data(), &batch.names[i], LengthOf(socket.family));
    std::string_view message(batch.bytes.get() + static_cast<size_t>(i) * kMessageBytes,
                             batch.messages[i].msg_len);
    size_t segment = message.size();
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
        in_pktinfo info;
        std::memcpy(&info, CMSG_DATA(c), sizeof(info));
        datagram.from.ifindex = static_cast<uint32_t>(info.ipi_ifindex);
      } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
        in6_pktinfo info;
        std::memcpy(&info, CMSG_DATA(c), sizeof(info));
        datagram.from.ifindex = info.ipi6_ifindex;
      } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
        uint32_t dropped;
        std::memcpy(&dropped, CMSG_DATA(c), sizeof(dropped));
        drops_ += dropped - std::exchange(socket.dropped, dropped);  // mod 2^32, as it counts
      } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
        int bytes;
        std::memcpy(&bytes, CMSG_DATA(c), sizeof(bytes));
        if (bytes > 0) segment = static_cast<size_t>(bytes);
      }
    }
    do {
      datagram.payload = message.substr(0, segment);
      datagram.truncated = datagram.payload.size() > kDatagramBytes;
      batch.datagrams.push_back(datagram);
      message.remove_prefix(datagram.payload.size());
    } while (!message.empty());
  }
  on_batch(batch.datagrams);
  return static_cast<unsigned>(count) == wanted;
}

void Udp::Stop() {
  const uint64_t one = 1;
  (void)!write(stop_fd_, &one, sizeof(one));
}

bool Udp::SendOne(const Reply& reply, bool with_interface) {
  const int family = FamilyOf(reply.to);
  const int fd = family == AF_INET ? send4_ : send6_;
  iovec iov{const_cast<char*>(reply.payload.data()), reply.payload.size()};
  sockaddr_in6 name{};
  std::memcpy(&name, reply.to.bytes.data(), sizeof(name));
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = LengthOf(family);
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (with_interface) {
    // Back the way it came: with two networks of one subnet the routing table knows one only.
    message.msg_control = control.data();
    auto* c = reinterpret_cast<cmsghdr*>(control.data());
    if (family == AF_INET) {
      in_pktinfo info{};
      info.ipi_ifindex = static_cast<int>(reply.to.ifindex);
      message.msg_controllen = CMSG_SPACE(sizeof(info));
      c->cmsg_level = IPPROTO_IP;
      c->cmsg_type = IP_PKTINFO;
      c->cmsg_len = CMSG_LEN(sizeof(info));
      std::memcpy(CMSG_DATA(c), &info, sizeof(info));
    } else {
      in6_pktinfo info{};
      info.ipi6_ifindex = reply.to.ifindex;
      message.msg_controllen = CMSG_SPACE(sizeof(info));
      c->cmsg_level = IPPROTO_IPV6;
      c->cmsg_type = IPV6_PKTINFO;
      c->cmsg_len = CMSG_LEN(sizeof(info));
      std::memcpy(CMSG_DATA(c), &info, sizeof(info));
    }
  }
  return fd >= 0 && sendmsg(fd, &message, MSG_DONTWAIT) >= 0;
}

void Udp::Send(const std::vector<Reply>& replies) {
  for (const Reply& reply : replies) {
    if (reply.to.ifindex != 0 && SendOne(reply, true)) continue;
    if (!SendOne(reply, false)) ++send_errors_;
  }
}

std::vector<Address> ResolveUdp(const std::string& host, uint16_t port) {
  std::vector<Address> addresses;
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) return addresses;
  for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
    if (i->ai_addrlen > sizeof(Address::bytes)) continue;
    Address address;
    std::memcpy(address.bytes.data(), i->ai_addr, i->ai_addrlen);
    addresses.push_back(address);
  }
  freeaddrinfo(list);
  return addresses;
}

}  // namespace dumpcast
