// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_relay.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "gtest/gtest.h"
#include "relay/decode.h"
#include "tests/sim/sim_host.h"

namespace dumpcast {

absl::Status MemorySink::PutBlock(const DumpKey&, const BlockKey& key, std::string encoded) {
  if (full) return absl::ResourceExhaustedError("the simulated disk is full");
  if (!numbers_.emplace(key.block_class, key.number).second) ++put_twice;
  blocks_.try_emplace(key, Stored{std::move(encoded), false});
  return absl::OkStatus();
}

absl::Status MemorySink::Flush() {
  for (auto& [key, stored] : blocks_) stored.durable = true;
  return absl::OkStatus();
}

void MemorySink::PowerCut() {
  std::erase_if(blocks_, [](const auto& block) { return !block.second.durable; });
  numbers_.clear();
  for (const auto& [key, stored] : blocks_) numbers_.emplace(key.block_class, key.number);
}

SimRelay::SimRelay(SimClock* clock, uint64_t id, const EngineConfig& config, SendReply send)
    : clock_(clock), id_(id), config_(config), send_(std::move(send)) {
  config_.relay_id = id;
  config_.name = "relay-" + std::to_string(id);
}

void SimRelay::Start() {
  ++life_;
  config_.first_seq = clock_->now() / 1000;
  engine_ = std::make_unique<Engine>(
      config_,
      [](const Id16&, uint16_t epoch) -> std::optional<dcast_keys> {
        if (epoch != SimHost::kEpoch) return std::nullopt;
        return SimHost::Keys();
      },
      [this] { return clock_->random(); });
  engine_->SetPeers(peer_addresses_, !peers_.empty());
  if (record_.open) {
    RestoredDump dump;
    dump.key = SimHost::Dump();
    dump.key_epoch = SimHost::kEpoch;
    dump.sealed = record_.sealed;
    dump.complete = record_.complete;
    dump.committed_lanes = record_.lanes;
    engine_->RestoreDump(clock_->now(), dump);
    if (!record_.complete)
      for (const auto& [key, stored] : sink_.blocks())
        engine_->RestoreBlock(dump.key, key, stored.encoded);
  }
  Pump();
}

void SimRelay::Kill() {
  EXPECT_EQ(engine_->CheckCounters(), "");
  ++life_;
  engine_.reset();
  ops_.clear();
  working_ = false;
  wake_ns_ = kNever;
  sink_.PowerCut();
}

void SimRelay::WipeDisk() {
  sink_ = MemorySink();
  record_ = Record();
}

void SimRelay::SetPeers(std::vector<SimRelay*> peers, std::vector<Address> addresses) {
  peers_ = std::move(peers);
  peer_addresses_ = std::move(addresses);
}

void SimRelay::Receive(const std::string& packet, const Address& from) {
  if (!engine_) return;
  engine_->Receive(clock_->now(), {packet, from, false});
  Pump();
}

bool SimRelay::Complete() const {
  if (!engine_ || !record_.complete) return false;
  const auto view = engine_->GetDump(SimHost::Dump());
  return view && view->complete;
}

bool SimRelay::SealedIncomplete() const {
  if (!engine_ || !record_.sealed || record_.complete) return false;
  const auto view = engine_->GetDump(SimHost::Dump());
  return view && view->sealed && !view->complete;
}

void SimRelay::CheckCommit(const std::string& packet) {
  dcast_hdr hdr;
  std::memcpy(&hdr, packet.data(), sizeof(hdr));
  if (hdr.type != DCAST_COMMIT) return;
  dcast_commit commit;
  std::memcpy(&commit, packet.data() + sizeof(hdr), sizeof(commit));
  // What the record does not say would be forgotten with the power.
  if ((dcast_le64(commit.lane_mask) & ~record_.lanes) != 0)
    broken_promise_ = "COMMIT of lanes that the record does not have";
  for (const auto& [key, stored] : sink_.blocks())
    if (!stored.durable && record_.complete) broken_promise_ = "COMMIT before a flush";
}

void SimRelay::Pump() {
  const TimeNs now = clock_->now();
  for (Reply& reply : engine_->TakeReplies()) {
    CheckCommit(reply.payload);
    send_(reply.to, reply.payload);
  }
  for (StoreOp& op : engine_->TakeStoreOps(now)) ops_.push_back(std::move(op));
  for (const PeerFetch& fetch : engine_->TakePeerFetches()) StartFetch(fetch);
  for (Event& event : engine_->TakeEvents()) events.push_back(std::move(event));
  if (!ops_.empty() && !working_) {
    working_ = true;
    TimeNs takes = 200'000 + clock_->Below(2 * kMillisecond);
    worked_on_ = ops_.size();
    if (disk_bytes_per_second != 0) {
      uint64_t bytes = 0;
      for (const StoreOp& op : ops_) bytes += op.encoded.size();
      takes += static_cast<TimeNs>(static_cast<double>(bytes * kSecond) / disk_bytes_per_second);
    }
    clock_->After(takes, [this, life = life_] {
      if (life == life_) Work();
    });
  }
  Wake(std::max(now + 1, engine_->WakeNs()));
}

// Everything that waits, in one go, as the writer's thread does it; flushes take their time.
void SimRelay::Work() {
  working_ = false;
  const auto end =
      ops_.begin() + static_cast<ptrdiff_t>(disk_bytes_per_second != 0 ? worked_on_ : ops_.size());
  std::vector<StoreOp> ops(std::make_move_iterator(ops_.begin()), std::make_move_iterator(end));
  ops_.erase(ops_.begin(), end);
  for (StoreOp& op : ops) {
    absl::Status status = DecodeOps({&op, 1}).front();
    switch (op.kind) {
      case StoreOp::Kind::kOpenDump:
        if (sink_.full && !record_.open) {
          status = absl::ResourceExhaustedError("the simulated disk is full");
          break;
        }
        record_.open = true;
        record_.sealed = record_.complete = false;
        break;
      case StoreOp::Kind::kPut:
        if (status.ok())
          status = record_.open ? sink_.PutBlock(op.dump, op.key, std::move(op.encoded))
                                : absl::ResourceExhaustedError("no record");
        break;
      case StoreOp::Kind::kFlush:
        status = sink_.Flush();
        break;
      case StoreOp::Kind::kCommit:
        record_.lanes |= op.committed_lanes;
        break;
      case StoreOp::Kind::kSeal:
        record_.sealed = true;
        record_.complete = op.complete;
        record_.reason = op.reason;
        record_.lanes |= op.committed_lanes;
        break;
      case StoreOp::Kind::kHost:
      case StoreOp::Kind::kProbe:
        break;
    }
    engine_->StoreDone(clock_->now(), op.id, status);
  }
  Pump();
}

void SimRelay::StartFetch(const PeerFetch& fetch) {
  clock_->After(kMillisecond + clock_->Below(5 * kMillisecond), [this, fetch, life = life_] {
    if (life != life_) return;
    PeerResult result;
    const size_t first = peers_.empty() ? 0 : clock_->Below(peers_.size());
    std::set<std::pair<uint8_t, uint64_t>> got;
    for (size_t i = 0; i < peers_.size(); ++i) {
      const SimRelay& peer = *peers_[(first + i) % peers_.size()];
      if (!peer.up()) continue;
      ++result.peers_asked;
      for (BlockSymbols symbols : fetch.symbols) {
        const auto it = peer.sink_.blocks().find(symbols.key);
        if (it != peer.sink_.blocks().end() ? CutSymbols(it->second.encoded, &symbols)
                                            : peer.engine_->FindSymbols(fetch.dump, &symbols))
          result.symbols.push_back(std::move(symbols));
      }
      for (const BlockRun& run : fetch.runs) {
        const BlockKey from{run.block_class, run.first, 0};
        for (auto it = peer.sink_.blocks().lower_bound(from);
             it != peer.sink_.blocks().end() && it->first.block_class == run.block_class &&
             it->first.number - run.first < run.count;
             ++it) {
          if (got.emplace(run.block_class, it->first.number).second)
            result.blocks.push_back({it->first, it->second.encoded});
        }
      }
    }
    engine_->PeerFetched(clock_->now(), fetch.id, result);
    Pump();
  });
}

void SimRelay::ReplicateFrom(const SimRelay& peer) {
  if (!up() || !peer.up() || !peer.record_.open) return;
  const auto view = engine_->GetDump(SimHost::Dump());
  if (view && !view->sealed && !view->declined) return;
  if (view && view->complete) return;
  std::vector<PeerBlock> fresh;
  for (const auto& [key, stored] : peer.sink_.blocks()) {
    if (!stored.durable || sink_.blocks().contains(key)) continue;
    if (!sink_.PutBlock(SimHost::Dump(), key, stored.encoded).ok()) return;
    fresh.push_back({key, key.block_class == 0 ? stored.encoded : ""});
  }
  EXPECT_TRUE(sink_.Flush().ok());
  record_.open = true;
  engine_->BlocksReplicated(clock_->now(), SimHost::Dump(), fresh);
  if (peer.record_.complete) {
    record_.sealed = record_.complete = true;
    record_.lanes = ~uint64_t{0};
    if (view) {
      engine_->SealedByReplication(SimHost::Dump());
    } else {
      RestoredDump dump;
      dump.key = SimHost::Dump();
      dump.key_epoch = SimHost::kEpoch;
      dump.sealed = dump.complete = true;
      engine_->RestoreDump(clock_->now(), dump);
    }
  }
  Pump();
}

void SimRelay::Wake(TimeNs when) {
  if (when >= wake_ns_ || when == kNever) return;
  wake_ns_ = when;
  clock_->At(when, [this, number = ++wake_number_, life = life_] {
    if (life != life_ || number != wake_number_) return;
    wake_ns_ = kNever;
    engine_->Tick(clock_->now());
    Pump();
  });
}

}  // namespace dumpcast
