// SPDX-License-Identifier: Apache-2.0
#include "relay/reply.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace dumpcast {
namespace {

template <typename T>
std::string BytesOf(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::string MakePacket(uint8_t type, const ReplyTo& to, uint64_t relay_id, uint64_t seq,
                       uint8_t path, std::string_view payload) {
  dcast_hdr hdr{};
  hdr.magic = dcast_to_le32(DCAST_MAGIC);
  hdr.major = DCAST_VERSION_MAJOR;
  hdr.minor = DCAST_VERSION_MINOR;
  hdr.type = type;
  std::memcpy(hdr.host_id, to.dump.host_id.data(), sizeof(hdr.host_id));
  std::memcpy(hdr.dump_id, to.dump.dump_id.data(), sizeof(hdr.dump_id));
  hdr.origin = dcast_to_le64(relay_id);
  hdr.seq = dcast_to_le64(seq);
  hdr.payload_len = dcast_to_le16(static_cast<uint16_t>(payload.size()));
  hdr.key_epoch = dcast_to_le16(to.key_epoch);
  hdr.path = path;
  std::string packet = BytesOf(hdr);
  packet.append(payload);
  const uint64_t mac = dcast_to_le64(dcast_packet_mac(to.keys, packet.data(), packet.size()));
  std::memcpy(packet.data() + offsetof(dcast_hdr, mac), &mac, sizeof(mac));
  return packet;
}

std::string HelloPayload(uint64_t announce_seq, uint64_t lane_mask, uint32_t pace_kib_s,
                         std::string_view name) {
  dcast_hello hello{};
  hello.announce_seq = announce_seq;  // taken from the wire as it was
  hello.lane_mask = dcast_to_le64(lane_mask);
  hello.pace_kib_s = dcast_to_le32(pace_kib_s);
  std::memcpy(hello.name, name.data(), std::min(name.size(), sizeof(hello.name) - 1));
  return BytesOf(hello);
}

std::string NakPayload(const std::vector<dcast_nak_entry>& entries) {
  dcast_nak nak{};
  nak.entries = dcast_to_le32(static_cast<uint32_t>(entries.size()));
  nak.entry_bytes = dcast_to_le32(sizeof(dcast_nak_entry));
  std::string payload = BytesOf(nak);
  for (const dcast_nak_entry& entry : entries) payload += BytesOf(entry);
  return payload;
}

std::string PacePayload(uint32_t kib_s, uint32_t lacking) {
  dcast_pace pace{};
  pace.kib_s = dcast_to_le32(kib_s);
  pace.lacking = dcast_to_le32(lacking);
  return BytesOf(pace);
}

std::string AdmitPayload(dcast_verdict verdict, TimeNs wait_ns) {
  dcast_admit admit{};
  admit.verdict = dcast_to_le32(verdict);
  admit.wait_ms = dcast_to_le32(static_cast<uint32_t>(
      std::min<TimeNs>((wait_ns + kMillisecond - 1) / kMillisecond, 0xffffffffu)));
  return BytesOf(admit);
}

std::string CommitPayload(uint64_t lane_mask, uint64_t blocks) {
  dcast_commit commit{};
  commit.lane_mask = dcast_to_le64(lane_mask);
  commit.blocks = dcast_to_le64(blocks);
  return BytesOf(commit);
}

}  // namespace dumpcast
