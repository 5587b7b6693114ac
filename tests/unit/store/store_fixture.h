// SPDX-License-Identifier: Apache-2.0
// Helpers of the store's tests: folders that go away, keys, and encoded blocks.
#ifndef DUMPCAST_TESTS_UNIT_STORE_STORE_FIXTURE_H_
#define DUMPCAST_TESTS_UNIT_STORE_STORE_FIXTURE_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/wire/bytes.h"
#include "protos/wire/dumpcast_wire.h"
#include "store/store.h"

namespace dumpcast::testing {

// A folder under the test's temporary folder, removed with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Ids whose bytes are all alike.
Id16 IdOf(uint8_t byte);
DumpKey DumpOf(uint8_t host, uint8_t dump);

// Small buffers, no watermark.
StoreOptions SmallStore(const std::string& path);
// Fails the process when the store does not open.
std::unique_ptr<Store> OpenOrDie(const std::string& path);

// A record of a dump that was received at `receive_unix_ns`.
v1::DumpRecord RecordOf(const DumpKey& dump, int64_t receive_unix_ns = 1);

// A dcast_block_hdr of the given fields, then `payload`.
std::string EncodeBlock(uint8_t page_shift, uint16_t present, uint16_t zero, uint16_t unreadable,
                        std::string_view payload);
// A chunk of a class 0 stream, uncompressed.
std::string EncodeChunk(std::string_view raw);
// A META chunk with these stream lengths; other fields as `meta`.
std::string EncodeMeta(dcast_meta meta, const std::vector<uint64_t>& stream_len);
// A PRESENCE chunk with the bits of `windows[c - 1]` set for class c, relative to the slice.
std::string EncodePresence(const std::vector<std::vector<uint32_t>>& windows);

// Changes a bit in every `every` bytes of the tables of at least 256 KiB in a closed store's
// folder, where these have data; how many.
size_t FlipTables(const std::string& path, size_t every);

// `count` bytes that depend on `seed`.
std::string RandomBytes(uint64_t seed, size_t count);

}  // namespace dumpcast::testing

#endif  // DUMPCAST_TESTS_UNIT_STORE_STORE_FIXTURE_H_
