// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/compress.h"

#include <lz4.h>
#include <zstd.h>

#include <memory>

namespace dumpcast {
namespace {

// As the module does: of all levels the one whose speed is nearest to LZ4's.
constexpr int kZstdLevel = 1;

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

uint32_t Zstd(const void* src, uint32_t len, void* dst, uint32_t cap) {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (context == nullptr) return 0;
  const size_t n = ZSTD_compressCCtx(context.get(), dst, cap, src, len, kZstdLevel);
  return ZSTD_isError(n) ? 0 : static_cast<uint32_t>(n);
}

}  // namespace

uint32_t CompressBlock(dcast_codec codec, const void* src, uint32_t len, void* dst, uint32_t cap) {
  switch (codec) {
    case DCAST_CODEC_LZ4: {
      const int n = LZ4_compress_default(static_cast<const char*>(src), static_cast<char*>(dst),
                                         static_cast<int>(len), static_cast<int>(cap));
      return n > 0 ? static_cast<uint32_t>(n) : 0;
    }
    case DCAST_CODEC_ZSTD:
      return Zstd(src, len, dst, cap);
    default:
      return 0;
  }
}

}  // namespace dumpcast
