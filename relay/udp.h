// SPDX-License-Identifier: Apache-2.0
// The sockets: one for each lane and family, bound to the lane's group, and one unicast socket for
// each family, which also sends the replies.
#ifndef DUMPCAST_RELAY_UDP_H_
#define DUMPCAST_RELAY_UDP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "relay/packets.h"

namespace dumpcast {

struct UdpOptions {
  std::string group;   // IPv4, or "none"
  std::string group6;  // IPv6, or "none"
  uint16_t port = 0;
  uint64_t lanes = 1;                   // mask
  std::vector<std::string> interfaces;  // empty: every one that can multicast
  uint64_t buffer_bytes = 0;
};

// Thread safety: Run() once for each receiver, each in a thread of its own; the rest from any.
class Udp {
 public:
  // FAILED_PRECONDITION names the address or interface that cannot be used.
  static absl::StatusOr<std::unique_ptr<Udp>> Open(const UdpOptions& options);
  ~Udp();

  // One for each lane, and one for unicast.
  size_t receivers() const { return receivers_.size(); }

  // Reads batches until Stop(). The datagrams are valid during the call only; never empty.
  using OnBatch = std::function<void(const std::vector<Datagram>&)>;
  void Run(size_t receiver, const OnBatch& on_batch);
  void Stop();

  void Send(const std::vector<Reply>& replies);

  // Joins the groups on interfaces that came up since. Returns the names newly joined.
  std::vector<std::string> JoinInterfaces();
  // Whether any interface has joined; true when there are no groups to join.
  bool joined() const;
  // Datagrams that the kernel has dropped since the last call, all sockets.
  uint64_t TakeDrops() { return drops_.exchange(0); }
  // Replies that could not be sent.
  uint64_t send_errors() const { return send_errors_; }
  // The receive buffer that the kernel gave the first socket, bytes.
  uint64_t buffer_bytes() const { return buffer_bytes_; }

 private:
  struct Socket {
    int fd = -1;
    int family = 0;
    int lane = -1;  // -1: unicast
    uint32_t dropped = 0;
  };
  struct Batch;
  Udp() = default;
  absl::StatusOr<Socket> OpenSocket(int family, int lane);
  bool Join(const Socket& socket, unsigned ifindex);
  // Whether there may be more at once.
  bool ReceiveOne(Socket& socket, Batch& batch, const OnBatch& on_batch);
  bool SendOne(const Reply& reply, bool with_interface);

  UdpOptions options_;
  std::vector<std::vector<Socket>> receivers_;
  int send4_ = -1, send6_ = -1;
  int stop_fd_ = -1;
  mutable std::mutex joined_mu_;
  std::set<unsigned> joined_;
  std::atomic<uint64_t> drops_{0};
  std::atomic<uint64_t> send_errors_{0};
  uint64_t buffer_bytes_ = 0;
};

// UDP addresses of a host name or address, port in host order. Empty when it has none now.
std::vector<Address> ResolveUdp(const std::string& host, uint16_t port);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_UDP_H_
