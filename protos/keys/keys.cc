// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "protos/wire/auth.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxKeyFileBytes = 1 << 20;

static_assert(kKeyBytes == DCAST_HOST_KEY_BYTES);
static_assert(kHostIdBytes == DCAST_ID_BYTES);
static_assert(kKeyBytes == crypto_auth_hmacsha256_BYTES);

constexpr char kExample[] =
    "write `epoch key`, an epoch of 1..65535 and 64 hex digits; a new line is made by: "
    "echo \"1 $(openssl rand -hex 32)\"";

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ParseHexKey(absl::string_view hex, Key* key) {
  if (hex.size() != 2 * kKeyBytes) return false;
  for (size_t i = 0; i < kKeyBytes; ++i) {
    const int high = HexDigit(hex[2 * i]);
    const int low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*key)[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

}  // namespace

const char kUnauthenticatedWarning[] =
    "no key file is configured: packets carry only a well-known key, so that anybody on the "
    "network can forge or suppress dumps. Make one with: "
    "(umask 077; echo \"1 $(openssl rand -hex 32)\" > /etc/dumpcast/key) and give it to every "
    "relay and host.";

const Key* ClusterKeys::Find(uint16_t epoch) const {
  const auto it = by_epoch.find(epoch);
  return it == by_epoch.end() ? nullptr : &it->second;
}

absl::StatusOr<ClusterKeys> ParseKeyFile(absl::string_view text, absl::string_view name) {
  ClusterKeys keys;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const auto bad = [&](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ":", line_number, ": ", what, "; ", kExample));
    };
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() != 2) {
      return bad(absl::StrCat("wanted two words, found ", words.size()));
    }
    uint32_t epoch = 0;
    if (!absl::SimpleAtoi(words[0], &epoch) || epoch < 1 || epoch > 65535) {
      return bad("the first word is not an epoch of 1..65535");
    }
    Key key;
    if (!ParseHexKey(words[1], &key)) {
      return bad(absl::StrCat("the second word is not a key of 64 hex digits (it has ",
                              words[1].size(), " characters)"));
    }
    if (!keys.by_epoch.emplace(static_cast<uint16_t>(epoch), key).second) {
      return bad(absl::StrCat("epoch ", epoch, " is given twice"));
    }
  }
  if (keys.by_epoch.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": no key in it; ", kExample));
  }
  return keys;
}

absl::StatusOr<ClusterKeys> LoadKeyFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string message =
        absl::StrCat("cannot read the key file ", path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat st;
  if (fstat(fd, &st) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot stat ", path, ": ", std::strerror(errno)));
  }
  if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(
        absl::StrFormat("the key file %s is open to group or others (mode %03o), and who reads "
                        "it can forge dumps; run: chmod 600 %s",
                        path, static_cast<unsigned>(st.st_mode & 0777), path));
  }
  std::string text;
  char buffer[4096];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof(buffer))) > 0 && text.size() <= kMaxKeyFileBytes) {
    text.append(buffer, static_cast<size_t>(got));
  }
  const absl::Cleanup wiper = [&] {
    sodium_memzero(buffer, sizeof(buffer));
    sodium_memzero(text.data(), text.size());
  };
  if (got < 0) {
    return absl::UnavailableError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  if (text.size() > kMaxKeyFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is larger than 1 MiB and cannot be a key file; ", kExample));
  }
  return ParseKeyFile(text, path);
}

ClusterKeys UnauthenticatedKeys() {
  static constexpr char kLabel[] = "dumpcast unauthenticated";
  ClusterKeys keys;
  crypto_hash_sha256(keys.by_epoch[0].data(), reinterpret_cast<const unsigned char*>(kLabel),
                     sizeof(kLabel) - 1);
  return keys;
}

Key DeriveHostKey(const Key& cluster_key, const HostId& host_id, uint16_t epoch) {
  static constexpr char kLabel[] = DCAST_HOST_KEY_LABEL;
  const uint8_t epoch_bytes[2] = {static_cast<uint8_t>(epoch), static_cast<uint8_t>(epoch >> 8)};
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, cluster_key.data(), cluster_key.size());
  crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(kLabel),
                                sizeof(kLabel) - 1);
  crypto_auth_hmacsha256_update(&state, host_id.data(), host_id.size());
  crypto_auth_hmacsha256_update(&state, epoch_bytes, sizeof(epoch_bytes));
  Key key;
  crypto_auth_hmacsha256_final(&state, key.data());
  sodium_memzero(&state, sizeof(state));
  return key;
}

}  // namespace dumpcast
