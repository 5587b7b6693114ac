// SPDX-License-Identifier: Apache-2.0
// Packets as a host would send them, made by hand: for tests that need one wrong bit.
#ifndef DUMPCAST_TESTS_UNIT_RELAY_SENDER_DOUBLE_H_
#define DUMPCAST_TESTS_UNIT_RELAY_SENDER_DOUBLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "protos/wire/auth.h"
#include "relay/packets.h"

namespace dumpcast {

class SenderDouble {
 public:
  static constexpr uint16_t kSymbolSize = 1352;
  static constexpr uint16_t kEpoch = 3;
  static dcast_keys Keys() { return {{11, 12}, {13, 14}}; }
  static DumpKey Dump();

  // A header with the next sequence number of its path and lane.
  dcast_hdr Header(uint8_t type);
  // Header and payload with length and MAC filled in.
  static std::string Seal(dcast_hdr hdr, std::string_view payload);

  // An encoding of `raw` without compression; class 0 when page_shift is 0.
  static std::string Encode(std::string_view raw, uint8_t page_shift = 12,
                            uint16_t present = 0xffff);
  static uint64_t Digest(uint8_t block_class, uint64_t number, const std::string& encoded);
  static unsigned K(const std::string& encoded) {
    return static_cast<unsigned>((encoded.size() + kSymbolSize - 1) / kSymbolSize);
  }

  // One symbol of an encoding, data or parity.
  std::string Symbol(uint8_t block_class, uint64_t number, const std::string& encoded,
                     unsigned index, uint8_t flags = 0);
  // Its k data symbols.
  std::vector<std::string> Symbols(uint8_t block_class, uint64_t number, const std::string& encoded,
                                   uint8_t flags = 0);
  std::string Empty(uint8_t block_class, uint64_t number);
  std::string Announce(uint8_t state, uint8_t boot = 0x33, uint64_t unix_ns = 0);
  std::string End(uint8_t block_lane = 0, uint8_t flags = 0);

  // Of a dump with class 1 windows 0..blocks-1: META and one slice of PRESENCE, as they are encoded
  // and as symbols.
  // signature: each byte of the crash's.
  static std::vector<std::string> Class0Encodings(unsigned blocks, uint8_t signature = 0,
                                                  uint32_t lanes = 1);
  std::vector<std::string> Class0(unsigned blocks);
  static std::string Page(uint64_t window);  // the encoding of a window of that dump

  uint64_t origin = 0x5e4d;
  uint8_t path = 0;
  uint8_t lane = 0;
  uint8_t lanes = 1;    // of the dump
  uint8_t dump = 0xbb;  // each byte of the dump's id

 private:
  uint64_t seq_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_RELAY_SENDER_DOUBLE_H_
