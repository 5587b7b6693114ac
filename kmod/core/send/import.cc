// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/import.h"

#include <sodium.h>

#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

namespace dumpcast {
namespace {

constexpr char kUnknownHost[] = "unknown";

void HashId(absl::string_view label, absl::string_view what, uint8_t id[DCAST_ID_BYTES]) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, DCAST_ID_BYTES);
  for (const absl::string_view part : {label, what})
    crypto_generichash_update(&state, reinterpret_cast<const uint8_t*>(part.data()), part.size());
  crypto_generichash_final(&state, id, DCAST_ID_BYTES);
}

}  // namespace

absl::Status ApplyImport(const MemorySource& source, SendOptions* options) {
  dcast_config& config = options->replay.config;
  const dcast_meta& meta = source.meta();
  std::string name = options->hostname;
  if (name.empty()) name.assign(meta.hostname, strnlen(meta.hostname, sizeof(meta.hostname)));
  if (name.empty()) name = kUnknownHost;
  std::memset(config.hostname, 0, sizeof(config.hostname));
  name.copy(config.hostname, sizeof(config.hostname) - 1);

  const auto fingerprint = source.Fingerprint();
  const absl::string_view file(reinterpret_cast<const char*>(fingerprint.data()),
                               fingerprint.size());
  HashId("dumpcast imported host", name, config.host_id);
  HashId("dumpcast imported dump", file, config.dump_id);
  HashId("dumpcast imported boot", file, config.boot_id);
  absl::Status status;
  if (!options->host_id.empty()) status = ParseId(options->host_id, "--host-id", config.host_id);
  if (status.ok() && !options->dump_id.empty())
    status = ParseId(options->dump_id, "--dump-id", config.dump_id);
  if (!status.ok()) return status;
  if (config.dump_level == 0) config.dump_level = static_cast<__u8>(source.dump_level());
  UseHostKey(options);
  return absl::OkStatus();
}

}  // namespace dumpcast
