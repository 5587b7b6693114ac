// SPDX-License-Identifier: Apache-2.0
// First stage: what may be believed. Nothing of a packet is looked at before its MAC but what is
// needed to check it; a refused packet costs no memory.
#ifndef DUMPCAST_RELAY_VERIFY_H_
#define DUMPCAST_RELAY_VERIFY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "protos/wire/auth.h"
#include "relay/counters.h"
#include "relay/packets.h"

namespace dumpcast {

// The keys of a host under an epoch, or why it has none.
struct HostKeys {
  // Implicit: who knows of no revoked hosts has just keys or none.
  HostKeys(std::optional<dcast_keys> found) : keys(found) {}

  std::optional<dcast_keys> keys;  // nullopt: the epoch is unknown
  bool revoked = false;            // it is not to be believed, whatever its keys
};

// Called from every thread that has a Verifier.
using KeyLookup = std::function<HostKeys(const Id16& host_id, uint16_t epoch)>;

// A packet that passed, or why it did not.
struct Verified {
  // kAnnounce, kSymbol, kEmpty, kEnd, kPeerPacket: taken, and the rest is valid. Any other:
  // refused.
  Counter verdict = Counter::kTruncated;
  dcast_hdr hdr{};           // as on the wire, little-endian
  std::string_view payload;  // payload_len bytes, of the caller's buffer
  Address from;
  std::shared_ptr<const dcast_keys> keys;

  bool ok() const { return verdict >= Counter::kAnnounce && verdict <= Counter::kPeerPacket; }
  DumpKey dump() const;
};

// Thread safety: one caller at a time; keep one per thread.
class Verifier {
 public:
  // Remembers the keys of at most this many hosts, only after a MAC was right.
  static constexpr size_t kMaxCachedHosts = 16384;

  explicit Verifier(KeyLookup keys);
  ~Verifier();
  Verified Verify(const Datagram& datagram) { return Verify(datagram, nullptr); }
  // Appends what Verify() says of each, for less than as many calls cost.
  void VerifyAll(std::span<const Datagram> datagrams, std::vector<Verified>* verified);
  // Looks up every host anew: what the lookup answers has changed.
  void Forget();

 private:
  struct Cache;
  // mac: what it must be, if it is known.
  Verified Verify(const Datagram& datagram, const uint64_t* mac);
  // The MACs of packets whose keys are remembered, those of one length, host and epoch side by
  // side. datagrams: at most 64. macs: as many. Returns bit i when macs[i] is known.
  uint64_t Macs(std::span<const Datagram> datagrams, uint64_t* macs) const;

  KeyLookup lookup_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_VERIFY_H_
