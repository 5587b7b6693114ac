// SPDX-License-Identifier: Apache-2.0
// What a dump says about itself, and the views that trust it. Input: chunks, each a stream (1
// byte), a length (2 bytes, little-endian) and bytes, laid over the streams of a small good dump;
// META is changed in place, at an offset that the chunk's first two bytes give.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"
#include "store/vmcore/log_reader.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace {

// Reads a view here and there: its ends, and what lies around its first MiB.
void Sample(const absl::StatusOr<std::unique_ptr<dumpcast::FileView>>& view) {
  if (!view.ok()) return;
  std::string bytes(10000, '\0');
  const uint64_t size = (*view)->size();
  for (const uint64_t offset : {uint64_t{0}, uint64_t{4096}, size / 2, uint64_t{1} << 20, size}) {
    const uint64_t at = std::min(offset, size);
    const size_t len = std::min<uint64_t>(bytes.size(), size - at);
    if (!(*view)->Read(at, len, bytes.data()).ok()) std::abort();
  }
  if ((*view)->Read(size, 1, bytes.data()).ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dumpcast::DumpBuilder base = *dumpcast::DumpBuilder::FromText(R"(
    ram 0x1000 0x9f000
    ram 0x100000 0x200000
    page 1-0x20 1 own
    page 0x100-0x120 2 own
    text 0xffffffff81000000 0x100000 0x10000
    info OSRELEASE=6.1
    log last words
  )");
  dumpcast::DumpBuilder builder = base;
  builder.codec = 0;
  auto source = builder.Build();
  std::string encoded;
  if (!source->ReadBlock(0, 0, &encoded).ok()) std::abort();
  dcast_meta meta;
  std::memcpy(&meta, encoded.data() + sizeof(dcast_block_hdr), sizeof(meta));
  while (size > 3) {
    const unsigned stream = data[0] % DCAST_STREAMS;
    const size_t len = std::min<size_t>(data[1] | data[2] << 8, size - 3);
    std::string bytes(reinterpret_cast<const char*>(data + 3), len);
    data += 3 + len;
    size -= 3 + len;
    if (stream == DCAST_STREAM_META) {
      if (bytes.size() < 3) continue;
      const size_t at =
          (static_cast<uint8_t>(bytes[0]) | static_cast<uint8_t>(bytes[1]) << 8) % sizeof(meta);
      std::memcpy(reinterpret_cast<char*>(&meta) + at, bytes.data() + 2,
                  std::min(bytes.size() - 2, sizeof(meta) - at));
      continue;
    }
    if (stream == DCAST_STREAM_PRESENCE) bytes.resize(sizeof(dcast_presence));
    meta.stream_len[stream] = bytes.size();
    source->Put(0, dcast_class0_number(stream, 0), dumpcast::EncodeBlock(0, 0, 0, 0, 0, bytes));
  }
  source->Put(
      0, 0,
      dumpcast::EncodeBlock(0, 0, 0, 0, 0, {reinterpret_cast<const char*>(&meta), sizeof(meta)}));
  // Walking the windows of a petabyte is no fault, but no use here.
  if (meta.window_end > 1 << 20) {
    (void)dumpcast::DumpMeta::Load(*source).ok();
    return 0;
  }
  absl::StatusOr<std::shared_ptr<const dumpcast::MemoryView>> memory =
      dumpcast::MemoryView::Open(source);
  if (!memory.ok()) return 0;
  const auto [at, bytes] = (*memory)->meta().vmcoreinfo_in_notes();
  if (at + bytes > (*memory)->meta().notes().size()) std::abort();
  Sample(dumpcast::MakeElfView(*memory));
  Sample(dumpcast::MakeKdumpView(*memory));
  (void)dumpcast::ReadKernelLog(**memory).ok();
  return 0;
}
