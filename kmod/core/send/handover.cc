// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/handover.h"

#include <net/if.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kMaxStreamBytes = 64 << 20;

struct Seen {
  unsigned records = 0;  // with the magic, at their own address
  unsigned no_key = 0;   // of an epoch that the key file has not
  unsigned bad_mac = 0;
};

// The record at a physical address, with its frames; false when it is none to be believed.
bool ReadRecord(const MemorySource& memory, uint64_t address, const ClusterKeys& keys, Seen* seen,
                Handover* out, std::vector<uint64_t>* frames) {
  dcast_handover& record = out->record;
  if (!memory.ReadPhysical(address, &record, sizeof(record))) return false;
  const uint64_t size = dcast_le32(record.size);
  const uint64_t count = dcast_le32(record.nr_frames);
  if (dcast_le64(record.paddr) != address || count > DCAST_HANDOVER_MAX_FRAMES ||
      size != sizeof(record) + count * sizeof(uint64_t)) {
    return false;
  }
  ++seen->records;
  const uint16_t epoch = dcast_le16(record.key_epoch);
  HostId host;
  std::copy(record.host_id, record.host_id + DCAST_ID_BYTES, host.begin());
  const std::optional<Key> key = keys.HostKey(host, epoch);
  if (!key) {
    ++seen->no_key;
    return false;
  }
  dcast_keys_init(&out->secrets.wire, key->data());
  std::vector<uint8_t> whole(size);
  if (!memory.ReadPhysical(address, whole.data(), whole.size())) return false;
  if (dcast_siphash(&out->secrets.wire.mac, whole.data() + DCAST_HANDOVER_MAC_FROM,
                    whole.size() - DCAST_HANDOVER_MAC_FROM) != dcast_le64(record.mac)) {
    ++seen->bad_mac;
    return false;
  }
  frames->resize(count);
  for (uint64_t i = 0; i < count; ++i) {
    (*frames)[i] = dcast_load64(whole.data() + sizeof(record) + i * sizeof(uint64_t));
  }
  return dcast_le16(record.version) == DCAST_HANDOVER_VERSION && record.paths != 0 &&
         record.paths <= DCAST_MAX_PATHS && record.page_shift == 12 &&
         dcast_le16(record.symbol_size) >= DCAST_MIN_SYMBOL_BYTES;
}

// What cannot be read is zero, as the first sender would have sent it.
std::string ReadStream(const MemorySource& memory, const Handover& handover, unsigned stream,
                       const std::vector<uint64_t>& frames) {
  const dcast_handover_stream& where = handover.record.streams[stream];
  std::string text(std::min(dcast_le64(handover.record.meta.stream_len[stream]), kMaxStreamBytes),
                   '\0');
  uint64_t frame = dcast_le32(where.frame), offset = dcast_le32(where.offset), at = 0;
  if (offset >= kPageBytes) return text;
  while (at < text.size() && frame < frames.size()) {
    const size_t n = std::min<size_t>(text.size() - at, kPageBytes - offset);
    if (frames[frame] >> 40 != 0 ||
        !memory.ReadPhysical(frames[frame] * kPageBytes + offset, text.data() + at, n)) {
      std::memset(text.data() + at, 0, n);
    }
    at += n;
    offset = 0;
    ++frame;
  }
  return text;
}

}  // namespace

absl::StatusOr<Handover> FindHandover(const MemorySource& memory, const ClusterKeys& keys) {
  Handover best;
  std::vector<uint64_t> best_frames;
  bool found = false;
  Seen seen;
  for (const dcast_range& range : memory.ranges()) {
    const uint64_t end = dcast_le64(range.end);
    for (uint64_t window = dcast_le64(range.start) / DCAST_WINDOW_BYTES;
         window * DCAST_WINDOW_BYTES < end; ++window) {
      uint8_t cls[DCAST_MAX_WINDOW_PAGES];
      memory.WindowClasses(window, cls);
      for (unsigned i = 0; i < DCAST_WINDOW_BYTES / kPageBytes; ++i) {
        const uint64_t address = window * DCAST_WINDOW_BYTES + i * kPageBytes;
        uint8_t magic[sizeof(DCAST_HANDOVER_MAGIC)];
        if (cls[i] == DCAST_CLASS_EXCLUDED || !memory.ReadPhysical(address, magic, sizeof(magic)) ||
            std::memcmp(magic, DCAST_HANDOVER_MAGIC, sizeof(magic)) != 0) {
          continue;
        }
        Handover handover;
        std::vector<uint64_t> frames;
        if (!ReadRecord(memory, address, keys, &seen, &handover, &frames)) continue;
        if (found && dcast_le64(handover.record.written_ns) <= dcast_le64(best.record.written_ns)) {
          continue;
        }
        best = std::move(handover);
        best_frames = std::move(frames);
        found = true;
      }
    }
  }
  if (!found) {
    std::string why = "no record of an armed dumpcast module is in this memory";
    if (seen.bad_mac != 0) {
      why =
          "a record of the dumpcast module is there, and its MAC does not match the key file; "
          "give the key file that the host was armed with";
    } else if (seen.no_key != 0) {
      why =
          "a record of the dumpcast module is there, and the key file lacks its epoch; "
          "give the key file that the host was armed with";
    } else if (seen.records != 0) {
      why =
          "a record of the dumpcast module is there, of a version that is not known; "
          "install the dumpcast-send of the same release";
    }
    return absl::NotFoundError(why);
  }
  if (best.begun()) {
    for (unsigned s = DCAST_STREAM_VMCOREINFO; s <= DCAST_STREAM_LOG; ++s) {
      best.streams[s] = ReadStream(memory, best, s, best_frames);
    }
  }
  if (best.record.encrypted == 0) return best;
  best.streams[DCAST_STREAM_KEYS] = ReadStream(memory, best, DCAST_STREAM_KEYS, best_frames);
  const dcast_keys wire = best.secrets.wire;
  if (!memory.ReadPhysical(dcast_le64(best.record.secrets_paddr), &best.secrets,
                           sizeof(best.secrets)) ||
      std::memcmp(&wire, &best.secrets.wire, sizeof(wire)) != 0 || best.secrets.encrypted != 1) {
    return absl::DataLossError(
        "the host encrypts its dumps, and the keys for that cannot be read from its memory; "
        "nothing "
        "is sent that others could read");
  }
  return best;
}

std::string Describe(const Handover& handover) {
  const dcast_handover& r = handover.record;
  const absl::string_view host(r.hostname, strnlen(r.hostname, sizeof(r.hostname)));
  const absl::string_view id(reinterpret_cast<const char*>(r.dump_id), sizeof(r.dump_id));
  const char* what = "the first kernel did not begin it: sending all";
  switch (r.state) {
    case DCAST_HANDOVER_DUMPING:
      what = "the first kernel was cut off in it: sending what relays miss";
      break;
    case DCAST_HANDOVER_ENDED:
      what = "the first kernel gave up: sending what relays miss";
      break;
    case DCAST_HANDOVER_COMMITTED:
      what = "relays have it all: nothing to do";
      break;
  }
  return absl::StrCat("dump ", absl::BytesToHexString(id), " of ", host, ": ", what);
}

void ApplyHandover(const Handover& handover, dcast_config* config,
                   std::vector<UdpPathOptions>* paths) {
  const dcast_handover& r = handover.record;
  std::memcpy(config->host_id, r.host_id, DCAST_ID_BYTES);
  std::memcpy(config->boot_id, r.boot_id, DCAST_ID_BYTES);
  std::memcpy(config->dump_id, r.dump_id, DCAST_ID_BYTES);
  config->key_epoch = dcast_le16(r.key_epoch);
  config->symbol_size = dcast_le16(r.symbol_size);
  config->lanes = r.lanes;
  config->mode = r.mode;
  config->page_shift = r.page_shift;
  config->dump_level = r.dump_level;
  config->slots = r.slots;
  config->parity_percent = r.parity_percent;
  config->parity_percent_blind = r.parity_percent_blind;
  // The first sender's default counts relays that this one may not have heard yet.
  config->commits_wanted = r.commits_wanted != 0 ? r.commits_wanted : r.relays >= 2 ? 2 : 0;
  if (config->rate_kib_s == 0) config->rate_kib_s = dcast_le32(r.rate_kib_s);
  std::memcpy(config->hostname, r.hostname, sizeof(config->hostname));
  config->hostname[sizeof(config->hostname) - 1] = 0;
  std::memcpy(config->release, r.meta.release, sizeof(config->release));
  config->release[sizeof(config->release) - 1] = 0;
  if (!paths->empty()) return;
  for (unsigned i = 0; i < r.paths; ++i) {
    const dcast_handover_path& from = r.path[i];
    UdpPathOptions path;
    path.interface.assign(from.device, strnlen(from.device, sizeof(from.device)));
    if (if_nametoindex(path.interface.c_str()) == 0) path.interface.clear();
    path.source_port = dcast_le16(from.source_port);
    path.ttl = from.ttl != 0 ? from.ttl : 1;
    for (unsigned t = 0; t < std::min<unsigned>(from.nr_targets, DCAST_HANDOVER_MAX_TARGETS); ++t) {
      Endpoint endpoint;
      if (from.family == 6) {
        auto* v6 = reinterpret_cast<sockaddr_in6*>(&endpoint.addr);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(dcast_le16(from.port));
        std::memcpy(&v6->sin6_addr, from.targets[t], sizeof(v6->sin6_addr));
      } else {
        auto* v4 = reinterpret_cast<sockaddr_in*>(&endpoint.addr);
        v4->sin_family = AF_INET;
        v4->sin_port = htons(dcast_le16(from.port));
        std::memcpy(&v4->sin_addr, from.targets[t], sizeof(v4->sin_addr));
      }
      path.destinations.push_back(endpoint);
    }
    paths->push_back(std::move(path));
  }
  // Without a device of its name a path has only the routing table, and that is one path.
  const auto unbound = [](const UdpPathOptions& path) { return path.interface.empty(); };
  const auto first = std::find_if_not(paths->begin(), paths->end(), unbound);
  if (first != paths->end()) {
    paths->erase(std::remove_if(paths->begin(), paths->end(), unbound), paths->end());
  } else {
    paths->resize(1);
  }
}

}  // namespace dumpcast
