// SPDX-License-Identifier: Apache-2.0
#include <isa-l/erasure_code.h>
#include <lz4.h>
#include <zstd.h>

#include <cstring>

#include "gtest/gtest.h"
#include "tests/unit/core/fake_host.h"

namespace dumpcast {
namespace {

// Solves for the data symbols from any k of the symbols given.
std::vector<uint8_t> Decode(unsigned k, uint32_t symbol_size,
                            const std::map<unsigned, std::vector<uint8_t>>& symbols) {
  std::vector<uint8_t> all(64 * k), chosen(k * k), inverse(k * k), tables(32 * k * k);
  gf_gen_cauchy1_matrix(all.data(), 64, static_cast<int>(k));
  std::vector<uint8_t*> in, out;
  std::vector<std::vector<uint8_t>> padded;
  for (const auto& [index, bytes] : symbols) {
    if (padded.size() == k) break;
    std::memcpy(&chosen[padded.size() * k], &all[index * k], k);
    padded.push_back(bytes);
    padded.back().resize(symbol_size);
  }
  for (auto& p : padded) in.push_back(p.data());
  EXPECT_EQ(gf_invert_matrix(chosen.data(), inverse.data(), static_cast<int>(k)), 0);
  ec_init_tables(static_cast<int>(k), static_cast<int>(k), inverse.data(), tables.data());
  std::vector<uint8_t> data(static_cast<size_t>(k) * symbol_size);
  for (unsigned i = 0; i < k; ++i) out.push_back(&data[static_cast<size_t>(i) * symbol_size]);
  ec_encode_data(static_cast<int>(symbol_size), static_cast<int>(k), static_cast<int>(k),
                 tables.data(), in.data(), out.data());
  return data;
}

}  // namespace

void Reassembler::Add(const SentPacket& packet) {
  const dcast_hdr& hdr = packet.hdr();
  const BlockId id{hdr.block_class, packet.number()};
  if (hdr.type == DCAST_EMPTY) ++empties[id];
  if (hdr.type != DCAST_SYMBOL) return;
  const uint64_t digest = dcast_le64(hdr.digest);
  if (blocks.count(id)) return;
  Partial& p = partial_[{id, digest}];
  p.len = dcast_le32(hdr.encoded_len);
  p.symbol_size = dcast_le16(hdr.symbol_size);
  p.k = hdr.k;
  EXPECT_EQ(p.k, (p.len + p.symbol_size - 1) / p.symbol_size);
  EXPECT_EQ(dcast_le16(hdr.payload_len), dcast_symbol_len(p.len, p.symbol_size, p.k, hdr.index));
  p.symbols[hdr.index] = {packet.payload(), packet.bytes.data() + packet.bytes.size()};
  if (p.symbols.size() < p.k) return;
  Block block{digest, Decode(p.k, p.symbol_size, p.symbols)};
  block.encoded.resize(p.len);
  if (dcast_block_digest(&keys, id.first, id.second, block.encoded.data(), p.len) != digest) {
    ++bad_digests;
    return;
  }
  blocks[id] = std::move(block);
}

dcast_block_hdr Reassembler::Header(const Block& block) {
  dcast_block_hdr hdr;
  std::memcpy(&hdr, block.encoded.data(), sizeof(hdr));
  return hdr;
}

std::vector<uint8_t> Reassembler::Raw(const Block& block) {
  const dcast_block_hdr hdr = Header(block);
  std::vector<uint8_t> raw(dcast_le32(hdr.raw_len));
  const char* src = reinterpret_cast<const char*>(block.encoded.data()) + hdr.hdr_len;
  const size_t len = block.encoded.size() - hdr.hdr_len;
  if (hdr.codec == DCAST_CODEC_LZ4) {
    EXPECT_EQ(LZ4_decompress_safe(src, reinterpret_cast<char*>(raw.data()), static_cast<int>(len),
                                  static_cast<int>(raw.size())),
              static_cast<int>(raw.size()));
    EXPECT_LE(len, raw.size() - raw.size() / 16);
  } else if (hdr.codec == DCAST_CODEC_ZSTD) {
    EXPECT_EQ(ZSTD_decompress(raw.data(), raw.size(), src, len), raw.size());
    EXPECT_LE(len, raw.size() - raw.size() / 16);
  } else {
    EXPECT_EQ(len, raw.size());
    if (len == raw.size() && len != 0) std::memcpy(raw.data(), src, len);
  }
  return raw;
}

std::string Reassembler::Stream(unsigned stream, uint64_t chunks) const {
  std::string text;
  for (uint64_t i = 0; i < chunks; ++i) {
    const auto it = blocks.find({0u, dcast_class0_number(stream, i)});
    if (it == blocks.end()) return "";
    const std::vector<uint8_t> raw = Raw(it->second);
    text.append(raw.begin(), raw.end());
  }
  return text;
}

}  // namespace dumpcast
