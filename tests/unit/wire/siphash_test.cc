// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/siphash.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dumpcast {
namespace {

// Whatever number is done side by side, and however a packet ends.
TEST(PacketMacs, AreThoseOfEachPacketAlone) {
  std::mt19937_64 rng(1);
  dcast_keys keys{};
  keys.mac = {rng(), rng()};
  for (const size_t bytes : {8, 9, 15, 16, 96, 97, 1448, 1455, 8936}) {
    for (size_t count = 0; count <= 33; ++count) {
      std::vector<std::string> packets(count, std::string(bytes, '\0'));
      std::vector<const char*> pointers;
      for (std::string& packet : packets) {
        for (char& c : packet) c = static_cast<char>(rng());
        pointers.push_back(packet.data());
      }
      std::vector<uint64_t> macs(count);
      PacketMacs(keys, pointers, bytes, macs.data());
      for (size_t i = 0; i < count; ++i)
        EXPECT_EQ(macs[i], dcast_packet_mac(&keys, packets[i].data(), bytes))
            << bytes << " bytes, packet " << i << " of " << count;
    }
  }
}

TEST(BlockDigests, AreThoseOfEachBlockAlone) {
  std::mt19937_64 rng(2);
  std::vector<dcast_keys> keys(3);
  for (dcast_keys& k : keys) k.digest = {rng(), rng()};
  for (size_t count = 0; count <= 20; ++count) {
    std::vector<std::string> bytes(count);
    std::vector<Encoding> encodings;
    for (size_t i = 0; i < count; ++i) {
      bytes[i].resize(i % 5 == 4 ? 65552 : 16 + rng() % 2000);
      for (char& c : bytes[i]) c = static_cast<char>(rng());
      encodings.push_back({&keys[i % 3], static_cast<unsigned>(rng() % 4), rng(), bytes[i]});
    }
    std::vector<uint64_t> digests(count);
    BlockDigests(encodings, digests.data());
    for (size_t i = 0; i < count; ++i)
      EXPECT_EQ(digests[i],
                dcast_block_digest(encodings[i].keys, encodings[i].block_class, encodings[i].number,
                                   bytes[i].data(), static_cast<__u32>(bytes[i].size())))
          << "block " << i << " of " << count;
  }
}

}  // namespace
}  // namespace dumpcast
