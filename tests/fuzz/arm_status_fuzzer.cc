// SPDX-License-Identifier: Apache-2.0
// The module's status text, with hosts' and relays' names in it, to a table and to JSON.
#include "kmod/arm/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto status =
      dumpcast::ParseStatus(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!status.ok()) return 0;
  if (dumpcast::StatusTable(*status).empty()) __builtin_trap();
  if (dumpcast::StatusJson(*status).empty()) __builtin_trap();
  return 0;
}
