// SPDX-License-Identifier: Apache-2.0
#ifndef DUMPCAST_CLIENT_CRC32C_H_
#define DUMPCAST_CLIENT_CRC32C_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace dumpcast {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4) as ReadDumpResponse.crc32c carries it. `data` is at
// most 2 GiB.
uint32_t Crc32c(absl::string_view data);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_CRC32C_H_
