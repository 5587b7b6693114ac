// SPDX-License-Identifier: Apache-2.0
// What crosses the engine's edge: datagrams in and out, work for the store, for peers, and events.
// Plain values; whoever takes them owns them.
#ifndef DUMPCAST_RELAY_PACKETS_H_
#define DUMPCAST_RELAY_PACKETS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protos/wire/auth.h"
#include "relay/fec.h"
#include "store/block_set.h"
#include "store/block_symbols.h"
#include "store/ids.h"

namespace dumpcast {

// Nanoseconds on the caller's monotonic clock.
using TimeNs = uint64_t;
inline constexpr TimeNs kNever = ~TimeNs{0};
inline constexpr TimeNs kMillisecond = 1'000'000;
inline constexpr TimeNs kSecond = 1'000'000'000;

// A UDP address as the rim knows it (a sockaddr_in or sockaddr_in6, and the interface that the
// packet came in on, 0 when unknown). The engine only compares and hands it back.
struct Address {
  std::array<uint8_t, 28> bytes{};
  uint32_t ifindex = 0;
  auto operator<=>(const Address&) const = default;
};

// One datagram that came in. The payload is the caller's and is not kept.
struct Datagram {
  std::string_view payload;
  Address from;
  bool truncated = false;  // the socket had to cut it
};

// One datagram to send.
struct Reply {
  Address to;
  std::string payload;
};

// What a block is decoded from, beside its data symbols: see DecodeBlock().
struct Gathered {
  uint32_t encoded_len = 0;
  uint16_t symbol_size = 0;
  uint8_t k = 0;
  uint64_t have = 0;  // bit i: symbol i; k or more of them
  std::vector<ParitySymbol> parity;
  dcast_keys keys{};
};

// Work for the store, to be begun in the order given and reported by Engine::StoreDone(). What
// follows a flush need not wait for its end.
struct StoreOp {
  enum class Kind {
    kOpenDump,  // make the dump's record, or clear its seal; durable before the next op
    kPut,       // DecodeOps(), then BlockSink::PutBlock()
    kFlush,     // BlockSink::Flush()
    kCommit,    // write the committed lanes into the record; follows a kFlush that was OK
    kSeal,   // write the seal and the committed lanes; when complete, follows a kFlush that was OK
    kHost,   // write the host's record
    kProbe,  // nothing: OK when the store takes blocks
  };
  static constexpr size_t kKinds = 7;
  Kind kind = Kind::kPut;
  uint64_t id = 0;  // rises by 1
  DumpKey dump;
  // kOpenDump.
  uint16_t key_epoch = 0;
  bool live = false;
  bool test = false;
  // kPut.
  BlockKey key;
  std::string encoded;               // with `gathered`: its data symbols
  std::optional<Gathered> gathered;  // still to be decoded
  // kSeal: of the crash, zeros when there is none.
  std::array<uint8_t, DCAST_SIGNATURE_BYTES> signature{};
  // kSeal; of these kCommit has the lanes only.
  bool complete = false;
  std::string reason;
  uint64_t committed_lanes = 0;
  // kHost (dump.host_id names it).
  std::string hostname, kernel_release;
  Id16 boot_id{};
  uint64_t memory_bytes = 0;
  uint32_t paths = 0;
  uint32_t interval_ms = 0;
  bool disarmed = false;
  uint64_t announce_unix_ns = 0;
  std::vector<Id16> former_boots;
};

// Blocks, and symbols of others, to fetch from peers; answered by Engine::PeerFetched() with the
// same id, also when no peer is up. At most one is open per dump.
struct PeerFetch {
  uint64_t id = 0;
  DumpKey dump;
  uint16_t key_epoch = 0;
  std::vector<BlockRun> runs;
  std::vector<BlockSymbols> symbols;  // without their bytes
};

struct PeerBlock {
  BlockKey key;
  std::string encoded;
};

struct PeerResult {
  std::vector<PeerBlock> blocks;
  std::vector<BlockSymbols> symbols;  // of those that were asked for
  uint32_t peers_asked = 0;           // that answered
  bool more = false;                  // the caller cut the answer short: ask again at once
};

// What a person may want to read in the log.
struct Event {
  enum class Kind {
    kHostArmed,
    kHostRebooted,
    kHostGoodbye,
    kDumpBegun,
    kDumpResumed,
    kClass0Held,  // META and the memory map are there
    kSenderDone,  // END heard, or the sender said that it has ended
    kSenderSilent,
    kCommitted,  // COMMIT sent for the first time for these lanes
    kAdmission,  // not every memory is wanted: what the host is told, and why
    kSealedComplete,
    kSealedIncomplete,
    kDeclined,     // packets of a deleted or evicted dump
    kDiskFull,     // the store refuses a new dump, or blocks
    kDiskRoom,     // it takes blocks again
    kEndMismatch,  // the sender's count of blocks differs from its own presence
    kBadVersion,   // a newer major version
  };
  Kind kind = Kind::kDumpBegun;
  DumpKey dump;      // dump_id zero when it is about a host
  std::string text;  // one line, without the ids
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_PACKETS_H_
