// SPDX-License-Identifier: Apache-2.0
#include <sodium.h>

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/commands.h"
#include "protos/keys/keys.h"

namespace dumpcast {

absl::StatusOr<ExitCode> RunHostkey(const Environment& env, const HostkeyOptions& options) {
  const std::string digits = absl::StrReplaceAll(options.host_id, {{"-", ""}});
  HostId host_id;
  size_t bytes = 0;
  if (digits.size() != 2 * host_id.size() ||
      sodium_hex2bin(host_id.data(), host_id.size(), digits.data(), digits.size(), nullptr, &bytes,
                     nullptr) != 0 ||
      bytes != host_id.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted a host id of 32 hex digits, as in the host's /etc/machine-id, got `",
                     options.host_id, "`"));
  }
  const auto keys = LoadKeyFile(options.key_file);
  if (!keys.ok()) return keys.status();
  if (keys->by_epoch.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.key_file, " has no cluster key: hosts' keys are derived from one"));
  }
  const uint16_t epoch =
      options.epoch != 0 ? static_cast<uint16_t>(options.epoch) : keys->by_epoch.rbegin()->first;
  const auto cluster = keys->by_epoch.find(epoch);
  if (cluster == keys->by_epoch.end()) {
    return absl::NotFoundError(absl::StrCat(options.key_file, " has no key of epoch ", epoch));
  }
  if (keys->IsRevoked(host_id, epoch)) {
    return absl::FailedPreconditionError(
        absl::StrCat("this host is revoked up to epoch ", keys->revoked.at(host_id),
                     ": relays would not believe it; add a cluster key of a higher epoch first"));
  }
  const Key key = DeriveHostKey(cluster->second, host_id, epoch);
  *env.out << "host " << epoch << " "
           << absl::BytesToHexString(
                  absl::string_view(reinterpret_cast<const char*>(key.data()), key.size()))
           << "\n";
  return kExitOk;
}

}  // namespace dumpcast
