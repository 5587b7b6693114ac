// SPDX-License-Identifier: Apache-2.0
// Symbols to blocks. Symbols join only with symbols of the same block and digest; the first copy
// of each counts, whichever path or origin brings it. Memory is bounded per dump and in all: what
// goes first is the block furthest on in the walk that nothing comes of, since blocks are asked for
// in the walk's order: what will be needed last, not what an answer is on its way for.
#ifndef DUMPCAST_RELAY_ASSEMBLE_H_
#define DUMPCAST_RELAY_ASSEMBLE_H_

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "protos/wire/auth.h"
#include "relay/counters.h"
#include "relay/fec.h"
#include "relay/packets.h"

namespace dumpcast {

// A block without its digest.
struct BlockName {
  uint8_t block_class = 0;
  uint64_t number = 0;
  auto operator<=>(const BlockName&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const BlockName& name) {
    return H::combine(std::move(h), name.block_class, name.number);
  }
};

// Memory of all assemblers together, and the counters that they share.
class AssemblyBudget {
 public:
  AssemblyBudget(uint64_t total_bytes, uint64_t dump_bytes)
      : total_bytes_(total_bytes), dump_bytes_(dump_bytes) {}
  uint64_t used() const { return used_; }
  // What each of those that have a dump may use when all want it, bytes.
  uint64_t share() const {
    return std::min(dump_bytes_, total_bytes_ / std::max<uint64_t>(1, assemblers_.size()));
  }
  // Of incomplete blocks, and of those that are not decoded yet.
  uint64_t waiting_symbols() const { return waiting_symbols_; }
  // So many of a block that Add() gave are no longer waited for.
  void NoteDecoded(unsigned symbols) { waiting_symbols_ -= symbols; }

 private:
  friend class Assembler;
  const uint64_t total_bytes_;
  const uint64_t dump_bytes_;
  uint64_t used_ = 0;
  uint64_t waiting_symbols_ = 0;
  std::vector<class Assembler*> assemblers_;
};

// The incomplete blocks of one dump.
class Assembler {
 public:
  // Of one block; an older one is stale then.
  static constexpr size_t kMaxEncodings = 4;

  // Both outlive the assembler.
  Assembler(AssemblyBudget* budget, Counters* counters);
  ~Assembler();
  Assembler(const Assembler&) = delete;
  Assembler& operator=(const Assembler&) = delete;

  struct Block {
    BlockKey key;
    std::string data;
    Gathered gathered;
  };
  // One valid SYMBOL of a block that is not held. Counts it (kStored, kDuplicate, kMismatch,
  // kMemory) and returns that; `block` is set when it can be decoded: DecodeBlock().
  Counter Add(TimeNs now, const dcast_hdr& hdr, std::string_view payload, const dcast_keys& keys,
              std::optional<Block>* block);

  // As in the packets of an encoding of which some symbols are here, but for the index.
  std::optional<dcast_hdr> HeaderOf(const BlockKey& key) const;
  // Makes the answer of a request. False, and nothing is changed, when there are none of those
  // wanted.
  bool FindSymbols(BlockSymbols* symbols) const;

  // The block is held by other means: its symbols are stale.
  void Drop(const BlockName& name);

  // What is incomplete, as repair needs it: of several encodings the newest, since the sender's
  // memory is likelier to give that one again.
  struct Partial {
    uint64_t digest = 0;
    uint64_t have = 0;  // bit i: symbol i
    uint16_t symbol_size = 0;
    uint8_t k = 0;
    uint8_t m = 0;          // parity symbols that the sender says it has sent
    TimeNs last_ns = 0;     // newest symbol
    bool changing = false;  // encodings before it were not completed: memory that changes
    // Symbols to ask for so that k are there: parity that nobody has, since it serves all relays
    // whatever each has lost; data when there is no more. More than are lacking
    // of a block that changes: its answer will be another encoding, and whole only with parity.
    uint64_t wanted() const;
  };
  std::optional<Partial> Find(const BlockName& name) const;
  // Blocks of which nothing has come since `before`, oldest first, at most `limit`.
  std::vector<BlockName> Quiet(TimeNs before, size_t limit) const;
  size_t blocks() const { return by_name_.size(); }

 private:
  struct Encoding {
    BlockKey key;
    uint32_t encoded_len = 0;
    uint16_t symbol_size = 0;
    uint8_t k = 0;
    uint8_t m = 0;
    uint64_t have = 0;
    uint64_t bytes = 0;
    TimeNs last_ns = 0;
    uint64_t last_symbol = 0;  // of symbols_
    std::string data;
    std::vector<ParitySymbol> parity;
  };
  using Encodings = std::list<Encoding>;  // oldest first

  // NULL when no symbol of it is here.
  const Encoding* FindEncoding(const BlockKey& key) const;
  bool MakeRoom(uint64_t bytes, const Encoding* keep);
  // What is given up for another; end() when there is nothing but `keep`.
  Encodings::iterator Victim(const Encoding* keep);
  // Frees the memory. Returns how many symbols it had; they go on waiting.
  unsigned Erase(Encodings::iterator encoding);
  // Counts the waiting symbols as `why`, and erases.
  void Remove(Encodings::iterator encoding, Counter why);
  Block Finish(Encodings::iterator encoding, const dcast_keys& keys);

  AssemblyBudget* budget_;
  Counters* counters_;
  Encodings encodings_;
  uint64_t used_ = 0;
  uint64_t symbols_ = 0;                                                  // that were added
  absl::btree_map<BlockName, std::vector<Encodings::iterator>> by_name_;  // in the walk's order
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_ASSEMBLE_H_
