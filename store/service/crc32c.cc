// SPDX-License-Identifier: Apache-2.0
#include "store/service/crc32c.h"

#include <isa-l/crc.h>

namespace dumpcast::service {

uint32_t Crc32c(std::string_view bytes) {
  // ISA-L leaves the inversions before and after to its caller, and does not write to the buffer.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0u);
}

}  // namespace dumpcast::service
