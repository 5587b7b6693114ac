// SPDX-License-Identifier: Apache-2.0
// An encrypted block as a relay gives it, and the stream KEYS. Input: class in the first byte,
// where to damage in the next two and how in the fourth, then the bytes: once as they are, and once
// as the encoding that a host encrypts.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "protos/keys/end_to_end.h"
#include "store/vmcore/block_codec.h"

namespace {

constexpr uint8_t kDump[DCAST_ID_BYTES] = {1};
constexpr uint64_t kNumber = 0x1234;

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  static const dumpcast::CipherKeys keys{dumpcast::EndToEndKey()};
  static const dumpcast::Identity identity = dumpcast::NewIdentity();
  const uint8_t block_class = data[0] & 3;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 4), size - 4);

  // Nobody forges a block or a box.
  Check(!dumpcast::DecryptEncoding(keys, kDump, block_class, kNumber, bytes).ok());
  Check(!dumpcast::OpenKeyBox(bytes, identity).ok());
  const absl::StatusOr<std::string> any = dumpcast::DecryptHeaderUnchecked(keys, bytes);
  if (any.ok()) (void)dumpcast::ParseBlockHeader(block_class, 12, *any).ok();

  std::string encrypted =
      dumpcast::EncryptEncoding(keys, kDump, block_class, kNumber, bytes.substr(0, 70000));
  const absl::StatusOr<std::string> encoding =
      dumpcast::DecryptEncoding(keys, kDump, block_class, kNumber, encrypted);
  Check(encoding.ok() && *encoding == bytes.substr(0, 70000));
  const absl::StatusOr<std::string> header = dumpcast::DecryptHeaderUnchecked(keys, encrypted);
  Check(header.ok() == (encoding->size() >= sizeof(dcast_block_hdr)));
  if (header.ok()) Check(*header == encoding->substr(0, sizeof(dcast_block_hdr)));
  (void)dumpcast::DecodeBlock(block_class, 12, *encoding).ok();

  if (data[3] == 0) return 0;
  encrypted[(data[1] | data[2] << 8) % encrypted.size()] ^= static_cast<char>(data[3]);
  Check(!dumpcast::DecryptEncoding(keys, kDump, block_class, kNumber, encrypted).ok());
  return 0;
}
