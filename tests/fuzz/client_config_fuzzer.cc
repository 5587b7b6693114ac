// SPDX-License-Identifier: Apache-2.0
// client.toml, and what is given as --server.
#include "client/config.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const dumpcast::MemoryFile file(data, size);
  const auto config = dumpcast::ReadConfigFile(file.path());
  if (config.ok()) {
    for (const std::string& server : config->servers) (void)dumpcast::ParseServer(server);
    if (config->deadline <= absl::ZeroDuration()) __builtin_trap();
  } else if (config.status().message().empty()) {
    __builtin_trap();
  }
  const auto target =
      dumpcast::ParseServer(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (target.ok() && target->empty()) __builtin_trap();
  return 0;
}
