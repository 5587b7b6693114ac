// SPDX-License-Identifier: Apache-2.0
// What dumpcast-send --kdump reads of a crashed kernel: vmcoreinfo's text up to a NUL, then memory,
// which holds page tables, sections, struct pages and perhaps a handover record.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kmod/core/send/handover.h"
#include "kmod/core/send/page_filter.h"
#include "protos/wire/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* nul = static_cast<const uint8_t*>(std::memchr(data, 0, size));
  if (nul == nullptr) return 0;
  const std::string text(reinterpret_cast<const char*>(data), static_cast<size_t>(nul - data));
  const uint8_t* memory = nul + 1;
  const size_t bytes = size - text.size() - 1;
  if (bytes == 0) return 0;
  auto source = dumpcast::MemorySource::FromBytes(memory, bytes,
                                                  dumpcast::MemorySource::Format::kRaw, "fuzz");
  if (!source.ok()) return 0;
  auto filter = dumpcast::PageFilter::Create(
      [&](uint64_t at, void* dst, size_t n) { return (*source)->ReadPhysical(at, dst, n); }, text);
  if (!filter.ok()) return 0;
  (*source)->SetFilter(*std::move(filter), 31);
  const auto found = dumpcast::FindHandover(**source, dumpcast::UnauthenticatedKeys());
  if (!found.ok()) return 0;
  dcast_config config = {};
  std::vector<dumpcast::UdpPathOptions> paths;
  dumpcast::ApplyHandover(*found, &config, &paths);
  if (paths.empty() || paths.size() > DCAST_MAX_PATHS) __builtin_trap();
  (void)(*source)->TakeStreams(found->record.meta, found->streams);
  (void)dumpcast::Describe(*found);
  return 0;
}
