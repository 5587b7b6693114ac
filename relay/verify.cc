// SPDX-License-Identifier: Apache-2.0
#include "relay/verify.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "protos/keys/siphash.h"

namespace dumpcast {
namespace {

constexpr size_t kTogether = 64;  // packets whose MACs are computed side by side
// Windows are numbered below 2^36: 52 bits of physical address.
constexpr uint64_t kMaxWindow = uint64_t{1} << 36;

bool ValidNumber(const dcast_hdr& hdr) {
  const uint64_t number = dcast_le64(hdr.number);
  if (hdr.block_class >= DCAST_CLASSES) return false;
  if (hdr.block_class == 0)
    return hdr.lane == 0 && (number >> DCAST_STREAM_SHIFT) < DCAST_STREAMS &&
           (number & ((uint64_t{1} << DCAST_STREAM_SHIFT) - 1)) < kMaxWindow;
  return number < kMaxWindow;
}

bool ValidSymbol(const dcast_hdr& hdr) {
  const uint32_t encoded_len = dcast_le32(hdr.encoded_len);
  const uint32_t symbol_size = dcast_le16(hdr.symbol_size);
  if (!ValidNumber(hdr) || hdr.digest == 0) return false;
  if (symbol_size < DCAST_MIN_SYMBOL_BYTES || symbol_size > DCAST_MAX_SYMBOL_BYTES ||
      symbol_size % 8 != 0)
    return false;
  if (encoded_len < sizeof(dcast_block_hdr) || encoded_len > DCAST_MAX_ENCODED_BYTES) return false;
  if (hdr.k != (encoded_len + symbol_size - 1) / symbol_size || hdr.k >= DCAST_MAX_SYMBOLS)
    return false;
  if (hdr.index >= DCAST_MAX_SYMBOLS) return false;
  return dcast_le16(hdr.payload_len) ==
         dcast_symbol_len(encoded_len, symbol_size, hdr.k, hdr.index);
}

bool ValidNak(std::string_view payload) {
  dcast_nak nak;
  if (payload.size() < sizeof(nak)) return false;
  std::memcpy(&nak, payload.data(), sizeof(nak));
  const uint64_t entry_bytes = dcast_le32(nak.entry_bytes);
  return entry_bytes >= sizeof(dcast_nak_entry) && entry_bytes <= 4096 &&
         (payload.size() - sizeof(nak)) / entry_bytes >= dcast_le32(nak.entries);
}

// The verdict on a packet whose MAC was right. A newer minor version may append to a payload.
Counter Judge(const dcast_hdr& hdr, std::string_view payload) {
  if (hdr.lane >= DCAST_MAX_LANES || hdr.path >= DCAST_MAX_PATHS) return Counter::kFormat;
  switch (hdr.type) {
    case DCAST_ANNOUNCE:
      return payload.size() >= sizeof(dcast_announce) ? Counter::kAnnounce : Counter::kFormat;
    case DCAST_SYMBOL:
      return ValidSymbol(hdr) ? Counter::kSymbol : Counter::kFormat;
    case DCAST_EMPTY:
      return ValidNumber(hdr) ? Counter::kEmpty : Counter::kFormat;
    case DCAST_END:
      return payload.size() >= sizeof(dcast_end) ? Counter::kEnd : Counter::kFormat;
    case DCAST_NAK:
      return ValidNak(payload) ? Counter::kPeerPacket : Counter::kFormat;
    case DCAST_HELLO:
    case DCAST_PACE:
    case DCAST_ADMIT:
    case DCAST_COMMIT:
      return Counter::kPeerPacket;
    default:
      return Counter::kUnknownType;
  }
}

}  // namespace

DumpKey Verified::dump() const {
  DumpKey key;
  std::memcpy(key.host_id.data(), hdr.host_id, key.host_id.size());
  std::memcpy(key.dump_id.data(), hdr.dump_id, key.dump_id.size());
  return key;
}

struct Verifier::Cache {
  absl::flat_hash_map<std::pair<Id16, uint16_t>, std::shared_ptr<const dcast_keys>> keys;
};

Verifier::Verifier(KeyLookup keys) : lookup_(std::move(keys)), cache_(std::make_unique<Cache>()) {}
Verifier::~Verifier() = default;

void Verifier::Forget() {
  cache_->keys.clear();
}

Verified Verifier::Verify(const Datagram& datagram, const uint64_t* mac) {
  Verified v;
  v.from = datagram.from;
  const std::string_view bytes = datagram.payload;
  const auto refuse = [&v](Counter why) {
    v.verdict = why;
    return v;
  };
  // The magic comes first, so that foreign traffic is told from damaged packets of ours.
  constexpr size_t kVersionEnd = offsetof(dcast_hdr, minor) + 1;
  if (bytes.size() < kVersionEnd) return refuse(Counter::kTruncated);
  std::memcpy(&v.hdr, bytes.data(), std::min(bytes.size(), sizeof(v.hdr)));
  if (dcast_le32(v.hdr.magic) != DCAST_MAGIC) return refuse(Counter::kMagic);
  if (v.hdr.major != DCAST_VERSION_MAJOR) return refuse(Counter::kVersion);
  if (datagram.truncated || bytes.size() < sizeof(v.hdr)) return refuse(Counter::kTruncated);
  const size_t payload_len = dcast_le16(v.hdr.payload_len);
  if (bytes.size() < sizeof(v.hdr) + payload_len) return refuse(Counter::kTruncated);

  Id16 host_id;
  std::memcpy(host_id.data(), v.hdr.host_id, host_id.size());
  const std::pair<Id16, uint16_t> name(host_id, dcast_le16(v.hdr.key_epoch));
  const auto cached = cache_->keys.find(name);
  if (cached != cache_->keys.end()) {
    v.keys = cached->second;
  } else {
    const HostKeys host = lookup_(name.first, name.second);
    if (host.revoked) return refuse(Counter::kRevoked);
    if (!host.keys) return refuse(Counter::kUnknownEpoch);
    v.keys = std::make_shared<const dcast_keys>(*host.keys);
  }
  if ((mac != nullptr ? *mac : dcast_packet_mac(v.keys.get(), bytes.data(), bytes.size())) !=
      dcast_le64(v.hdr.mac)) {
    v.keys.reset();
    return refuse(Counter::kMac);
  }
  if (cached == cache_->keys.end()) {
    if (cache_->keys.size() >= kMaxCachedHosts) cache_->keys.clear();
    cache_->keys.emplace(name, v.keys);
  }
  if (bytes.size() != sizeof(v.hdr) + payload_len) return refuse(Counter::kFormat);
  v.payload = bytes.substr(sizeof(v.hdr), payload_len);
  return refuse(Judge(v.hdr, v.payload));
}

uint64_t Verifier::Macs(std::span<const Datagram> datagrams, uint64_t* macs) const {
  constexpr size_t kHostAt = offsetof(dcast_hdr, host_id),
                   kEpochAt = offsetof(dcast_hdr, key_epoch);
  // Of one length. Constant sizes, so that it is a few instructions for each packet.
  const auto alike = [](const char* a, const char* b) {
    return std::memcmp(a + kHostAt, b + kHostAt, sizeof(dcast_hdr::host_id)) == 0 &&
           std::memcmp(a + kEpochAt, b + kEpochAt, sizeof(dcast_hdr::key_epoch)) == 0;
  };
  uint64_t seen = 0, known = 0;
  for (size_t i = 0; i < datagrams.size(); ++i) {
    const std::string_view first = datagrams[i].payload;
    if (seen >> i & 1 || first.size() < sizeof(dcast_hdr)) continue;
    std::array<size_t, kTogether> indices;
    std::array<const char*, kTogether> packets;
    size_t count = 0;
    for (size_t j = i; j < datagrams.size(); ++j) {
      const std::string_view other = datagrams[j].payload;
      if (seen >> j & 1 || other.size() != first.size() || !alike(first.data(), other.data()))
        continue;
      seen |= uint64_t{1} << j;
      indices[count] = j;
      packets[count++] = other.data();
    }
    dcast_hdr hdr;
    std::memcpy(&hdr, first.data(), sizeof(hdr));
    std::pair<Id16, uint16_t> name({}, dcast_le16(hdr.key_epoch));
    std::memcpy(name.first.data(), hdr.host_id, name.first.size());
    const auto cached = cache_->keys.find(name);
    if (cached == cache_->keys.end()) continue;
    std::array<uint64_t, kTogether> of_these;
    PacketMacs(*cached->second, {packets.data(), count}, first.size(), of_these.data());
    for (size_t k = 0; k < count; ++k) {
      macs[indices[k]] = of_these[k];
      known |= uint64_t{1} << indices[k];
    }
  }
  return known;
}

void Verifier::VerifyAll(std::span<const Datagram> datagrams, std::vector<Verified>* verified) {
  std::array<uint64_t, kTogether> macs;
  while (!datagrams.empty()) {
    const auto some = datagrams.first(std::min(kTogether, datagrams.size()));
    const uint64_t known = Macs(some, macs.data());
    for (size_t i = 0; i < some.size(); ++i)
      verified->push_back(Verify(some[i], known >> i & 1 ? &macs[i] : nullptr));
    datagrams = datagrams.subspan(some.size());
  }
}

}  // namespace dumpcast
