// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// One path of a user-space sender: packets in batches to a multicast group or to a list of
// relays, and what comes back.
#ifndef DUMPCAST_KMOD_CORE_SEND_UDP_PATH_H_
#define DUMPCAST_KMOD_CORE_SEND_UDP_PATH_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "protos/wire/auth.h"

namespace dumpcast {

struct Endpoint {
  sockaddr_storage addr = {};
  bool is_v6() const { return addr.ss_family == AF_INET6; }
  bool is_multicast() const;
  // The same endpoint for a lane: group address + lane; unicast addresses stay.
  Endpoint ForLane(unsigned lane) const;
  std::string ToString() const;
  socklen_t length() const { return is_v6() ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }
};

// `text` is address, name, address:port or [v6]:port. Errors: kInvalidArgument with the fix.
[[nodiscard]] absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text,
                                                     uint16_t default_port);

struct UdpPathOptions {
  std::string interface;               // "": the routing table chooses
  std::vector<Endpoint> destinations;  // groups and relays; every packet goes to each
  uint16_t source_port = 0;            // 0: any free one
  int ttl = 4;
  double drop = 0;  // 0..1 of what is sent is dropped instead
  uint64_t drop_seed = 0;
  size_t packet_bytes = 0;  // largest packet
};

// Not thread-safe. Owns its sockets.
class UdpPath {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<UdpPath>> Open(UdpPathOptions options);
  ~UdpPath();
  UdpPath(const UdpPath&) = delete;
  UdpPath& operator=(const UdpPath&) = delete;

  // Flush() writes the MACs of the packets under these keys, which must outlive this.
  void WriteMacs(const dcast_keys* keys) { keys_ = keys; }
  // A buffer of packet_bytes, or nullptr when the sockets take nothing now.
  uint8_t* Get();
  // Queues the buffer that Get() returned last.
  void Put(uint32_t len, unsigned lane);
  // Hands what is queued to the kernel.
  void Flush();
  // Carrier, as the kernel reports it for the interface; true without an interface.
  bool Up() const;
  // Calls `take` for every packet that has come in.
  void Receive(const std::function<void(const uint8_t*, uint32_t)>& take);
  const std::vector<int>& fds() const { return fds_; }
  bool blocked() const { return blocked_; }
  // Packets that the kernel refused for other reasons than a full buffer.
  uint64_t errors() const { return errors_; }
  const std::string& last_error() const { return last_error_; }

 private:
  static constexpr unsigned kBatch = 64;
  explicit UdpPath(UdpPathOptions options);
  [[nodiscard]] absl::StatusOr<int> OpenSocket(int family);
  // How many queued packets from `first` on can leave as one message: of one lane and length, but
  // that the last may be shorter.
  size_t RunLength(size_t first) const;
  // Writes the MACs that are not there yet, those of one length side by side.
  void FillMacs();

  UdpPathOptions options_;
  const dcast_keys* keys_ = nullptr;
  std::vector<int> fds_;                        // one per address family
  std::vector<std::vector<Endpoint>> by_lane_;  // [lane][destination]
  std::vector<uint8_t> buffers_;
  struct Queued {
    uint32_t len;
    unsigned lane;
    size_t buffer;
    bool has_mac;
  };
  std::vector<Queued> queue_;
  size_t next_packet_ = 0;  // of queue_, and of the destinations of that packet
  size_t next_destination_ = 0;
  size_t run_ = 0;  // packets that left together for the destinations before that one
  bool blocked_ = false;
  bool segments_ = true;  // the kernel cuts messages into packets
  uint64_t errors_ = 0;
  std::string last_error_;
  std::mt19937_64 rng_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_UDP_PATH_H_
