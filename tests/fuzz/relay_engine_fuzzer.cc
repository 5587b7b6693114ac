// SPDX-License-Identifier: Apache-2.0
// What hosts and peers, honest or not, can do to a relay: the input is a script of packets, of
// steps of the clock, and of answers of the store and of peers. A packet is either the input's own
// bytes, or one with a right MAC whose fields the input chooses: by then it has every right to be
// believed, and must still not break a bound or a sum.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "relay/decode.h"
#include "relay/engine.h"
#include "relay/fec.h"
#include "relay/reply.h"

namespace dumpcast {
namespace {

constexpr uint64_t kMemoryBytes = 64 << 10;
constexpr uint64_t kMaxSimulatedNs = 1000 * kSecond;

// Bytes of the input; zeros when there are no more.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool ended() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint64_t Word() {
    uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | Byte();
    return word;
  }
  // Mostly small, sometimes anything.
  uint64_t Number() {
    const uint8_t kind = Byte();
    return kind < 200 ? kind % 32 : kind < 250 ? uint64_t{Byte()} << (kind % 40) : Word();
  }
  std::string Bytes(size_t count) {
    count = std::min(count, size_);
    std::string bytes(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    size_ -= count;
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

class World {
 public:
  explicit World(Script* script)
      : script_(*script),
        engine_(
            Config(),
            [](const Id16&, uint16_t epoch) {
              return epoch > 2 ? std::nullopt : std::optional(kKeys);
            },
            [this] { return random_ = random_ * 6364136223846793005u + 1442695040888963407u; }) {}

  void Run() {
    while (!script_.ended() && now_ < kMaxSimulatedNs) {
      Step();
      if (!engine_.CheckCounters().empty()) __builtin_trap();
      if (engine_.assembly_bytes() > kMemoryBytes) __builtin_trap();
      for (const Reply& reply : engine_.TakeReplies()) {
        if (reply.payload.size() > 1500 || reply.payload.size() < sizeof(dcast_hdr))
          __builtin_trap();
      }
      (void)engine_.TakeEvents();
    }
    for (int i = 0; i < 50; ++i) Tick(kSecond);
    for (const auto& view : engine_.ListDumps()) (void)engine_.GetReceiveStatus(view.key);
  }

 private:
  static constexpr dcast_keys kKeys = {{1, 2}, {3, 4}};
  static EngineConfig Config() {
    EngineConfig config;
    config.relay_id = 1;
    config.name = "fuzzed";
    config.lane_mask = 3;
    config.dump_memory_bytes = kMemoryBytes / 2;
    config.total_memory_bytes = kMemoryBytes;
    config.store_queue_bytes = 256 << 10;
    config.max_dumps = 3;
    config.silent_ns = 2 * kSecond;
    config.seal_ns = 3 * kSecond;
    return config;
  }
  DumpKey Dump() {
    DumpKey key;
    const uint8_t which = script_.Byte();
    key.host_id.fill(which & 1);
    key.dump_id.fill(which >> 1 & 3);
    return key;
  }

  void Step() {
    switch (const uint8_t op = script_.Byte(); op % 16) {
      case 0:
        return Receive(script_.Bytes(script_.Number() % 2048), op >= 240);
      case 1:
        return Tick(script_.Number() * 10 * kMillisecond);
      case 2:
        return Work(op);
      case 3:
        return AnswerPeers();
      case 4:
        return Change();
      case 5:
        return Send(DCAST_ANNOUNCE);
      case 6:
        return Send(DCAST_END);
      case 7:
        return Send(DCAST_EMPTY);
      case 8:
        return Send(script_.Byte());
      case 9:
        return WholeBlock();
      default:
        return Send(DCAST_SYMBOL);
    }
  }

  // An exact allocation, so that reads beyond are seen.
  void Receive(const std::string& packet, bool truncated) {
    const std::unique_ptr<char[]> exact(new char[packet.size()]);
    std::memcpy(exact.get(), packet.data(), packet.size());
    Address from;
    from.bytes[0] = script_.Byte() % 4;
    engine_.Receive(now_, {{exact.get(), packet.size()}, from, truncated});
  }

  dcast_hdr Header(uint8_t type) {
    dcast_hdr hdr{};
    const DumpKey dump = Dump();
    hdr.magic = dcast_to_le32(DCAST_MAGIC);
    hdr.major = DCAST_VERSION_MAJOR;
    hdr.type = type;
    hdr.flags = script_.Byte();
    hdr.path = script_.Byte() % 10;
    hdr.lane = script_.Byte() % 3;
    std::memcpy(hdr.host_id, dump.host_id.data(), sizeof(hdr.host_id));
    std::memcpy(hdr.dump_id, dump.dump_id.data(), sizeof(hdr.dump_id));
    hdr.origin = dcast_to_le64(2 + script_.Byte() % 3);
    hdr.seq = dcast_to_le64(script_.Byte() < 230 ? ++seq_ : script_.Word());
    hdr.key_epoch = dcast_to_le16(1);
    return hdr;
  }
  void Seal(dcast_hdr hdr, const std::string& payload) {
    hdr.payload_len = dcast_to_le16(static_cast<uint16_t>(payload.size()));
    std::string packet(reinterpret_cast<const char*>(&hdr), sizeof(hdr));
    packet += payload;
    const uint64_t mac = dcast_to_le64(dcast_packet_mac(&kKeys, packet.data(), packet.size()));
    std::memcpy(packet.data() + offsetof(dcast_hdr, mac), &mac, sizeof(mac));
    Receive(packet, false);
  }

  // A packet whose lengths agree, or nearly.
  void Send(uint8_t type) {
    dcast_hdr hdr = Header(type);
    hdr.number = dcast_to_le64(script_.Number());
    hdr.block_class = script_.Byte() % 5;
    size_t payload = 0;
    if (type == DCAST_SYMBOL) {
      hdr.digest = dcast_to_le64(1 + script_.Byte() % 6);
      const uint32_t size = DCAST_MIN_SYMBOL_BYTES + 8 * (script_.Byte() % 4);
      const uint32_t len = 16 + script_.Byte() * (1 + script_.Byte() % 64);
      hdr.symbol_size = dcast_to_le16(static_cast<uint16_t>(size));
      hdr.encoded_len = dcast_to_le32(len);
      hdr.k = static_cast<uint8_t>((len + size - 1) / size);
      hdr.m = script_.Byte() % 8;
      hdr.index = script_.Byte() % 64;
      payload = dcast_symbol_len(len, size, hdr.k, hdr.index);
    } else if (type == DCAST_ANNOUNCE) {
      payload = sizeof(dcast_announce);
    } else if (type == DCAST_END) {
      payload = sizeof(dcast_end);
    } else if (type == DCAST_NAK) {
      payload = sizeof(dcast_nak) + (script_.Byte() % 4) * sizeof(dcast_nak_entry);
    }
    if (script_.Byte() > 250) payload += script_.Byte() % 9;
    std::string bytes = script_.Bytes(payload);
    bytes.resize(payload);
    if (type == DCAST_ANNOUNCE) bytes[offsetof(dcast_announce, state)] = script_.Byte() % 8;
    Seal(hdr, bytes);
  }

  // A block whose digest is right: its content is what the input says, class 0 included.
  void WholeBlock() {
    dcast_hdr hdr = Header(DCAST_SYMBOL);
    hdr.block_class = script_.Byte() % DCAST_CLASSES;
    uint64_t number = script_.Number();
    if (hdr.block_class == 0) {
      hdr.lane = 0;
      number = dcast_class0_number(static_cast<unsigned>(number % DCAST_STREAMS), number / 8 % 3);
    }
    std::string encoded = Encoding(hdr.block_class, number);
    hdr.number = dcast_to_le64(number);
    hdr.digest = dcast_to_le64(dcast_block_digest(&kKeys, hdr.block_class, number, encoded.data(),
                                                  static_cast<uint32_t>(encoded.size())));
    const uint32_t size = DCAST_MIN_SYMBOL_BYTES;
    const uint32_t len = static_cast<uint32_t>(encoded.size());
    hdr.symbol_size = dcast_to_le16(static_cast<uint16_t>(size));
    hdr.encoded_len = dcast_to_le32(len);
    hdr.k = static_cast<uint8_t>((len + size - 1) / size);
    const uint8_t lost = script_.Byte();  // replaced by parity
    encoded.resize(size_t{hdr.k} * size);
    for (unsigned i = 0; i < hdr.k; ++i) {
      const unsigned index = i == lost ? 63 : i;
      const uint32_t symbol = dcast_symbol_len(len, size, hdr.k, index);
      hdr.index = static_cast<uint8_t>(index);
      hdr.seq = dcast_to_le64(++seq_);
      Seal(hdr, index < hdr.k ? encoded.substr(size_t{index} * size, symbol)
                              : MakeParity(encoded.data(), size, hdr.k, index, symbol));
    }
  }
  std::string Encoding(uint8_t block_class, uint64_t number) {
    dcast_block_hdr hdr{};
    hdr.hdr_len = sizeof(hdr);
    std::string raw;
    if (block_class == 0 && number == 0 && script_.Byte() < 200) {
      dcast_meta meta{};
      meta.size = dcast_to_le32(sizeof(meta));
      meta.page_shift = 12;
      meta.lanes = dcast_to_le32(static_cast<uint32_t>(script_.Number()));
      meta.window_end = dcast_to_le64(script_.Number());
      for (auto& len : meta.stream_len) len = dcast_to_le64(script_.Number() * 100);
      raw.assign(reinterpret_cast<const char*>(&meta), sizeof(meta));
    } else if (block_class == 0 && number >> DCAST_STREAM_SHIFT == DCAST_STREAM_PRESENCE) {
      raw = script_.Bytes(script_.Byte());
      raw.resize(sizeof(dcast_presence));
    } else {
      raw = script_.Bytes(script_.Number() % 5000);
      hdr.page_shift = block_class == 0 ? 0 : 12;
    }
    hdr.raw_len = dcast_to_le32(static_cast<uint32_t>(raw.size()));
    return std::string(reinterpret_cast<const char*>(&hdr), sizeof(hdr)) + raw;
  }

  void Tick(TimeNs span) {
    now_ += span;
    if (engine_.WakeNs() <= now_) engine_.Tick(now_);
    Work(2);
  }
  void Work(uint8_t op) {
    for (StoreOp& store_op : engine_.TakeStoreOps(now_)) waiting_.push_back(std::move(store_op));
    for (PeerFetch& fetch : engine_.TakePeerFetches()) fetches_.push_back(std::move(fetch));
    // Some of the work is done, in order; some of it fails.
    size_t count = op >= 128 ? script_.Byte() % 8 : waiting_.size();
    const uint8_t failing = op >= 192 ? script_.Byte() : 255;
    while (count-- > 0 && !waiting_.empty()) {
      StoreOp store_op = std::move(waiting_.front());
      waiting_.erase(waiting_.begin());
      const bool fails = failing != 255 && static_cast<uint8_t>(store_op.kind) == failing % 8;
      engine_.StoreDone(now_, store_op.id,
                        !fails          ? DecodeOps({&store_op, 1}).front()
                        : failing & 128 ? absl::FailedPreconditionError("deleted")
                                        : absl::ResourceExhaustedError("full"));
    }
    if (op >= 250) engine_.StoreDone(now_, script_.Word(), absl::OkStatus());
  }

  std::vector<PeerBlock> Blocks() {
    std::vector<PeerBlock> blocks;
    for (uint8_t n = script_.Byte() % 4; n > 0; --n) {
      PeerBlock block;
      block.key.block_class = script_.Byte() % 6;
      block.key.number = script_.Number();
      block.encoded = block.key.block_class < DCAST_CLASSES
                          ? Encoding(block.key.block_class, block.key.number)
                          : std::string();
      block.key.digest = script_.Byte() < 200
                             ? dcast_block_digest(&kKeys, block.key.block_class, block.key.number,
                                                  block.encoded.data(),
                                                  static_cast<uint32_t>(block.encoded.size()))
                             : script_.Byte() % 2;
      blocks.push_back(std::move(block));
    }
    return blocks;
  }
  void AnswerPeers() {
    PeerResult result;
    result.blocks = Blocks();
    for (uint8_t n = script_.Byte() % 4; n > 0; --n) {
      BlockSymbols symbols;
      symbols.key.block_class = script_.Byte() % 6;
      symbols.key.number = script_.Number();
      const std::string encoded = symbols.key.block_class < DCAST_CLASSES
                                      ? Encoding(symbols.key.block_class, symbols.key.number)
                                      : std::string();
      symbols.key.digest =
          dcast_block_digest(&kKeys, symbols.key.block_class, symbols.key.number, encoded.data(),
                             static_cast<uint32_t>(encoded.size()));
      symbols.symbol_size = script_.Byte() < 200 ? DCAST_MIN_SYMBOL_BYTES : script_.Byte();
      symbols.mask = script_.Byte();
      symbols.count = script_.Byte() % 8;
      engine_.FindSymbols(Dump(), &symbols);
      symbols.bytes = encoded.substr(0, script_.Byte() * size_t{32});
      result.symbols.push_back(std::move(symbols));
    }
    result.more = (script_.Byte() & 1) != 0;
    uint64_t id = script_.Byte();
    if (!fetches_.empty()) {
      id = fetches_.front().id;
      fetches_.erase(fetches_.begin());
    }
    engine_.PeerFetched(now_, id, result);
  }
  void Change() {
    switch (script_.Byte() % 6) {
      case 0:
        return engine_.Decline(now_, Dump());
      case 1:
        return engine_.SealedByReplication(Dump());
      case 2: {
        const DumpKey dump = Dump();
        return engine_.BlocksReplicated(now_, dump, Blocks());
      }
      case 3:
        return engine_.SetPeers(std::vector<Address>(script_.Byte() % 3), script_.Byte() & 1);
      case 4:
        return engine_.NoteSocketDrops(now_, script_.Number());
      default: {
        // As after a restart, for a dump that is not known.
        RestoredDump restored;
        restored.key = Dump();
        restored.key_epoch = script_.Byte() % 4;
        const uint8_t how = script_.Byte();
        restored.sealed = how & 1;
        restored.complete = how & 2;
        restored.declined = how & 4;
        if (engine_.GetDump(restored.key)) return;
        engine_.RestoreDump(now_, restored);
        for (const PeerBlock& block : Blocks())
          engine_.RestoreBlock(restored.key, block.key, block.encoded);
      }
    }
  }

  Script& script_;
  uint64_t random_ = 1;
  Engine engine_;
  TimeNs now_ = kSecond;
  uint64_t seq_ = 0;
  std::vector<StoreOp> waiting_;
  std::vector<PeerFetch> fetches_;
};

}  // namespace
}  // namespace dumpcast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dumpcast::Script script(data, size);
  dumpcast::World(&script).Run();
  return 0;
}
