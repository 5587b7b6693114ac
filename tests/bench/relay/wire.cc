// SPDX-License-Identifier: Apache-2.0
// The other side of bench_relay.py's ingest: a dump's packets as a file, a program that sends them
// at a rate, and one that does the least that a receiver of dumps can do: takes them off the wire,
// checks their MACs, and writes what they carry with direct I/O.
//
//   wire record ADDRESS PORT FILE            until nothing has come for 2 s
//   wire send FILE GROUP PORT LOCAL MIB_S    lane i to GROUP + i; at MIB_S of UDP payload
//   wire receive GROUP PORT LOCAL LANES HOST_KEY METHOD FILE PACKETS
//                                            METHOD: recvmmsg, gro or packet; FILE may be "none"
//                                            (receive only)
//
// Addresses are IPv4; HOST_KEY is 64 hex digits. Each prints `name=value` words at its end; times
// are seconds since 1970.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ifaddrs.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "protos/wire/auth.h"

namespace {

constexpr unsigned kBatch = 64;
constexpr size_t kDatagramBytes = sizeof(dcast_hdr) + DCAST_MAX_SYMBOL_BYTES;
constexpr size_t kGroBytes = 65536;
constexpr int kSocketBytes = 64 << 20;
constexpr int kIdleMs = 2000;
// As relays do: to be woken for each packet costs more than the packet.
constexpr auto kGather = std::chrono::milliseconds(3);
constexpr size_t kChunkBytes = 4 << 20;  // of one direct write

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "wire: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

double Now() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

in_addr Address(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) {
    errno = EINVAL;
    Fail(text);
  }
  return address;
}

sockaddr_in SocketAddress(in_addr address, int port, unsigned lane = 0) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(ntohl(address.s_addr) + lane);
  return to;
}

int UdpSocket(const sockaddr_in& bound) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Fail("socket");
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBytes, sizeof(kSocketBytes)) != 0)
    Fail("SO_RCVBUFFORCE");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&bound), sizeof(bound)) != 0) Fail("bind");
  return fd;
}

void Join(int fd, in_addr group, in_addr local, unsigned lanes) {
  for (unsigned lane = 0; lane < lanes; ++lane) {
    ip_mreq request{SocketAddress(group, 0, lane).sin_addr, local};
    if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) != 0)
      Fail("IP_ADD_MEMBERSHIP");
  }
}

// ---- record and send: u32 length and so many bytes, again and again ----

int Record(const std::string& address, int port, const char* path) {
  const int fd = UdpSocket(SocketAddress(Address(address), port));
  FILE* file = std::fopen(path, "we");
  if (file == nullptr) Fail(path);
  std::puts("ready");
  std::fflush(stdout);
  std::vector<char> bytes(kDatagramBytes);
  uint64_t packets = 0;
  pollfd wait{fd, POLLIN, 0};
  while (poll(&wait, 1, packets == 0 ? 60'000 : kIdleMs) > 0) {
    const ssize_t got = recv(fd, bytes.data(), bytes.size(), 0);
    if (got < static_cast<ssize_t>(sizeof(dcast_hdr))) continue;
    dcast_hdr hdr;
    std::memcpy(&hdr, bytes.data(), sizeof(hdr));
    const auto length = static_cast<uint32_t>(got);
    if (std::fwrite(&length, sizeof(length), 1, file) != 1 ||
        std::fwrite(bytes.data(), length, 1, file) != 1)
      Fail(path);
    ++packets;
  }
  if (std::fclose(file) != 0) Fail(path);
  std::printf("packets=%llu\n", static_cast<unsigned long long>(packets));
  return 0;
}

int Send(const char* path, const std::string& group, int port, const std::string& local,
         double mib_s) {
  const int in = open(path, O_RDONLY | O_CLOEXEC);
  const off_t size = in < 0 ? 0 : lseek(in, 0, SEEK_END);
  void* mapped =
      mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, in, 0);
  if (mapped == MAP_FAILED) Fail(path);
  const auto* bytes = static_cast<const char*>(mapped);
  std::vector<std::string_view> packets;
  for (off_t at = 0; at < size;) {
    uint32_t length;
    std::memcpy(&length, bytes + at, sizeof(length));
    packets.emplace_back(bytes + at + sizeof(length), length);
    at += static_cast<off_t>(sizeof(length) + length);
  }

  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const in_addr interface = Address(local), lane0 = Address(group);
  const int buffer = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
  if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof(interface)) != 0)
    Fail("IP_MULTICAST_IF");
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts;
  std::array<sockaddr_in, kBatch> to;
  const double began = Now();
  double sent_bytes = 0;
  for (size_t at = 0; at < packets.size();) {
    // Not by spinning: the receiver needs the processors.
    if (const double ahead = sent_bytes / (mib_s * (1 << 20)) - (Now() - began); ahead > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(ahead));
    const auto count = static_cast<unsigned>(std::min<size_t>(kBatch / 2, packets.size() - at));
    for (unsigned i = 0; i < count; ++i) {
      const std::string_view packet = packets[at + i];
      parts[i] = {const_cast<char*>(packet.data()), packet.size()};
      to[i] = SocketAddress(lane0, port, static_cast<uint8_t>(packet[offsetof(dcast_hdr, lane)]));
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_name = &to[i];
      messages[i].msg_hdr.msg_namelen = sizeof(to[i]);
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int done = sendmmsg(fd, messages.data(), count, 0);
    if (done < 0) Fail("sendmmsg");
    for (int i = 0; i < done; ++i)
      sent_bytes += static_cast<double>(packets[at + static_cast<size_t>(i)].size());
    at += static_cast<size_t>(done);
  }
  std::printf("packets=%zu bytes=%.0f began=%.6f ended=%.6f\n", packets.size(), sent_bytes, began,
              Now());
  return 0;
}

// ---- receive ----

// Two buffers: one is filled while the other is written.
class DirectFile {
 public:
  explicit DirectFile(const std::string& path) {
    if (path == "none") return;
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (fd_ < 0) Fail(path);
    for (Buffer& buffer : buffers_)
      buffer.bytes = static_cast<char*>(std::aligned_alloc(4096, kChunkBytes));
    thread_ = std::thread([this] { WriteLoop(); });
  }

  void Append(std::string_view data) {
    if (fd_ < 0) return;
    while (!data.empty()) {
      Buffer& buffer = buffers_[filling_];
      const size_t take = std::min(data.size(), kChunkBytes - buffer.used);
      std::memcpy(buffer.bytes + buffer.used, data.data(), take);
      buffer.used += take;
      data.remove_prefix(take);
      if (buffer.used == kChunkBytes) Hand();
    }
  }

  // Everything is on disk when this returns.
  void Finish() {
    if (fd_ < 0) return;
    Buffer& last = buffers_[filling_];
    std::memset(last.bytes + last.used, 0, kChunkBytes - last.used);
    Hand();
    {
      std::unique_lock lock(mu_);
      ends_ = true;
      changed_.notify_all();
    }
    thread_.join();
    if (fdatasync(fd_) != 0) Fail("fdatasync");
  }

 private:
  struct Buffer {
    char* bytes = nullptr;
    size_t used = 0;
    bool full = false;
  };

  void Hand() {
    std::unique_lock lock(mu_);
    buffers_[filling_].full = true;
    changed_.notify_all();
    filling_ ^= 1;
    changed_.wait(lock, [this] { return !buffers_[filling_].full; });
    buffers_[filling_].used = 0;
  }

  void WriteLoop() {
    off_t at = 0;
    for (unsigned next = 0;; next ^= 1) {
      {
        std::unique_lock lock(mu_);
        changed_.wait(lock, [&] { return buffers_[next].full || ends_; });
        if (!buffers_[next].full) return;
      }
      if (pwrite(fd_, buffers_[next].bytes, kChunkBytes, at) != static_cast<ssize_t>(kChunkBytes))
        Fail("write");
      at += static_cast<off_t>(kChunkBytes);
      std::unique_lock lock(mu_);
      buffers_[next].full = false;
      changed_.notify_all();
    }
  }

  int fd_ = -1;
  std::array<Buffer, 2> buffers_;
  unsigned filling_ = 0;
  bool ends_ = false;
  std::mutex mu_;
  std::condition_variable changed_;
  std::thread thread_;
};

struct Seen {
  uint64_t packets = 0, bytes = 0, bad_mac = 0, drops = 0;
  double first = 0, last = 0;
};

class Taker {
 public:
  Taker(const dcast_keys& keys, DirectFile* file, Seen* seen)
      : keys_(keys), file_(file), seen_(seen) {}

  void Packet(std::string_view packet) {
    if (seen_->packets++ == 0) seen_->first = Now();
    seen_->bytes += packet.size();
    uint64_t mac;
    if (packet.size() < sizeof(dcast_hdr)) return;
    std::memcpy(&mac, packet.data(), sizeof(mac));
    if (dcast_packet_mac(&keys_, packet.data(), packet.size()) != dcast_le64(mac)) {
      ++seen_->bad_mac;
      return;
    }
    file_->Append(packet.substr(sizeof(dcast_hdr)));
  }

 private:
  const dcast_keys keys_;
  DirectFile* file_;
  Seen* seen_;
};

// False once nothing more comes.
bool Wait(int fd, const Seen& seen) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, seen.packets == 0 ? 60'000 : kIdleMs) > 0;
}

void ReceiveDatagrams(int fd, bool gro, uint64_t wanted, Taker* taker, Seen* seen) {
  const int on = 1;
  if (gro && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) != 0) Fail("UDP_GRO");
  const size_t room = gro ? kGroBytes : kDatagramBytes;
  std::vector<char> bytes(kBatch * room);
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts;
  std::array<std::array<char, 128>, kBatch> controls;
  while (seen->packets < wanted) {
    for (unsigned i = 0; i < kBatch; ++i) {
      parts[i] = {bytes.data() + i * room, room};
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_control = controls[i].data();
      messages[i].msg_hdr.msg_controllen = controls[i].size();
    }
    const int count = recvmmsg(fd, messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (count <= 0) {
      if (!Wait(fd, *seen)) return;
      std::this_thread::sleep_for(kGather);
      continue;
    }
    for (unsigned i = 0; i < static_cast<unsigned>(count); ++i) {
      std::string_view all(bytes.data() + i * room, messages[i].msg_len);
      size_t segment = all.size();
      for (cmsghdr* c = CMSG_FIRSTHDR(&messages[i].msg_hdr); c != nullptr;
           c = CMSG_NXTHDR(&messages[i].msg_hdr, c)) {
        uint32_t value;
        std::memcpy(&value, CMSG_DATA(c), sizeof(value));
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) seen->drops = value;
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) segment = value;
      }
      for (; !all.empty(); all.remove_prefix(std::min(segment, all.size())))
        taker->Packet(all.substr(0, segment));
    }
    seen->last = Now();
  }
}

// A ring of TPACKET_V3 blocks on the interface, for UDP to the port; the socket is there for the
// membership.
void ReceivePackets(const std::string& interface, int port, uint64_t wanted, Taker* taker,
                    Seen* seen) {
  const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));
  if (fd < 0) Fail("packet socket");
  // UDP, no fragment, to this port: IPv4 headers without options, as senders of dumps have them.
  std::array<sock_filter, 8> code = {
      {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 5),
       BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 3, 0),
       BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(port), 0, 1),
       BPF_STMT(BPF_RET | BPF_K, 0xffff), BPF_STMT(BPF_RET | BPF_K, 0)}};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
    Fail("SO_ATTACH_FILTER");
  const int version = TPACKET_V3;
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0)
    Fail("PACKET_VERSION");
  tpacket_req3 ring{};
  ring.tp_block_size = 1 << 20;
  ring.tp_block_nr = kSocketBytes >> 20;
  ring.tp_frame_size = 2048;
  ring.tp_frame_nr = ring.tp_block_size / ring.tp_frame_size * ring.tp_block_nr;
  ring.tp_retire_blk_tov = 5;  // ms
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) != 0) Fail("PACKET_RX_RING");
  void* mapped = mmap(nullptr, kSocketBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) Fail("mmap of the ring");
  sockaddr_ll bound{};
  bound.sll_family = AF_PACKET;
  bound.sll_protocol = htons(ETH_P_IP);
  bound.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (bind(fd, reinterpret_cast<sockaddr*>(&bound), sizeof(bound)) != 0)
    Fail("bind to " + interface);
  for (unsigned next = 0; seen->packets < wanted; next = (next + 1) % ring.tp_block_nr) {
    char* block = static_cast<char*>(mapped) + size_t{next} * ring.tp_block_size;
    auto* hdr = &reinterpret_cast<tpacket_block_desc*>(block)->hdr.bh1;
    while (!(__atomic_load_n(&hdr->block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
      if (!Wait(fd, *seen)) return;
    const char* packet = block + hdr->offset_to_first_pkt;
    for (uint32_t i = 0; i < hdr->num_pkts; ++i) {
      const auto* p = reinterpret_cast<const tpacket3_hdr*>(packet);
      taker->Packet({packet + p->tp_net + 28, p->tp_snaplen - 28});  // IPv4 and UDP headers
      packet += p->tp_next_offset;
    }
    seen->last = Now();
    __atomic_store_n(&hdr->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  }
  tpacket_stats_v3 stats{};
  socklen_t length = sizeof(stats);
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
    seen->drops = stats.tp_drops;
}

std::string InterfaceOf(in_addr local) {
  ifaddrs* list = nullptr;
  std::string name;
  if (getifaddrs(&list) != 0) Fail("getifaddrs");
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    sockaddr_in address;
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    std::memcpy(&address, i->ifa_addr, sizeof(address));
    if (address.sin_addr.s_addr == local.s_addr) name = i->ifa_name;
  }
  freeifaddrs(list);
  return name;
}

int Receive(char** argv) {
  const in_addr group = Address(argv[2]), local = Address(argv[4]);
  const int port = std::atoi(argv[3]);
  const auto lanes = static_cast<unsigned>(std::atoi(argv[5]));
  const std::string hex = argv[6], method = argv[7];
  std::array<uint8_t, DCAST_HOST_KEY_BYTES> host_key{};
  for (size_t i = 0; i < host_key.size() && hex.size() == 2 * host_key.size(); ++i)
    host_key[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  dcast_keys keys;
  dcast_keys_init(&keys, host_key.data());
  const uint64_t wanted = std::strtoull(argv[9], nullptr, 10);

  const bool ring = method == "packet";
  // With a ring the socket is only there to join; what it is sent goes to another port.
  const int fd = UdpSocket(SocketAddress({}, ring ? 0 : port));
  Join(fd, group, local, lanes);
  DirectFile file(argv[8]);
  Seen seen;
  Taker taker(keys, &file, &seen);
  std::puts("ready");
  std::fflush(stdout);
  if (ring) {
    ReceivePackets(InterfaceOf(local), port, wanted, &taker, &seen);
  } else {
    ReceiveDatagrams(fd, method == "gro", wanted, &taker, &seen);
  }
  file.Finish();
  std::printf("packets=%llu bytes=%llu bad_mac=%llu drops=%llu first=%.6f last=%.6f durable=%.6f\n",
              static_cast<unsigned long long>(seen.packets),
              static_cast<unsigned long long>(seen.bytes),
              static_cast<unsigned long long>(seen.bad_mac),
              static_cast<unsigned long long>(seen.drops), seen.first, seen.last, Now());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "record" && argc == 5) return Record(argv[2], std::atoi(argv[3]), argv[4]);
  if (what == "send" && argc == 7)
    return Send(argv[2], argv[3], std::atoi(argv[4]), argv[5], std::atof(argv[6]));
  if (what == "receive" && argc == 10) return Receive(argv);
  std::fprintf(
      stderr, "usage: wire record|send|receive ...; the source's first lines have the arguments\n");
  return 2;
}
