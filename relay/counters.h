// SPDX-License-Identifier: Apache-2.0
// Every counter of the relay's engine, in one table.
#ifndef DUMPCAST_RELAY_COUNTERS_H_
#define DUMPCAST_RELAY_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dumpcast {

// name, text. The groups are sums: see Counters::Check().
// clang-format off
#define DUMPCAST_COUNTERS(X)                                                                     \
  X(kReceived, "received", "datagrams that came in")                                             \
  /* received = the next group: a datagram ends in exactly one of these */                       \
  X(kTruncated, "refused_truncated", "shorter than their header says, or cut by the socket")     \
  X(kMagic, "refused_magic", "not dumpcast packets")                                             \
  X(kVersion, "refused_version", "of a newer major version")                                     \
  X(kUnknownEpoch, "refused_unknown_epoch", "of a key epoch that the key file does not have")    \
  X(kRevoked, "refused_revoked", "of a host that the key file revokes")                          \
  X(kMac, "refused_mac", "with a wrong MAC: forged, damaged, or another cluster key")            \
  X(kFormat, "refused_format", "with a valid MAC and impossible fields")                         \
  X(kUnknownType, "refused_type", "with a valid MAC and a type that this version does not know") \
  X(kReplay, "refused_replay", "with an origin, path, lane and seq that had come before")        \
  X(kOwn, "refused_own", "that this relay had sent itself")                                      \
  X(kAnnounce, "announces", "ANNOUNCE taken")                                                    \
  X(kSymbol, "symbols", "SYMBOL taken")                                                          \
  X(kEmpty, "empties", "EMPTY taken")                                                            \
  X(kEnd, "ends", "END taken")                                                                   \
  X(kPeerPacket, "peer_packets", "packets of other relays taken")                                \
  /* symbols + symbols_peer = the next group */                                                  \
  X(kStored, "symbols_stored", "the first copy of a symbol, put into its block")                 \
  X(kDuplicate, "symbols_duplicate", "another path or origin had brought it")                    \
  X(kHeld, "symbols_held", "of a block that was held already")                                   \
  X(kSealed, "symbols_sealed", "of a sealed dump")                                               \
  X(kDeclined, "symbols_declined", "of a deleted or evicted dump, or of one too many")         \
  X(kMemory, "symbols_memory", "no memory for another block")                                    \
  X(kStoreFull, "symbols_store_full", "the store refuses blocks, or its queue is full")          \
  X(kMismatch, "symbols_mismatch", "contradicting the lengths of an earlier symbol of the block") \
  /* symbols_stored = the next group + those waiting in blocks incomplete or not decoded yet */  \
  X(kInBlocks, "stored_in_blocks", "became a block")                                             \
  X(kStale, "stored_stale", "of an encoding that another one of the same block overtook")        \
  X(kEvicted, "stored_evicted", "dropped with an incomplete block, for memory")          \
  X(kBadDigest, "stored_bad_digest", "of a block whose digest was wrong")                        \
  X(kForgotten, "stored_forgotten", "of a dump that was sealed or deleted meanwhile")            \
  /* the rest counts by itself */                                                                \
  X(kBlocks, "blocks", "blocks completed from symbols")                                          \
  X(kBlocksFec, "blocks_fec", "of these, with the help of parity")                               \
  X(kBlocksEmpty, "blocks_empty", "blocks that the sender answered with EMPTY")                  \
  X(kSymbolsPeer, "symbols_peer", "symbols fetched from peers")                                  \
  X(kBlocksPeer, "blocks_peer", "blocks fetched from peers")                                     \
  X(kBlocksReplicated, "blocks_replicated", "blocks that a peer wrote to the store")             \
  X(kPeerBad, "peer_bad_digest", "blocks from peers whose digest was wrong")                     \
  X(kBlocksEvicted, "blocks_evicted", "incomplete blocks dropped for memory")                    \
  X(kBlocksBadDigest, "blocks_bad_digest", "blocks whose digest was wrong")                      \
  X(kStoreRefused, "store_refused", "blocks that the store refused")                             \
  X(kSocketDrops, "socket_drops", "datagrams that the kernel dropped at the socket")             \
  X(kNaks, "naks_sent", "NAKs sent, counted once for all paths")                                 \
  X(kNakBlocks, "nak_blocks", "blocks asked for in NAKs")                                        \
  X(kNakSuppressed, "nak_suppressed", "blocks not asked for since another relay had asked")      \
  X(kPeerFetches, "peer_fetches", "requests to peers")                                           \
  X(kHellos, "hellos_sent", "HELLOs sent")                                                       \
  X(kPaces, "paces_sent", "PACEs sent")                                                          \
  X(kCommits, "commits_sent", "COMMITs sent")                                                    \
  X(kAdmits, "admits_sent", "ADMITs sent")                                                       \
  X(kClass0Bad, "class0_unreadable", "class 0 blocks whose content made no sense")
// clang-format on

enum class Counter : size_t {
#define DUMPCAST_COUNTER_ENUM(id, name, text) id,
  DUMPCAST_COUNTERS(DUMPCAST_COUNTER_ENUM)
#undef DUMPCAST_COUNTER_ENUM
      kCount
};
inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kCount);

std::string_view CounterName(Counter counter);
std::string_view CounterText(Counter counter);

class Counters {
 public:
  void Add(Counter counter, uint64_t n = 1) { values_[static_cast<size_t>(counter)] += n; }
  uint64_t operator[](Counter counter) const { return values_[static_cast<size_t>(counter)]; }

  // Empty when the sums close; else which one does not. `waiting_symbols`: those in blocks
  // that are incomplete or not decoded now.
  std::string Check(uint64_t waiting_symbols) const;
  // `name=value` of all that are not 0, in table order.
  std::string ToString() const;

 private:
  std::array<uint64_t, kCounterCount> values_{};
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_COUNTERS_H_
