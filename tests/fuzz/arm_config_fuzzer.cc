// SPDX-License-Identifier: Apache-2.0
// arm.toml: what is taken is what the module's attributes may be given.
#include "kmod/arm/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = dumpcast::ParseArmConfig(
      absl::string_view(reinterpret_cast<const char*>(data), size), "arm.toml");
  if (!config.ok()) {
    if (!absl::IsInvalidArgument(config.status()) || config.status().message().empty())
      __builtin_trap();
    return 0;
  }
  if (config->paths.empty()) __builtin_trap();
  for (const dumpcast::PathConfig& path : config->paths) {
    // A name becomes a folder, a value a line of an attribute.
    if (path.device.empty() || path.name.empty() || path.destinations.empty() ||
        path.name.find('/') != std::string::npos || path.name == "." || path.name == "..")
      __builtin_trap();
    if (path.port < 1 || path.port > 65535) __builtin_trap();
    for (const auto& [name, value] : path.attributes)
      if (value.find('\n') != std::string::npos) __builtin_trap();
  }
  for (const auto& [name, value] : config->attributes)
    if (value.find('\n') != std::string::npos) __builtin_trap();
  return 0;
}
