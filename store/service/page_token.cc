// SPDX-License-Identifier: Apache-2.0
#include "store/service/page_token.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "store/service/crc32c.h"

namespace dumpcast {
namespace {

constexpr size_t kCheckBytes = 4;

std::string CheckOf(std::string_view position, std::string_view query) {
  std::string whole(position);
  whole.push_back('\0');
  whole.append(query);
  const uint32_t crc = service::Crc32c(whole);
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(crc >> shift));
  return bytes;
}

}  // namespace

std::string MakePageToken(std::string_view position, std::string_view query) {
  std::string token = CheckOf(position, query);
  token.append(position);
  return absl::WebSafeBase64Escape(token);
}

absl::StatusOr<std::string> ParsePageToken(std::string_view token, std::string_view query) {
  if (token.empty()) return std::string();
  std::string bytes;
  if (absl::WebSafeBase64Unescape(absl::string_view(token.data(), token.size()), &bytes) &&
      bytes.size() > kCheckBytes) {
    std::string position = bytes.substr(kCheckBytes);
    if (CheckOf(position, query) == bytes.substr(0, kCheckBytes)) return position;
  }
  return absl::InvalidArgumentError(
      "page_token: wanted the next_page_token of an earlier call with the same parent and filter; "
      "begin again without one");
}

absl::StatusOr<size_t> CheckPageSize(int wanted) {
  if (wanted < 0) {
    return absl::InvalidArgumentError(absl::StrCat("page_size: wanted 0 to 1000, got ", wanted));
  }
  return wanted == 0 ? 50 : std::min<size_t>(static_cast<size_t>(wanted), 1000);
}

}  // namespace dumpcast
