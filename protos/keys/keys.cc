// SPDX-License-Identifier: Apache-2.0
#include "protos/keys/keys.h"

#include <sodium.h>

#include <algorithm>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "protos/keys/private_file.h"
#include "protos/wire/auth.h"

namespace dumpcast {
namespace {

static_assert(kKeyBytes == DCAST_HOST_KEY_BYTES);
static_assert(kHostIdBytes == DCAST_ID_BYTES);
static_assert(kKeyBytes == crypto_auth_hmacsha256_BYTES);

constexpr char kExample[] =
    "wanted `epoch key` (1..65535 and 64 hex digits), `host epoch key` or `revoked host_id epoch`; "
    "a "
    "new cluster key is made by: echo \"1 $(openssl rand -hex 32)\"";

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

template <typename Bytes>
bool ParseHex(absl::string_view hex, Bytes* out) {
  if (hex.size() != 2 * out->size()) return false;
  for (size_t i = 0; i < out->size(); ++i) {
    const int high = HexDigit(hex[2 * i]);
    const int low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*out)[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

}  // namespace

const char kUnauthenticatedWarning[] =
    "no key file is configured: packets carry only a well-known key, so that anybody on the "
    "network can forge or suppress dumps. Make one with: "
    "(umask 077; echo \"1 $(openssl rand -hex 32)\" > /etc/dumpcast/key) and give it to every "
    "relay and host.";

uint16_t ClusterKeys::NewestEpoch() const {
  uint16_t newest = 0;
  for (const auto* keys : {&by_epoch, &host_by_epoch}) {
    if (!keys->empty()) newest = std::max(newest, keys->rbegin()->first);
  }
  return newest;
}

std::optional<Key> ClusterKeys::HostKey(const HostId& host_id, uint16_t epoch) const {
  if (const auto own = host_by_epoch.find(epoch); own != host_by_epoch.end()) return own->second;
  const auto cluster = by_epoch.find(epoch);
  if (cluster == by_epoch.end()) return std::nullopt;
  return DeriveHostKey(cluster->second, host_id, epoch);
}

bool ClusterKeys::IsRevoked(const HostId& host_id, uint16_t epoch) const {
  const auto it = revoked.find(host_id);
  return it != revoked.end() && epoch <= it->second;
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
    std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    const bool host = words[0] == "host";
    const bool revoked = words[0] == "revoked";
    if (host || revoked) words.erase(words.begin());
    if (revoked) std::reverse(words.begin(), words.end());
    if (words.size() != 2) {
      return bad(absl::StrCat("wanted ", host || revoked ? "three words, found " : "two, found ",
                              words.size() + (host || revoked ? 1 : 0)));
    }
    uint32_t epoch = 0;
    if (!absl::SimpleAtoi(words[0], &epoch) || epoch < 1 || epoch > 65535) {
      return bad("no epoch of 1..65535 where one is wanted");
    }
    HostId host_id;
    if (revoked) {
      if (!ParseHex(words[1], &host_id)) return bad("no host id of 32 hex digits after `revoked`");
      if (!keys.revoked.emplace(host_id, static_cast<uint16_t>(epoch)).second) {
        return bad("this host is revoked twice");
      }
      continue;
    }
    Key key;
    if (!ParseHex(words[1], &key)) {
      return bad(absl::StrCat("no key of 64 hex digits after the epoch (it has ", words[1].size(),
                              " characters)"));
    }
    auto& by_epoch = host ? keys.host_by_epoch : keys.by_epoch;
    if (!by_epoch.emplace(static_cast<uint16_t>(epoch), key).second) {
      return bad(absl::StrCat("epoch ", epoch, " is given twice"));
    }
  }
  if (keys.by_epoch.empty() && keys.host_by_epoch.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": no key in it; ", kExample));
  }
  return keys;
}

absl::StatusOr<ClusterKeys> LoadKeyFile(const std::string& path) {
  absl::StatusOr<std::string> text =
      ReadPrivateFile(path, {.what = "key file", .danger = "who reads it can forge dumps"});
  if (!text.ok()) return text.status();
  const absl::Cleanup wiper = [&] { sodium_memzero(text->data(), text->size()); };
  return ParseKeyFile(*text, path);
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
