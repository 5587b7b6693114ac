// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/relay/sender_double.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "relay/fec.h"

namespace dumpcast {
namespace {

template <typename T>
std::string BytesOf(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

DumpKey SenderDouble::Dump() {
  DumpKey key;
  key.host_id.fill(0xaa);
  key.dump_id.fill(0xbb);
  return key;
}

dcast_hdr SenderDouble::Header(uint8_t type) {
  dcast_hdr hdr{};
  hdr.magic = dcast_to_le32(DCAST_MAGIC);
  hdr.major = DCAST_VERSION_MAJOR;
  hdr.minor = DCAST_VERSION_MINOR;
  hdr.type = type;
  std::memset(hdr.host_id, 0xaa, sizeof(hdr.host_id));
  std::memset(hdr.dump_id, dump, sizeof(hdr.dump_id));
  hdr.origin = dcast_to_le64(origin);
  hdr.seq = dcast_to_le64(++seq_);
  hdr.key_epoch = dcast_to_le16(kEpoch);
  hdr.path = path;
  hdr.lane = lane;
  return hdr;
}

std::string SenderDouble::Seal(dcast_hdr hdr, std::string_view payload) {
  hdr.payload_len = dcast_to_le16(static_cast<uint16_t>(payload.size()));
  std::string packet = BytesOf(hdr);
  packet.append(payload);
  const dcast_keys keys = Keys();
  const uint64_t mac = dcast_to_le64(dcast_packet_mac(&keys, packet.data(), packet.size()));
  std::memcpy(packet.data() + offsetof(dcast_hdr, mac), &mac, sizeof(mac));
  return packet;
}

std::string SenderDouble::Encode(std::string_view raw, uint8_t page_shift, uint16_t present) {
  dcast_block_hdr hdr{};
  hdr.raw_len = dcast_to_le32(static_cast<uint32_t>(raw.size()));
  hdr.page_shift = page_shift;
  hdr.hdr_len = sizeof(hdr);
  hdr.present = dcast_to_le16(page_shift == 0 ? 0 : present);
  return BytesOf(hdr).append(raw);
}

uint64_t SenderDouble::Digest(uint8_t block_class, uint64_t number, const std::string& encoded) {
  const dcast_keys keys = Keys();
  return dcast_block_digest(&keys, block_class, number, encoded.data(),
                            static_cast<uint32_t>(encoded.size()));
}

std::string SenderDouble::Symbol(uint8_t block_class, uint64_t number, const std::string& encoded,
                                 unsigned index, uint8_t flags) {
  const unsigned k = K(encoded);
  dcast_hdr hdr = Header(DCAST_SYMBOL);
  hdr.flags = flags;
  hdr.number = dcast_to_le64(number);
  hdr.digest = dcast_to_le64(Digest(block_class, number, encoded));
  hdr.encoded_len = dcast_to_le32(static_cast<uint32_t>(encoded.size()));
  hdr.symbol_size = dcast_to_le16(kSymbolSize);
  hdr.block_class = block_class;
  hdr.index = static_cast<uint8_t>(index);
  hdr.k = static_cast<uint8_t>(k);
  const uint32_t len =
      dcast_symbol_len(static_cast<uint32_t>(encoded.size()), kSymbolSize, k, index);
  if (index < k) return Seal(hdr, encoded.substr(size_t{index} * kSymbolSize, len));
  std::string padded = encoded;
  padded.resize(size_t{k} * kSymbolSize);
  return Seal(hdr, MakeParity(padded.data(), kSymbolSize, k, index, len));
}

std::vector<std::string> SenderDouble::Symbols(uint8_t block_class, uint64_t number,
                                               const std::string& encoded, uint8_t flags) {
  std::vector<std::string> symbols;
  for (unsigned i = 0; i < K(encoded); ++i)
    symbols.push_back(Symbol(block_class, number, encoded, i, flags));
  return symbols;
}

std::string SenderDouble::Empty(uint8_t block_class, uint64_t number) {
  dcast_hdr hdr = Header(DCAST_EMPTY);
  hdr.block_class = block_class;
  hdr.number = dcast_to_le64(number);
  return Seal(hdr, "");
}

std::string SenderDouble::Announce(uint8_t state, uint8_t boot, uint64_t unix_ns) {
  dcast_announce announce{};
  std::memset(announce.boot_id, boot, sizeof(announce.boot_id));
  announce.unix_ns = dcast_to_le64(unix_ns);
  announce.state = state;
  announce.paths = 1;
  announce.lanes = lanes;
  announce.interval_ms = dcast_to_le32(1000);
  std::strcpy(announce.hostname, "double");
  return Seal(Header(DCAST_ANNOUNCE), BytesOf(announce));
}

std::string SenderDouble::End(uint8_t block_lane, uint8_t flags) {
  dcast_hdr hdr = Header(DCAST_END);
  hdr.lane = block_lane;
  dcast_end end{};
  end.flags = flags;
  return Seal(hdr, BytesOf(end));
}

std::vector<std::string> SenderDouble::Class0Encodings(unsigned blocks, uint8_t signature,
                                                       uint32_t lanes) {
  dcast_meta meta{};
  std::memset(meta.signature, signature, sizeof(meta.signature));
  meta.size = dcast_to_le32(sizeof(meta));
  meta.page_shift = 12;
  meta.stream_len[DCAST_STREAM_META] = dcast_to_le64(sizeof(meta));
  meta.stream_len[DCAST_STREAM_PRESENCE] = dcast_to_le64(sizeof(dcast_presence));
  meta.window_end = dcast_to_le64(blocks);
  meta.lanes = dcast_to_le32(lanes);
  dcast_presence presence{};
  for (unsigned w = 0; w < blocks; ++w) presence.bits[0][w / 8] |= static_cast<__u8>(1u << (w % 8));
  return {Encode(BytesOf(meta), 0), Encode(BytesOf(presence), 0)};
}

std::vector<std::string> SenderDouble::Class0(unsigned blocks) {
  const std::vector<std::string> encodings = Class0Encodings(blocks, 0, lanes);
  std::vector<std::string> packets = Symbols(0, 0, encodings[0]);
  for (std::string& packet :
       Symbols(0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0), encodings[1]))
    packets.push_back(std::move(packet));
  return packets;
}

std::string SenderDouble::Page(uint64_t window) {
  return Encode(std::string(4096, static_cast<char>('a' + window % 26)), 12, 1);
}

}  // namespace dumpcast
