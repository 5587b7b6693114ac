// SPDX-License-Identifier: Apache-2.0
// A printk ring buffer in memory that somebody else wrote. Input: the number of bytes (2,
// little-endian) of a vmcoreinfo that replaces the good one when it is not 0, those bytes, then
// pokes: an offset into 256 KiB of memory (3 bytes) and 8 bytes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "store/vmcore/log_reader.h"
#include "tests/unit/vmcore/log_ring.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dumpcast::DumpBuilder builder;
  builder.codec = 0;
  builder.ram = {{0, 0x40000}};
  for (uint64_t pfn = 0; pfn < 0x40; ++pfn) builder.AddPage(pfn, 1);
  dumpcast::LogRing ring(&builder, 0x1000, 0x2000, 0x10000, 0x20000);
  for (int i = 0; i < 12; ++i) ring.Add(static_cast<uint64_t>(i) * 1'000'000, "a line of the log");
  if (size < 2) return 0;
  const size_t len = std::min<size_t>(data[0] | data[1] << 8, size - 2);
  if (len != 0) builder.vmcoreinfo.assign(reinterpret_cast<const char*>(data + 2), len);
  builder.vmcoreinfo += "SYMBOL(swapper_pg_dir)=ffffffff80030000\nNUMBER(phys_base)=0\n";
  data += 2 + len;
  size -= 2 + len;
  for (; size >= 11; data += 11, size -= 11) {
    const uint64_t at = (data[0] | data[1] << 8 | data[2] << 16) % 0x3fff8;
    builder.Write(at, {reinterpret_cast<const char*>(data + 3), 8});
  }
  absl::StatusOr<std::shared_ptr<const dumpcast::MemoryView>> memory =
      dumpcast::MemoryView::Open(builder.Build());
  if (!memory.ok()) std::abort();
  absl::StatusOr<dumpcast::PrintkRing> read = dumpcast::ReadPrintkRing(**memory);
  if (read.ok() && !read->text.empty() && read->text.back() != '\n') std::abort();
  return 0;
}
