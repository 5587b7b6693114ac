// SPDX-License-Identifier: Apache-2.0
#include "tests/fleet/fleet_relay.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "relay/decode.h"

namespace dumpcast {
namespace {

enum : uint8_t { kHost = 1, kRelay = 2 };
Address MakeAddress(uint8_t kind, uint32_t number) {
  Address address;
  address.bytes[0] = kind;
  std::memcpy(&address.bytes[4], &number, sizeof(number));
  return address;
}

uint32_t NumberIn(const Address& address) {
  uint32_t number = 0;
  std::memcpy(&number, &address.bytes[4], sizeof(number));
  return number;
}

// Packets that come within this time are handed over together, and the engine ticks as often. A
// relay that asked Engine::WakeNs() after each packet would spend its time in it: it looks at all
// dumps.
constexpr TimeNs kBatchNs = 5 * kMillisecond;
constexpr TimeNs kSyncNs = 200'000;            // a record or a flush made durable
constexpr TimeNs kCallNs = kMillisecond;       // one call to a peer
constexpr TimeNs kReplicateNs = 10 * kSecond;  // between rounds of replication
constexpr size_t kMaxFetches = 64;             // that wait; one more is answered with nothing
constexpr uint64_t kPieceBytes = 8192;         // of TCP

}  // namespace

Address HostAddress(uint32_t host) {
  return MakeAddress(kHost, host);
}
Address RelayAddress(uint32_t relay) {
  return MakeAddress(kRelay, relay);
}

std::optional<uint32_t> HostAt(const Address& address) {
  if (address.bytes[0] != kHost) return std::nullopt;
  return NumberIn(address);
}
uint32_t RelayAt(const Address& address) {
  return NumberIn(address);
}

FleetRelay::FleetRelay(FleetRelays* relays, uint32_t index, const EngineConfig& config)
    : relays_(relays),
      index_(index),
      config_(config),
      port_(relays->port_bytes_per_second, relays->port_queue_bytes) {
  config_.relay_id = 1000 + index;
  config_.name = absl::StrCat("relay-", index);
}

void FleetRelay::SetPeers(std::vector<FleetRelay*> peers) {
  peers_ = std::move(peers);
}

void FleetRelay::After(TimeNs delay, std::function<void()> what) {
  relays_->clock->After(delay, [this, what = std::move(what), life = life_] {
    if (life == life_) what();
  });
}

void FleetRelay::Start() {
  ++life_;
  const TimeNs now = relays_->clock->now();
  config_.first_seq = now / 1000;
  engine_ = std::make_unique<Engine>(
      config_,
      [](const Id16& host_id, uint16_t epoch) -> std::optional<dcast_keys> {
        if (epoch != kFleetEpoch) return std::nullopt;
        return FleetKeys(FleetHostOf({host_id, {}}));
      },
      [clock = relays_->clock] { return clock->random(); });
  std::vector<Address> addresses;
  for (const FleetRelay* peer : peers_) addresses.push_back(RelayAddress(peer->index()));
  engine_->SetPeers(std::move(addresses), !peers_.empty());
  for (const auto& [host, stored] : disk_) {
    if (!stored.open) continue;
    Restore(host, stored);
    if (stored.complete) continue;
    for (const BlockKey& key : stored.blocks)
      engine_->RestoreBlock(
          FleetDump(host), key,
          key.block_class == 0 ? relays_->encode(host, {key.block_class, key.number}) : "");
  }
  After(relays_->clock->Below(kBatchNs), [this] { Poll(); });
  if (!peers_.empty()) After(relays_->clock->Below(kReplicateNs), [this] { Replicate(); });
}

void FleetRelay::Kill() {
  NoteCounters();
  for (size_t i = 0; i < kCounterCount; ++i)
    former_[i] += engine_->counters()[static_cast<Counter>(i)];
  ++life_;
  engine_.reset();
  inbox_.clear();
  ops_.clear();
  fetches_.clear();
  pulls_.clear();
  working_ = fetching_ = false;
  for (const uint32_t host : std::exchange(unflushed_, {})) {
    Stored& stored = disk_[host];
    stored.blocks.resize(stored.durable);
  }
}

void FleetRelay::Arrive(const Packet& packet, const Address& from) {
  if (!up()) return;
  const TimeNs at = port_.Send(relays_->clock->now(), packet->size() + kFrameBytes);
  if (at != kNever) inbox_.push_back({at, packet, from});
}

void FleetRelay::Poll() {
  const TimeNs now = relays_->clock->now();
  for (; !inbox_.empty() && inbox_.front().at_ns <= now; inbox_.pop_front())
    engine_->Receive(now, {*inbox_.front().packet, inbox_.front().from, false});
  engine_->Tick(now);
  NoteCounters();
  Pump();
  After(kBatchNs, [this] { Poll(); });
}

void FleetRelay::NoteCounters() {
  peak_assembly_bytes_ = std::max(peak_assembly_bytes_, engine_->assembly_bytes());
  peak_queue_bytes_ = std::max(peak_queue_bytes_, engine_->store_queue_bytes());
  if (engine_->assembly_bytes() > config_.total_memory_bytes)
    Fault("incomplete blocks take more memory than is configured");
  if (const std::string open = engine_->CheckCounters(); !open.empty()) Fault(open);
}

void FleetRelay::Fault(const std::string& what) {
  if (fault_.empty()) fault_ = absl::StrCat(config_.name, ": ", what);
}

void FleetRelay::Pump() {
  std::vector<Reply> replies = engine_->TakeReplies();
  for (const Reply& reply : replies) CheckCommit(reply.payload);
  if (!replies.empty()) relays_->send(std::move(replies));
  for (StoreOp& op : engine_->TakeStoreOps(relays_->clock->now())) ops_.push_back(std::move(op));
  for (PeerFetch& fetch : engine_->TakePeerFetches()) {
    if (fetches_.size() < kMaxFetches) {
      fetches_.push_back(std::move(fetch));
    } else {
      engine_->PeerFetched(relays_->clock->now(), fetch.id, {});
    }
  }
  (void)engine_->TakeEvents();
  if (!fetching_) NextFetch();
  if (working_ || ops_.empty()) return;
  // Everything that waits, in one go, as the writer's thread does it.
  working_ = true;
  auto ops = std::make_shared<std::vector<StoreOp>>(std::exchange(ops_, {}));
  TimeNs cost = 0;
  for (const StoreOp& op : *ops) {
    cost += static_cast<TimeNs>(static_cast<double>(op.encoded.size()) * 1e9 /
                                relays_->disk_bytes_per_second);
    if (op.kind != StoreOp::Kind::kPut && op.kind != StoreOp::Kind::kProbe) cost += kSyncNs;
  }
  After(cost, [this, ops] { Work(*ops); });
}

void FleetRelay::Work(std::vector<StoreOp>& ops) {
  working_ = false;
  for (StoreOp& op : ops) {
    const absl::Status status = DecodeOps({&op, 1}).front();
    if (status.ok()) Do(op);
    engine_->StoreDone(relays_->clock->now(), op.id, status);
  }
  Pump();
}

void FleetRelay::Do(const StoreOp& op) {
  if (op.kind == StoreOp::Kind::kFlush) {
    for (const uint32_t host : std::exchange(unflushed_, {})) {
      Stored& stored = disk_[host];
      stored.durable = stored.blocks.size();
    }
    return;
  }
  if (op.kind == StoreOp::Kind::kHost || op.kind == StoreOp::Kind::kProbe) return;
  const uint32_t host = FleetHostOf(op.dump);
  Stored& stored = disk_[host];
  switch (op.kind) {
    case StoreOp::Kind::kOpenDump:
      if (!stored.open) stored.opened_ns = relays_->clock->now();
      stored.open = true;
      stored.sealed = false;
      stored.key_epoch = op.key_epoch;
      break;
    case StoreOp::Kind::kPut:
      if (stored.durable == stored.blocks.size()) unflushed_.push_back(host);
      stored.blocks.push_back(op.key);
      break;
    case StoreOp::Kind::kSeal:
      if (op.complete && !Holds(host, false)) Fault("a seal says complete before all is durable");
      complete_dumps_ += op.complete && !stored.complete;
      stored.sealed = true;
      stored.complete = stored.complete || op.complete;
      stored.signature = op.signature;
      stored.lanes |= op.committed_lanes;
      break;
    default:
      stored.lanes |= op.committed_lanes;
      break;
  }
}

const FleetRelay::Stored* FleetRelay::Find(uint32_t host) const {
  const auto it = disk_.find(host);
  return it == disk_.end() ? nullptr : &it->second;
}

bool FleetRelay::Holds(uint32_t host, bool log_only) const {
  const Stored* stored = Find(host);
  if (stored == nullptr) return false;
  std::set<FleetMemory::Name> durable;
  for (size_t i = 0; i < stored->durable; ++i)
    durable.emplace(stored->blocks[i].block_class, stored->blocks[i].number);
  return std::all_of(relays_->memory->blocks().begin(), relays_->memory->blocks().end(),
                     [&](const FleetMemory::Name& name) {
                       return (log_only && !FleetMemory::InLogOnly(name)) || durable.contains(name);
                     });
}

uint64_t FleetRelay::Receiving() const {
  const auto dumps = engine_->ListDumps();
  return static_cast<uint64_t>(std::count_if(
      dumps.begin(), dumps.end(), [](const auto& dump) { return !dump.sealed && !dump.declined; }));
}

bool FleetRelay::Idle() const {
  return !working_ && ops_.empty() && !fetching_ && pulls_.empty();
}

uint64_t FleetRelay::Count(Counter counter) const {
  return former_[static_cast<size_t>(counter)] + (engine_ ? engine_->counters()[counter] : 0);
}

void FleetRelay::CheckCommit(const std::string& packet) {
  dcast_hdr hdr;
  std::memcpy(&hdr, packet.data(), sizeof(hdr));
  if (hdr.type != DCAST_COMMIT) return;
  DumpKey dump;
  std::memcpy(dump.host_id.data(), hdr.host_id, dump.host_id.size());
  const uint32_t host = FleetHostOf(dump);
  const Stored* stored = Find(host);
  // A seal was looked at when it was written; of a log alone there is none.
  if ((stored == nullptr || !stored->complete) && !Holds(host, true))
    Fault("a COMMIT left before the log was durable");
  relays_->on_commit(host, index_);
}

// ---- peers ----

void FleetRelay::Transfer(uint64_t bytes, std::function<void()> done) {
  const TimeNs now = relays_->clock->now();
  if (bytes == 0) return done();
  if (port_.Backlog(now) > port_.queue_ns() / 2) {
    After(port_.Backlog(now), [this, bytes, done = std::move(done)] { Transfer(bytes, done); });
    return;
  }
  const uint64_t piece = std::min(bytes, kPieceBytes);
  peer_bytes_ += piece;
  const TimeNs at = port_.Take(now, piece);
  After(at - now, [this, left = bytes - piece, done = std::move(done)] { Transfer(left, done); });
}

// One at a time, as the Replicator's thread does it.
void FleetRelay::NextFetch() {
  fetching_ = !fetches_.empty();
  if (!fetching_) return;
  After(kCallNs, [this] {
    auto fetch = std::make_shared<const PeerFetch>(std::move(fetches_.front()));
    fetches_.pop_front();
    auto result = std::make_shared<const PeerResult>(Collect(*fetch));
    uint64_t bytes = 0;
    for (const PeerBlock& block : result->blocks) bytes += block.encoded.size();
    for (const BlockSymbols& symbols : result->symbols) bytes += symbols.bytes.size();
    // Each peer that was asked in vain has cost a call as well.
    After(kCallNs * result->peers_asked, [this, fetch, result, bytes] {
      Transfer(bytes, [this, fetch, result] {
        engine_->PeerFetched(relays_->clock->now(), fetch->id, *result);
        NextFetch();
        Pump();
      });
    });
  });
}

PeerResult FleetRelay::Collect(const PeerFetch& fetch) {
  PeerResult result;
  std::set<FleetMemory::Name> left;
  std::vector<BlockSymbols> symbols = fetch.symbols;
  for (const BlockRun& run : fetch.runs)
    for (uint64_t i = 0; i < run.count; ++i) left.emplace(run.block_class, run.first + i);
  const uint32_t host = FleetHostOf(fetch.dump);
  const size_t first = fetch_turn_++;
  for (size_t i = 0; i < peers_.size() && !(left.empty() && symbols.empty()); ++i) {
    const FleetRelay& peer = *peers_[(first + i) % peers_.size()];
    if (!peer.up()) continue;
    ++result.peers_asked;
    const Stored* stored = peer.Find(host);
    if (stored == nullptr) continue;
    const absl::flat_hash_set<BlockKey> held(stored->blocks.begin(), stored->blocks.end());
    std::erase_if(symbols, [&](BlockSymbols& wanted) {
      const bool found =
          held.contains(wanted.key)
              ? CutSymbols(relays_->encode(host, {wanted.key.block_class, wanted.key.number}),
                           &wanted)
              : peer.engine_->FindSymbols(fetch.dump, &wanted);
      if (found) result.symbols.push_back(std::move(wanted));
      return found;
    });
    for (const BlockKey& key : stored->blocks) {
      const FleetMemory::Name name{key.block_class, key.number};
      if (left.erase(name) != 0)
        result.blocks.push_back({key, key.digest == 0 ? "" : relays_->encode(host, name)});
    }
  }
  return result;
}

// One round: of each peer, the sealed dumps that it has more of. What is being received here is
// left to its receiver.
void FleetRelay::Replicate() {
  After(kReplicateNs, [this] { Replicate(); });
  if (!pulls_.empty()) return;
  absl::flat_hash_map<uint32_t, size_t> most;
  for (FleetRelay* peer : peers_) {
    if (!peer->up()) continue;
    for (const auto& [host, theirs] : peer->disk_) {
      const Stored* ours = Find(host);
      if (!theirs.sealed || (ours != nullptr && ours->complete)) continue;
      if (theirs.durable <= std::max(ours == nullptr ? 0 : ours->blocks.size(), most[host]))
        continue;
      const auto view = engine_->GetDump(FleetDump(host));
      if (view && !view->sealed) continue;
      most[host] = theirs.durable;
      pulls_.push_back({host, peer});
    }
  }
  if (!pulls_.empty()) NextPull();
}

void FleetRelay::NextPull() {
  const Pull pull = pulls_.front();
  const Stored* theirs = pull.peer->Find(pull.host);
  const Stored* ours = Find(pull.host);
  uint64_t bytes = 0;
  if (theirs != nullptr && theirs->durable > (ours == nullptr ? 0 : ours->blocks.size()))
    for (size_t i = ours == nullptr ? 0 : ours->blocks.size(); i < theirs->durable; ++i)
      bytes += relays_->encode(pull.host, {theirs->blocks[i].block_class, theirs->blocks[i].number})
                   .size();
  After(kCallNs, [this, pull, bytes] {
    Transfer(bytes, [this, pull] {
      TakeOver(pull);
      pulls_.pop_front();
      if (!pulls_.empty()) NextPull();
      Pump();
    });
  });
}

void FleetRelay::Restore(uint32_t host, const Stored& stored) {
  const TimeNs now = relays_->clock->now();
  RestoredDump dump;
  dump.key = FleetDump(host);
  dump.key_epoch = stored.key_epoch;
  dump.sealed = stored.sealed;
  dump.complete = stored.complete;
  dump.committed_lanes = stored.lanes;
  dump.signature = stored.signature;
  dump.age_ns = now - stored.opened_ns;
  engine_->RestoreDump(now, dump);
}

// The peer's blocks are here, and durable.
void FleetRelay::TakeOver(const Pull& pull) {
  const TimeNs now = relays_->clock->now();
  const DumpKey dump = FleetDump(pull.host);
  const Stored* theirs = pull.peer->Find(pull.host);
  const auto view = engine_->GetDump(dump);
  if (!pull.peer->up() || theirs == nullptr || !theirs->sealed ||
      (view && (!view->sealed || view->complete)))
    return;
  Stored& ours = disk_[pull.host];
  std::set<BlockKey> have(ours.blocks.begin(), ours.blocks.end());
  std::vector<PeerBlock> fresh;
  for (size_t i = 0; i < theirs->durable; ++i) {
    const BlockKey& key = theirs->blocks[i];
    if (have.contains(key)) continue;
    ours.blocks.push_back(key);
    fresh.push_back({key, key.block_class == 0
                              ? relays_->encode(pull.host, {key.block_class, key.number})
                              : ""});
  }
  ours.durable = ours.blocks.size();
  if (!ours.open) ours.opened_ns = theirs->opened_ns;
  ours.open = ours.sealed = true;
  ours.key_epoch = theirs->key_epoch;
  ours.signature = theirs->signature;
  engine_->BlocksReplicated(now, dump, fresh);
  if (!theirs->complete) return;
  complete_dumps_ += !ours.complete;
  ours.complete = true;
  ours.lanes = ~uint64_t{0};
  if (view) {
    engine_->SealedByReplication(dump);
  } else {
    Restore(pull.host, ours);
  }
}

}  // namespace dumpcast
