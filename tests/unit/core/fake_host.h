// SPDX-License-Identifier: Apache-2.0
// A host without hardware: memory, streams, paths and a clock for the engine under test,
// and helpers that read what it sent and answer as relays do.
#ifndef DUMPCAST_TESTS_UNIT_CORE_FAKE_HOST_H_
#define DUMPCAST_TESTS_UNIT_CORE_FAKE_HOST_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kmod/core/dcast_sender.h"

namespace dumpcast {

struct SentPacket {
  unsigned path;
  unsigned lane;
  uint64_t time_ns;
  std::vector<uint8_t> bytes;
  const dcast_hdr& hdr() const { return *reinterpret_cast<const dcast_hdr*>(bytes.data()); }
  const uint8_t* payload() const { return bytes.data() + sizeof(dcast_hdr); }
  template <typename T>
  const T& as() const {
    return *reinterpret_cast<const T*>(payload());
  }
  uint64_t number() const { return dcast_le64(hdr().number); }
};

using BlockId = std::pair<unsigned, uint64_t>;  // class, number

class FakeHost {
 public:
  // Pages of zeros, of text and of noise, in classes 0..3, in the given RAM ranges.
  explicit FakeHost(const std::vector<std::pair<uint64_t, uint64_t>>& ram, uint32_t seed = 1);
  FakeHost(const FakeHost&) = delete;
  FakeHost& operator=(const FakeHost&) = delete;
  static dcast_config DefaultConfig();

  void Init();  // with `config`
  void Begin(uint8_t flags = 0);
  // Steps, with what helpers there are in between, and moves the clock until `done` or `limit_ns`
  // passed. False at the limit.
  bool Run(const std::function<bool()>& done, uint64_t limit_ns = 100'000'000'000);
  bool RunToPhase(dcast_phase phase, uint64_t limit_ns = 100'000'000'000);

  // Hands the engine a packet of relay `id`.
  void Reply(uint64_t id, dcast_type type, const void* payload, size_t len, unsigned path = 0);
  void Hello(uint64_t id, uint32_t pace_kib_s = 0, unsigned path = 0, uint64_t lanes = ~0ull);
  void Commit(uint64_t id, uint64_t lanes = ~0ull);
  void Nak(uint64_t id, std::vector<dcast_nak_entry> entries);
  void Admit(uint64_t id, dcast_verdict verdict, uint32_t wait_ms = 0);
  std::vector<uint8_t> MakeReply(uint64_t id, uint64_t seq, uint8_t type, const void* payload,
                                 size_t len) const;

  std::vector<const SentPacket*> Sent(dcast_type type, int path = -1) const;

  uint8_t ClassOf(uint64_t pfn) const;
  // What a page of the dump must be: the source's bytes.
  const uint8_t* Page(uint64_t pfn) const;

  dcast_secrets secrets = {};
  dcast_config config;
  dcast_rim rim;
  std::unique_ptr<dcast_sender> sender;
  uint64_t now_ns = 1'000'000'000;
  std::vector<SentPacket> packets;
  std::map<unsigned, std::string> streams;  // VMCOREINFO, NOTES, LOG
  std::vector<dcast_range> ranges;
  std::map<uint64_t, uint8_t> class_override;  // by pfn
  std::map<uint64_t, bool> unreadable;         // by pfn
  std::vector<bool> path_up = std::vector<bool>(DCAST_MAX_PATHS, true);
  std::vector<bool> path_blocked = std::vector<bool>(DCAST_MAX_PATHS, false);
  std::function<void(const SentPacket&)> on_packet;
  bool keep_packets = true;
  std::atomic<uint64_t> read_page_calls = 0;
  bool change_on_read = false;  // every read of a page differs: memory under DMA

 private:
  friend struct FakeRim;
  std::vector<uint8_t> scratch_;
  std::map<uint64_t, std::vector<uint8_t>> pages_;
  std::vector<uint8_t> tx_buffer_;
  bool tx_held_ = false;
  std::map<uint64_t, uint64_t> reply_seq_;
};

// Joins symbols to encodings and encodings to pages, knowing only the wire format.
class Reassembler {
 public:
  // Decodes with ISA-L. `drop` says which packets never arrive.
  void Add(const SentPacket& packet);
  struct Block {
    uint64_t digest = 0;
    std::vector<uint8_t> encoded;
  };
  // Complete blocks. A block is checked against its digest when it completes.
  std::map<BlockId, Block> blocks;
  std::map<BlockId, int> empties;
  uint64_t bad_digests = 0;
  dcast_keys keys;

  // Raw bytes of a complete block.
  static std::vector<uint8_t> Raw(const Block& block);
  static dcast_block_hdr Header(const Block& block);
  // Bytes of a stream, "" when a chunk is missing.
  std::string Stream(unsigned stream, uint64_t chunks) const;

 private:
  struct Partial {
    uint32_t len = 0;
    uint16_t symbol_size = 0;
    unsigned k = 0;
    std::map<unsigned, std::vector<uint8_t>> symbols;
  };
  std::map<std::pair<BlockId, uint64_t>, Partial> partial_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CORE_FAKE_HOST_H_
