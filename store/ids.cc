// SPDX-License-Identifier: Apache-2.0
#include "store/ids.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

// -1 for what is no hex digit.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

uint64_t Mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

std::string ToHex(const Id16& id) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(id.data()), id.size()));
}

absl::StatusOr<Id16> Id16FromHex(std::string_view hex) {
  Id16 id{};
  bool good = hex.size() == 2 * id.size();
  for (size_t i = 0; good && i < id.size(); i++) {
    const int high = HexDigit(hex[2 * i]);
    const int low = HexDigit(hex[2 * i + 1]);
    good = high >= 0 && low >= 0;
    id[i] = static_cast<uint8_t>(high << 4 | low);
  }
  if (!good) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an id is 32 hex digits, got \"", absl::CEscape(absl::string_view(hex.data(), hex.size())),
        "\" of ", hex.size(), " characters"));
  }
  return id;
}

absl::StatusOr<Id16> Id16FromBytes(std::string_view bytes) {
  Id16 id{};
  if (bytes.size() != id.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an id is ", id.size(), " bytes, got ", bytes.size()));
  }
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

std::string DumpKey::ResourceName() const {
  return absl::StrCat("hosts/", ToHex(host_id), "/dumps/", ToHex(dump_id));
}

uint64_t MixBlockKey(const BlockKey& key) {
  // Two rounds, so that (number, digest) pairs that share a sum do not cancel out.
  return Mix64(Mix64(key.number * 4 + key.block_class + 0x9e3779b97f4a7c15ull) ^ key.digest);
}

}  // namespace dumpcast
