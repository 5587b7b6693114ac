// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "protos/keys/keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto keys = dumpcast::ParseKeyFile({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (keys.ok() && keys->NewestEpoch() == 0) {
    __builtin_trap();
  }
  return 0;
}
