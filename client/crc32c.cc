// SPDX-License-Identifier: Apache-2.0
#include "client/crc32c.h"

#include <isa-l/crc.h>

namespace dumpcast {

uint32_t Crc32c(absl::string_view data) {
  // ISA-L leaves the inversions before and after to its caller, and does not write to the buffer.
  auto* bytes = reinterpret_cast<unsigned char*>(const_cast<char*>(data.data()));
  return ~crc32_iscsi(bytes, static_cast<int>(data.size()), 0xffffffffu);
}

}  // namespace dumpcast
