// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/store/store_fixture.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace dumpcast::testing {

TempDir::TempDir() {
  std::string pattern = ::testing::TempDir() + "dumpcast-store-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) abort();
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Id16 IdOf(uint8_t byte) {
  Id16 id;
  id.fill(byte);
  return id;
}

DumpKey DumpOf(uint8_t host, uint8_t dump) {
  return {IdOf(host), IdOf(dump)};
}

StoreOptions SmallStore(const std::string& path) {
  StoreOptions options;
  options.path = path;
  options.min_free_bytes = 0;
  options.write_buffer_bytes = 16 << 20;
  return options;
}

std::unique_ptr<Store> OpenOrDie(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(SmallStore(path));
  if (!store.ok()) {
    fprintf(stderr, "cannot open %s: %s\n", path.c_str(), store.status().ToString().c_str());
    abort();
  }
  return std::move(*store);
}

v1::DumpRecord RecordOf(const DumpKey& dump, int64_t receive_unix_ns) {
  v1::DumpRecord record;
  record.set_host_id(std::string(dump.host_id.begin(), dump.host_id.end()));
  record.set_dump_id(std::string(dump.dump_id.begin(), dump.dump_id.end()));
  record.set_receive_unix_ns(receive_unix_ns);
  return record;
}

std::string EncodeBlock(uint8_t page_shift, uint16_t present, uint16_t zero, uint16_t unreadable,
                        std::string_view payload) {
  dcast_block_hdr header{};
  header.raw_len = dcast_to_le32(static_cast<uint32_t>(payload.size()));
  header.codec = DCAST_CODEC_NONE;
  header.page_shift = page_shift;
  header.hdr_len = sizeof(header);
  header.present = dcast_to_le16(present);
  header.zero = dcast_to_le16(zero);
  header.unreadable = dcast_to_le16(unreadable);
  std::string encoded(reinterpret_cast<const char*>(&header), sizeof(header));
  encoded.append(payload);
  return encoded;
}

std::string EncodeChunk(std::string_view raw) {
  return EncodeBlock(0, 0, 0, 0, raw);
}

std::string EncodeMeta(dcast_meta meta, const std::vector<uint64_t>& stream_len) {
  meta.size = dcast_to_le32(sizeof(meta));
  for (size_t s = 0; s < stream_len.size() && s < DCAST_STREAMS; s++) {
    meta.stream_len[s] = dcast_to_le64(stream_len[s]);
  }
  return EncodeChunk({reinterpret_cast<const char*>(&meta), sizeof(meta)});
}

std::string EncodePresence(const std::vector<std::vector<uint32_t>>& windows) {
  dcast_presence presence{};
  for (size_t c = 0; c < windows.size() && c < DCAST_CLASSES - 1; c++) {
    for (uint32_t w : windows[c]) presence.bits[c][w / 8] |= 1u << (w % 8);
  }
  return EncodeChunk({reinterpret_cast<const char*>(&presence), sizeof(presence)});
}

size_t FlipTables(const std::string& path, size_t every) {
  size_t flipped = 0;
  for (const auto& file : std::filesystem::directory_iterator(path)) {
    // The index and the footer are at the end.
    const uint64_t data = file.file_size() / 4 * 3;
    if (file.path().extension() != ".sst" || file.file_size() < (256 << 10)) continue;
    std::fstream table(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (uint64_t at = every / 2; at < data; at += every, ++flipped) {
      table.seekg(static_cast<std::streamoff>(at));
      const int byte = table.get();
      table.seekp(static_cast<std::streamoff>(at));
      table.put(static_cast<char>(byte ^ 1));
    }
  }
  return flipped;
}

std::string RandomBytes(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  std::string bytes(count, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

}  // namespace dumpcast::testing
