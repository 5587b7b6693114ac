// SPDX-License-Identifier: Apache-2.0
// Real sockets on loopback.
#include "kmod/core/send/udp_path.h"

#include <arpa/inet.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

// A UDP socket on 127.0.0.1.
class Receiver {
 public:
  Receiver() : fd_(socket(AF_INET, SOCK_DGRAM, 0)) {
    addr_.sin_family = AF_INET;
    addr_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&addr_), sizeof(addr_)), 0);
    socklen_t len = sizeof(addr_);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&addr_), &len);
  }
  ~Receiver() { close(fd_); }
  Endpoint endpoint() const {
    Endpoint e;
    std::memcpy(&e.addr, &addr_, sizeof(addr_));
    return e;
  }
  // The next datagram, "" when none comes for two seconds.
  std::string Next() {
    pollfd p = {fd_, POLLIN, 0};
    if (poll(&p, 1, 2000) != 1) return "";
    char buffer[2048];
    socklen_t len = sizeof(from_);
    const ssize_t got =
        recvfrom(fd_, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&from_), &len);
    return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : "";
  }
  void Answer(const std::string& text) {
    sendto(fd_, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from_), sizeof(from_));
  }

 private:
  int fd_;
  sockaddr_in addr_ = {};
  sockaddr_in from_ = {};
};

TEST(UdpPath, EveryPacketGoesToEveryDestinationAndAnswersComeBack) {
  Receiver a, b;
  UdpPathOptions options;
  options.destinations = {a.endpoint(), b.endpoint()};
  options.packet_bytes = 100;
  options.interface = "lo";
  auto path = UdpPath::Open(options);
  ASSERT_TRUE(path.ok()) << path.status();
  for (int i = 0; i < 100; ++i) {  // more than a batch
    uint8_t* buffer = (*path)->Get();
    ASSERT_NE(buffer, nullptr);
    std::memset(buffer, 'a' + i % 26, 10);
    (*path)->Put(10, 0);
  }
  (*path)->Flush();
  EXPECT_EQ((*path)->errors(), 0u);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(a.Next(), std::string(10, static_cast<char>('a' + i % 26)));
    EXPECT_EQ(b.Next(), std::string(10, static_cast<char>('a' + i % 26)));
  }
  b.Answer("reply");
  pollfd p = {(*path)->fds()[0], POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, 2000), 1);
  std::string got;
  (*path)->Receive([&](const uint8_t* packet, uint32_t len) {
    got.assign(reinterpret_cast<const char*>(packet), len);
  });
  EXPECT_EQ(got, "reply");
  EXPECT_TRUE((*path)->Up());
}

// Packets of one length leave as one message that the kernel cuts; each arrives as it was queued.
TEST(UdpPath, LengthsAndLanesMayChangeFromPacketToPacket) {
  Receiver a, b;
  UdpPathOptions options;
  options.destinations = {a.endpoint(), b.endpoint()};
  options.packet_bytes = 1500;
  auto path = UdpPath::Open(options);
  ASSERT_TRUE(path.ok()) << path.status();
  std::vector<std::string> sent;
  for (size_t i = 0; i < 60; ++i) {
    const size_t length = i % 10 == 9 ? 100 + i : i == 35 ? 1000 : i >= 50 ? 1400 : 200;
    sent.emplace_back(length, static_cast<char>('0' + i));
    std::memcpy((*path)->Get(), sent.back().data(), length);
    (*path)->Put(static_cast<uint32_t>(length), i / 25);
  }
  (*path)->Flush();
  EXPECT_EQ((*path)->errors(), 0u);
  for (const std::string& packet : sent) {
    EXPECT_EQ(a.Next(), packet);
    EXPECT_EQ(b.Next(), packet);
  }
}

TEST(UdpPath, MacsAreWrittenOfWhatIsQueued) {
  Receiver a;
  UdpPathOptions options;
  options.destinations = {a.endpoint()};
  options.packet_bytes = 1500;
  auto path = UdpPath::Open(options);
  ASSERT_TRUE(path.ok()) << path.status();
  dcast_keys keys{};
  keys.mac = {1, 2};
  (*path)->WriteMacs(&keys);
  for (size_t i = 0; i < 150; ++i) {  // more than two batches
    const size_t length = sizeof(dcast_hdr) + (i % 10 == 9 ? 3 * i : 200);
    uint8_t* buffer = (*path)->Get();
    ASSERT_NE(buffer, nullptr);
    std::memset(buffer, static_cast<int>(i), length);
    (*path)->Put(static_cast<uint32_t>(length), i % 3);
    if (i == 70) (*path)->Flush();
  }
  (*path)->Flush();
  std::set<char> seen;
  for (size_t i = 0; i < 150; ++i) {
    const std::string packet = a.Next();
    ASSERT_GE(packet.size(), sizeof(dcast_hdr));
    dcast_hdr hdr;
    std::memcpy(&hdr, packet.data(), sizeof(hdr));
    EXPECT_EQ(dcast_le64(hdr.mac), dcast_packet_mac(&keys, packet.data(), packet.size()));
    seen.insert(packet.back());
  }
  EXPECT_EQ(seen.size(), 150u);
}

TEST(UdpPath, PacketsOfALaneLeaveTogetherInTheirOrder) {
  Receiver a, b;
  UdpPathOptions options;
  options.destinations = {a.endpoint(), b.endpoint()};
  options.packet_bytes = 64;
  auto path = UdpPath::Open(options);
  ASSERT_TRUE(path.ok()) << path.status();
  std::array<std::vector<std::string>, 4> sent;
  for (unsigned i = 0; i < 40; ++i) {
    const std::string packet = absl::StrCat("lane ", i % 4, ", packet ", 10 + i);
    sent[i % 4].push_back(packet);
    std::memcpy((*path)->Get(), packet.data(), packet.size());
    (*path)->Put(static_cast<uint32_t>(packet.size()), i % 4);
  }
  (*path)->Flush();
  for (const auto& lane : sent) {
    for (const std::string& packet : lane) {
      EXPECT_EQ(a.Next(), packet);
      EXPECT_EQ(b.Next(), packet);
    }
  }
}

TEST(UdpPath, DropsTheShareThatItIsToldToDrop) {
  Receiver a;
  UdpPathOptions options;
  options.destinations = {a.endpoint()};
  options.packet_bytes = 8;
  options.drop = 1;
  auto path = UdpPath::Open(options);
  ASSERT_TRUE(path.ok());
  for (int i = 0; i < 10; ++i) {
    (*path)->Get();
    (*path)->Put(8, 0);
  }
  (*path)->Flush();
  options.drop = 0;
  auto other = UdpPath::Open(options);
  std::memcpy((*other)->Get(), "the only", 8);
  (*other)->Put(8, 0);
  (*other)->Flush();
  EXPECT_EQ(a.Next(), "the only");
}

TEST(UdpPath, UnknownInterfaceIsRefusedByName) {
  UdpPathOptions options;
  options.interface = "nosuchif0";
  options.destinations.push_back(*ParseEndpoint("127.0.0.1", 1));
  options.packet_bytes = 8;
  const auto path = UdpPath::Open(options);
  ASSERT_FALSE(path.ok());
  EXPECT_NE(std::string(path.status().message()).find("nosuchif0"), std::string::npos);
}

}  // namespace
}  // namespace dumpcast
