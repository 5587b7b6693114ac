// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as RFC 3720 appendix B.4 checks it.
#ifndef DUMPCAST_STORE_SERVICE_CRC32C_H_
#define DUMPCAST_STORE_SERVICE_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace dumpcast::service {

uint32_t Crc32c(std::string_view bytes);

}  // namespace dumpcast::service

#endif  // DUMPCAST_STORE_SERVICE_CRC32C_H_
