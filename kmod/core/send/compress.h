// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The codecs of a block encoding (WIRE.md, "Block encoding"), as user-space libraries.
#ifndef DUMPCAST_KMOD_CORE_SEND_COMPRESS_H_
#define DUMPCAST_KMOD_CORE_SEND_COMPRESS_H_

#include <cstdint>

#include "protos/wire/dumpcast_wire.h"

namespace dumpcast {

// LZ4 block format or a zstd frame. Bytes written to dst, or 0 when they would not fit into cap
// or for a codec that does not compress. Any thread.
uint32_t CompressBlock(dcast_codec codec, const void* src, uint32_t len, void* dst, uint32_t cap);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_COMPRESS_H_
