// SPDX-License-Identifier: Apache-2.0
// What dumpcast-send --kdump reads of a crashed kernel: vmcoreinfo's text up to a NUL, then memory,
// which holds page tables, sections, struct pages and perhaps a handover record, whose MAC is set
// right when it lies at kRecord.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kmod/core/send/handover.h"
#include "kmod/core/send/page_filter.h"
#include "protos/wire/bytes.h"

namespace {

constexpr size_t kRecord = 0x9000;

void Sign(std::vector<uint8_t>* memory) {
  dcast_handover record;
  if (memory->size() < kRecord + sizeof(record)) return;
  std::memcpy(&record, memory->data() + kRecord, sizeof(record));
  const size_t size = dcast_le32(record.size);
  if (size < sizeof(record) || size > memory->size() - kRecord) return;
  dumpcast::HostId host;
  std::copy(record.host_id, record.host_id + DCAST_ID_BYTES, host.begin());
  const dumpcast::ClusterKeys cluster = dumpcast::UnauthenticatedKeys();
  dcast_keys keys;
  dcast_keys_init(&keys, cluster.HostKey(host, 0)->data());
  const __le64 mac =
      dcast_to_le64(dcast_siphash(&keys.mac, memory->data() + kRecord + DCAST_HANDOVER_MAC_FROM,
                                  size - DCAST_HANDOVER_MAC_FROM));
  std::memcpy(memory->data() + kRecord + offsetof(dcast_handover, mac), &mac, sizeof(mac));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* nul = static_cast<const uint8_t*>(std::memchr(data, 0, size));
  if (nul == nullptr) return 0;
  const std::string text(reinterpret_cast<const char*>(data), static_cast<size_t>(nul - data));
  std::vector<uint8_t> memory(nul + 1, data + size);
  if (memory.empty()) return 0;
  Sign(&memory);
  auto source = dumpcast::MemorySource::FromBytes(memory.data(), memory.size(),
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
