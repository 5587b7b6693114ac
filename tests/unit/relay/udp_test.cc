// SPDX-License-Identifier: Apache-2.0
// Real sockets on loopback.
#include "relay/udp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "gtest/gtest.h"
#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {
namespace {

class UdpTest : public testing::Test {
 protected:
  UdpTest() : sender_(socket(AF_INET, SOCK_DGRAM, 0)) {
    UdpOptions options;
    options.group = options.group6 = "none";
    options.lanes = 0;
    options.buffer_bytes = 1 << 20;
    // One that nobody has.
    for (uint16_t port = static_cast<uint16_t>(20000 + getpid() % 20000); udp_ == nullptr; ++port) {
      options.port = port;
      const int probe = socket(AF_INET, SOCK_DGRAM, 0);
      to_.sin_family = AF_INET;
      to_.sin_port = htons(port);
      to_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const bool free = bind(probe, reinterpret_cast<sockaddr*>(&to_), sizeof(to_)) == 0;
      close(probe);
      if (!free) continue;
      auto udp = Udp::Open(options);
      EXPECT_TRUE(udp.ok()) << udp.status();
      udp_ = *std::move(udp);
    }
    EXPECT_EQ(udp_->receivers(), 1u);
    thread_ = std::thread([this] {
      udp_->Run(0, [this](const std::vector<Datagram>& batch) {
        const std::lock_guard<std::mutex> lock(mu_);
        for (const Datagram& datagram : batch) {
          got_.emplace_back(datagram.payload);
          truncated_ += datagram.truncated;
          loopback_ += datagram.from.ifindex == 1;
        }
        came_.notify_one();
      });
    });
  }
  ~UdpTest() override {
    udp_->Stop();
    thread_.join();
    close(sender_);
  }

  // Datagrams of `segment` bytes in one message, which the kernel leaves in one piece on loopback.
  void Send(const std::string& bytes, uint16_t segment) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(segment))> control{};
    msghdr message{};
    message.msg_name = &to_;
    message.msg_namelen = sizeof(to_);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (segment != 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_UDP;
      c->cmsg_type = UDP_SEGMENT;
      c->cmsg_len = CMSG_LEN(sizeof(segment));
      std::memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    }
    ASSERT_EQ(sendmsg(sender_, &message, 0), static_cast<ssize_t>(bytes.size()));
  }
  std::vector<std::string> Wait(size_t count) {
    std::unique_lock<std::mutex> lock(mu_);
    came_.wait_for(lock, std::chrono::seconds(30), [&] { return got_.size() >= count; });
    return got_;
  }

  const int sender_;
  sockaddr_in to_{};
  std::unique_ptr<Udp> udp_;
  std::thread thread_;
  std::mutex mu_;
  std::condition_variable came_;
  std::vector<std::string> got_;
  size_t truncated_ = 0, loopback_ = 0;
};

TEST_F(UdpTest, JoinedDatagramsArriveOneByOne) {
  std::string bytes;
  for (char c = 'a'; c <= 'z'; ++c) bytes += std::string(c == 'z' ? 77 : 1400, c);
  Send(bytes, 1400);
  Send("alone", 0);
  const std::vector<std::string> got = Wait(27);
  ASSERT_EQ(got.size(), 27u);
  for (size_t i = 0; i < 25; ++i) EXPECT_EQ(got[i], std::string(1400, static_cast<char>('a' + i)));
  EXPECT_EQ(got[25], std::string(77, 'z'));
  EXPECT_EQ(got[26], "alone");
  EXPECT_EQ(truncated_, 0u);
  EXPECT_EQ(loopback_, 27u) << "each with the interface that it came by";
}

TEST_F(UdpTest, MoreThanABatchAtOnce) {
  for (unsigned i = 0; i < 200; ++i) Send(std::to_string(i), 0);
  const std::vector<std::string> got = Wait(200);
  ASSERT_EQ(got.size(), 200u);
  for (unsigned i = 0; i < 200; ++i) EXPECT_EQ(got[i], std::to_string(i));
}

TEST_F(UdpTest, AnEmptyDatagramAndOneThatIsTooLong) {
  Send("", 0);
  Send(std::string(sizeof(dcast_hdr) + DCAST_MAX_SYMBOL_BYTES, 'x'), 0);
  Send(std::string(sizeof(dcast_hdr) + DCAST_MAX_SYMBOL_BYTES + 1, 'y'), 0);
  EXPECT_EQ(Wait(3).size(), 3u);
  EXPECT_EQ(truncated_, 1u);
}

}  // namespace
}  // namespace dumpcast
