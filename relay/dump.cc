// SPDX-License-Identifier: Apache-2.0
#include "relay/dump.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "relay/decode.h"
#include "relay/reply.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxSources = 32;                    // senders times paths
constexpr TimeNs kLatelyNs = 5 * kSecond;             // a path heard within this gets replies
constexpr TimeNs kCommitEveryNs = 50 * kMillisecond;  // repeated COMMITs of one dump
constexpr TimeNs kPaceEveryNs = 100 * kMillisecond;   // PACEs that tell of lacking blocks
constexpr TimeNs kSealRetryNs = kSecond;
constexpr TimeNs kStoreFullTellNs = 60 * kSecond;

BlockName NameOf(const dcast_hdr& hdr) {
  return {hdr.block_class, dcast_le64(hdr.number)};
}

}  // namespace

Dump::Dump(Shared* shared, const DumpKey& key, uint16_t key_epoch, const dcast_keys& keys,
           bool live, bool test)
    : shared_(shared),
      key_(key),
      key_epoch_(key_epoch),
      keys_(keys),
      live_dump_(live),
      test_(test),
      live_(std::make_unique<Live>(shared)) {}

void Dump::Open(TimeNs now) {
  if (begun_ns_ == 0) begun_ns_ = progress_ns_ = now;
  StoreOp op;
  op.kind = StoreOp::Kind::kOpenDump;
  op.dump = key_;
  op.key_epoch = key_epoch_;
  op.live = live_dump_;
  op.test = test_;
  op.committed_lanes = committed_;
  shared_->store.Add(std::move(op));
  wake_ns_ = now;
}

void Dump::Restore(TimeNs now, State state, uint64_t committed_lanes) {
  state_ = state;
  // One that replication completed was never committed lane by lane; all of it is durable.
  const bool whole = state == State::kComplete && committed_lanes == 0;
  committed_ = whole ? ~uint64_t{0} : committed_lanes;
  begun_ns_ = progress_ns_ = now;
  if (state == State::kComplete || state == State::kDeclined) live_.reset();
  wake_ns_ = now;
}

void Dump::RestoreBlock(const BlockKey& key, std::string_view encoded) {
  if (!live_ || key.block_class >= DCAST_CLASSES) return;
  live_->held[key.block_class].Add(key.number);
  NoteContent(key, encoded);
}

void Dump::NoteSource(TimeNs now, const Verified& packet) {
  const std::pair<uint64_t, uint8_t> name(dcast_le64(packet.hdr.origin), packet.hdr.path);
  auto it = sources_.find(name);
  if (it == sources_.end()) {
    if (sources_.size() >= kMaxSources)
      sources_.erase(std::min_element(
          sources_.begin(), sources_.end(),
          [](const auto& a, const auto& b) { return a.second.heard_ns < b.second.heard_ns; }));
    it = sources_.try_emplace(name).first;
  }
  it->second.from = packet.from;
  it->second.heard_ns = now;
  ++it->second.packets;
  it->second.done = false;
  heard_ns_ = now;
  if (live_) live_->gaps.NoteHeard(now);
  gone_ = said_done_ = false;
  if (state_ == State::kIncomplete) wake_ns_ = now;
}

bool Dump::AllSendersDone(TimeNs now) const {
  return std::all_of(sources_.begin(), sources_.end(), [&](const auto& source) {
    return source.second.done || now >= source.second.heard_ns + shared_->config.silent_ns;
  });
}

void Dump::OnSymbol(TimeNs now, const Verified& packet) {
  Counters& counters = shared_->counters;
  if (state_ == State::kDeclined) return counters.Add(Counter::kDeclined);
  if (state_ == State::kComplete) {
    // Other relays are being served, and the sender may wait for this one's word.
    counters.Add(Counter::kSealed);
    if (now >= commit_next_ns_ + 10 * kCommitEveryNs) SendCommit(now);
    return;
  }
  const dcast_hdr& hdr = packet.hdr;
  const BlockName name = NameOf(hdr);
  const bool repeat = (hdr.flags & DCAST_F_REPEAT) != 0;
  live_->class0.NoteLane(hdr.lane);
  live_->gaps.NoteBlock(now, name.block_class, name.number, repeat);
  if (repeat)
    live_->repair.NoteRepeat(now);
  else if (name.block_class != 0 && live_->class0.log_only())
    ResumeWalk();
  const auto source = sources_.find({dcast_le64(hdr.origin), hdr.path});
  if (Holds(name)) {
    if (source != sources_.end()) ++source->second.duplicates;
    return counters.Add(Counter::kHeld);
  }
  if (shared_->store_full || shared_->store.pending_bytes() >= shared_->config.store_queue_bytes)
    return counters.Add(Counter::kStoreFull);
  std::optional<Assembler::Block> block;
  if (live_->assembler.Add(now, hdr, packet.payload, keys_, &block) == Counter::kDuplicate &&
      source != sources_.end())
    ++source->second.duplicates;
  if (block) TakeBlock(now, *std::move(block));
}

void Dump::TakeBlock(TimeNs now, Assembler::Block block) {
  if (block.key.block_class != 0)
    return Gain(now, block.key, std::move(block.data), std::move(block.gathered));
  // What it says is wanted at once.
  const bool good = DecodeBlock(block.key, block.gathered, &block.data).ok();
  shared_->NoteDecoded(std::popcount(block.gathered.have), !block.gathered.parity.empty(), good);
  if (good) Gain(now, block.key, std::move(block.data));
}

void Dump::ResumeWalk() {
  live_->class0.SetLogOnly(false);
  live_->gaps.NoteWalkResumed();
  log_committed_ = false;
}

void Dump::OnEmpty(TimeNs now, const Verified& packet) {
  if (!live_ || state_ == State::kDeclined) return;
  const BlockName name = NameOf(packet.hdr);
  const bool repeat = (packet.hdr.flags & DCAST_F_REPEAT) != 0;
  live_->gaps.NoteBlock(now, name.block_class, name.number, repeat);
  if (Holds(name) || shared_->store_full) return;
  shared_->counters.Add(Counter::kBlocksEmpty);
  Gain(now, {name.block_class, name.number, 0}, "");
}

void Dump::OnEnd(TimeNs now, const Verified& packet) {
  if (state_ == State::kComplete && now >= commit_next_ns_) SendCommit(now);
  if (!live_) return;
  dcast_end end;
  std::memcpy(&end, packet.payload.data(), sizeof(end));
  live_->ends[packet.hdr.lane] = end;
  // The newest counts: another relay may have told it to send more.
  live_->class0.SetLogOnly((end.flags & DCAST_END_LOG_ONLY) != 0);
  if (!live_->class0.log_only()) log_committed_ = false;
  live_->gaps.NoteWalkDone();
  if (!told_end_) {
    told_end_ = true;
    shared_->Tell(
        Event::Kind::kSenderDone, key_,
        absl::StrCat("the host has sent everything once; ", missing(), " blocks are missing here"));
  }
  if ((committed_ != 0 || log_committed_) && now >= commit_next_ns_) SendCommit(now);
  wake_ns_ = now;
}

void Dump::OnAnnounce(TimeNs now, const Verified& packet, const dcast_announce& announce) {
  announced_total_ = std::max(announced_total_, uint64_t{dcast_le64(announce.blocks_total)});
  if (committed_ != 0 && now >= commit_next_ns_) SendCommit(now);
  if (!live_) return;
  if (announce.state == DCAST_ST_LINGER || announce.state == DCAST_ST_DONE)
    live_->gaps.NoteWalkDone();
  if (announce.state == DCAST_ST_DONE) {
    const uint64_t origin = dcast_le64(packet.hdr.origin);
    for (auto& [name, source] : sources_)
      if (name.first == origin) source.done = true;
    if (AllSendersDone(now)) {
      said_done_ = gone_ = true;
      gone_ns_ = now;
      if (!told_done_)
        shared_->Tell(
            Event::Kind::kSenderDone, key_,
            absl::StrCat("the host has ended its dump; ", missing(), " blocks are missing here"));
      told_done_ = true;
    }
  }
  wake_ns_ = now;
}

void Dump::OnHostElsewhere(TimeNs now) {
  if (!receiving() || gone_ || heard_ns_ == 0) return;
  gone_ = said_done_ = true;
  gone_ns_ = now;
  live_->gaps.NoteWalkDone();
  shared_->Tell(Event::Kind::kSenderDone, key_,
                absl::StrCat("the host runs again; ", missing(), " blocks are missing here"));
  wake_ns_ = now;
}

void Dump::OnOtherNak(TimeNs now, const Verified& packet) {
  if (!live_) return;
  dcast_nak nak;
  std::memcpy(&nak, packet.payload.data(), sizeof(nak));
  const size_t stride = dcast_le32(nak.entry_bytes);
  for (uint32_t i = 0; i < dcast_le32(nak.entries); ++i) {
    dcast_nak_entry entry;
    std::memcpy(&entry, packet.payload.data() + sizeof(nak) + i * stride, sizeof(entry));
    live_->repair.NoteOtherNak(now, entry, live_->assembler);
  }
}

void Dump::NoteContent(const BlockKey& key, std::string_view encoded) {
  if (key.block_class != 0) return;
  if (!live_->class0.Add(key.number, encoded).ok()) shared_->counters.Add(Counter::kClass0Bad);
  if (live_->class0.meta() && !told_class0_) {
    told_class0_ = true;
    const dcast_meta& meta = *live_->class0.meta();
    const auto text = [](const char* s, size_t n) { return std::string(s, strnlen(s, n)); };
    shared_->Tell(Event::Kind::kClass0Held, key_,
                  absl::StrCat("host name \"", text(meta.hostname, sizeof(meta.hostname)),
                               "\", kernel \"", text(meta.release, sizeof(meta.release)),
                               "\", reason \"", text(meta.reason, sizeof(meta.reason)), "\""));
  }
}

void Dump::Gain(TimeNs now, const BlockKey& key, std::string encoded,
                std::optional<Gathered> gathered) {
  if (state_ == State::kIncomplete) Reopen(now);
  live_->held[key.block_class].Add(key.number);
  live_->repair.NoteHeld({key.block_class, key.number});
  NoteContent(key, encoded);
  progress_ns_ = now;
  last_put_ = shared_->store.Put(now, key_, key, std::move(encoded), std::move(gathered));
}

void Dump::Lose(const BlockKey& key) {
  if (!live_) return;
  NumberSet one;
  one.Add(key.number);
  live_->held[key.block_class] = live_->held[key.block_class].Minus(one);
}

void Dump::Reopen(TimeNs now) {
  state_ = State::kReceiving;
  Open(now);
}

void Dump::TakeBlocks(TimeNs now, const std::vector<PeerBlock>& blocks, bool stored) {
  bool gained = false;
  for (const PeerBlock& block : blocks) {
    const BlockKey& key = block.key;
    if (key.block_class >= DCAST_CLASSES) continue;
    const BlockName name{key.block_class, key.number};
    if (Holds(name)) continue;
    // Blocks in the store came through a check of their own, and only class 0 brings its bytes.
    if (!stored) {
      const bool good =
          key.digest == 0
              ? block.encoded.empty()
              : block.encoded.size() <= DCAST_MAX_ENCODED_BYTES &&
                    dcast_block_digest(&keys_, key.block_class, key.number, block.encoded.data(),
                                       static_cast<uint32_t>(block.encoded.size())) == key.digest;
      if (!good) {
        shared_->counters.Add(Counter::kPeerBad);
        continue;
      }
      shared_->counters.Add(Counter::kBlocksPeer);
    } else {
      shared_->counters.Add(Counter::kBlocksReplicated);
    }
    live_->assembler.Drop(name);
    gained = true;
    if (stored) {
      live_->held[key.block_class].Add(key.number);
      live_->repair.NoteHeld(name);
      NoteContent(key, block.encoded);
      progress_ns_ = now;
    } else {
      Gain(now, key, block.encoded);
    }
  }
  if (gained) live_->repair.NoteFetchFruitful();
  wake_ns_ = now;
}

bool Dump::TakeSymbols(TimeNs now, const BlockSymbols& symbols) {
  const BlockKey& key = symbols.key;
  if (key.block_class >= DCAST_CLASSES || Holds({key.block_class, key.number})) return false;
  std::optional<dcast_hdr> hdr = live_->assembler.HeaderOf(key);
  if (!hdr || dcast_le16(hdr->symbol_size) != symbols.symbol_size) return false;
  std::string_view rest = symbols.bytes;
  bool gained = false;
  std::optional<Assembler::Block> block;
  for (uint64_t mask = symbols.mask; mask != 0 && !block; mask &= mask - 1) {
    hdr->index = static_cast<uint8_t>(std::countr_zero(mask));
    const size_t len =
        dcast_symbol_len(dcast_le32(hdr->encoded_len), symbols.symbol_size, hdr->k, hdr->index);
    if (rest.size() < len) break;
    shared_->counters.Add(Counter::kSymbolsPeer);
    gained |=
        live_->assembler.Add(now, *hdr, rest.substr(0, len), keys_, &block) == Counter::kStored;
    rest.remove_prefix(len);
  }
  if (block) TakeBlock(now, *std::move(block));
  return gained;
}

void Dump::OnPeerResult(TimeNs now, const PeerResult& result) {
  if (!live_) return;
  live_->repair.NoteFetched(now, result.more);
  bool gained = false;
  for (const BlockSymbols& symbols : result.symbols) gained |= TakeSymbols(now, symbols);
  if (gained) live_->repair.NoteFetchFruitful();
  TakeBlocks(now, result.blocks, false);
}

void Dump::OnReplicated(TimeNs now, const std::vector<PeerBlock>& blocks) {
  if (!live_) return;
  TakeBlocks(now, blocks, true);
}

void Dump::OnSealedElsewhere() {
  if (state_ == State::kDeclined || state_ == State::kComplete) return;
  shared_->admission.Leave(key_);
  sealed_blocks_ = held();
  // Every lane, also when this relay never saw META itself.
  committed_ = live_ && live_->class0.lanes() != 0 ? live_->class0.AllLanes() : ~uint64_t{0};
  state_ = State::kComplete;
  live_.reset();
}

void Dump::OnStoreDone(TimeNs now, const StoreQueue::Done& done, const absl::Status& status) {
  if (state_ == State::kDeclined) return;
  switch (done.kind) {
    case StoreOp::Kind::kOpenDump:
    case StoreOp::Kind::kPut:
      if (status.ok()) break;
      if (absl::IsFailedPrecondition(status)) {
        shared_->Tell(Event::Kind::kDeclined, key_, std::string(status.message()));
        return Decline();
      }
      if (absl::IsInvalidArgument(status)) {
        Lose(done.key);
        break;
      }
      if (done.kind == StoreOp::Kind::kOpenDump) {
        shared_->Tell(Event::Kind::kDiskFull, key_, std::string(status.message()));
      } else if (shared_->store_full_told_ns == 0 ||
                 now >= shared_->store_full_told_ns + kStoreFullTellNs) {
        shared_->Tell(Event::Kind::kDiskFull, key_,
                      absl::StrCat("the store refuses blocks: ", status.message()));
        shared_->store_full_told_ns = now;
      }
      shared_->NoteStoreFull(now);
      if (done.kind == StoreOp::Kind::kPut && live_) {
        shared_->counters.Add(Counter::kStoreRefused);
        ++refused_;
        Lose(done.key);
      }
      break;
    case StoreOp::Kind::kCommit:
      committing_ = 0;
      if (!status.ok()) break;
      committed_ |= done.committed_lanes;
      SendCommit(now);
      break;
    case StoreOp::Kind::kSeal:
      // Replication has sealed it complete meanwhile: nothing is left to say.
      if (state_ != State::kSealing) break;
      if (absl::IsFailedPrecondition(status)) {
        shared_->Tell(Event::Kind::kDeclined, key_, std::string(status.message()));
        return Decline();
      }
      if (!status.ok()) {
        state_ = State::kReceiving;
        seal_next_ns_ = now + kSealRetryNs;
        break;
      }
      if (!done.complete) {
        state_ = State::kIncomplete;
        shared_->Tell(Event::Kind::kSealedIncomplete, key_, IncompleteReason());
        if (last_put_ > done.id) Reopen(now);
        break;
      }
      state_ = State::kComplete;
      shared_->admission.Leave(key_);
      sealed_blocks_ = held();
      committed_ = done.committed_lanes;
      shared_->Tell(Event::Kind::kSealedComplete, key_,
                    absl::StrCat("complete and durable: ", sealed_blocks_, " blocks"));
      if (heard_ns_ != 0) SendCommit(now);
      live_.reset();
      break;
    case StoreOp::Kind::kFlush:
    case StoreOp::Kind::kHost:
    case StoreOp::Kind::kProbe:
      break;
  }
  wake_ns_ = now;
}

void Dump::Decline() {
  shared_->admission.Leave(key_);
  state_ = State::kDeclined;
  live_.reset();
  sources_.clear();
  committed_ = 0;
}

void Dump::ToSenders(TimeNs now, uint8_t type, std::string_view payload) {
  const uint64_t seq = shared_->next_seq++;
  const ReplyTo to{key_, key_epoch_, &keys_};
  for (const auto& [name, source] : sources_) {
    const bool lately = now < source.heard_ns + kLatelyNs;
    if (!lately && source.heard_ns != heard_ns_) continue;
    shared_->replies.push_back(
        {source.from, MakePacket(type, to, shared_->config.relay_id, seq, name.second, payload)});
  }
  if (type != DCAST_NAK) return;
  const std::string copy = MakePacket(type, to, shared_->config.relay_id, seq, 0, payload);
  for (const Address& peer : shared_->peers) shared_->replies.push_back({peer, copy});
}

void Dump::SendCommit(TimeNs now) {
  commit_next_ns_ = now + kCommitEveryNs;
  if (sources_.empty()) return;
  shared_->counters.Add(Counter::kCommits);
  const bool log = log_committed_ && live_ && live_->class0.log_only();
  ToSenders(
      now, DCAST_COMMIT,
      CommitPayload(log ? live_->class0.AllLanes() : committed_, live_ ? held() : sealed_blocks_));
}

void Dump::SendPace(TimeNs now, uint32_t kib_s) {
  if (!sender_there()) return;
  shared_->counters.Add(Counter::kPaces);
  // What comes on its lanes is a share of what the sender sends.
  if (live_ && live_->class0.received_lanes() != 0)
    kib_s = static_cast<uint32_t>(std::min<uint64_t>(
        uint64_t{kib_s} * live_->class0.lanes() / std::popcount(live_->class0.received_lanes()),
        std::numeric_limits<uint32_t>::max()));
  told_lacking_ = Lacking();
  pace_next_ns_ = now + kPaceEveryNs;
  ToSenders(now, DCAST_PACE, PacePayload(kib_s, told_lacking_));
}

bool Dump::PaceDue(TimeNs now) const {
  return sender_there() && now >= pace_next_ns_ && Lacking() != told_lacking_;
}

uint64_t Dump::expected() const {
  return live_ ? live_->class0.blocks() : sealed_blocks_;
}

uint64_t Dump::held() const {
  if (!live_) return sealed_blocks_;
  uint64_t blocks = 0;
  for (const NumberSet& numbers : live_->held) blocks += numbers.Count();
  return blocks;
}

uint64_t Dump::missing() const {
  if (!live_) return 0;
  uint64_t blocks = 0;
  for (uint8_t c = 0; c < DCAST_CLASSES; ++c)
    blocks += live_->class0.numbers(c).CountMinus(live_->held[c]);
  return blocks;
}

ReceiveStatus Dump::Status(const Hosts::Host* host) const {
  ReceiveStatus status;
  status.blocks_announced = announced_total_;
  status.host_dumping = heard_ns_ != 0 && !gone_;
  for (const auto& [name, source] : sources_) {
    PathCounts path;
    path.origin = name.first;
    path.path = name.second;
    path.packets = source.packets;
    path.duplicates = source.duplicates;
    path.lost = host == nullptr ? 0 : host->seqs.Lost(name.first, name.second);
    status.paths.push_back(path);
  }
  return status;
}

}  // namespace dumpcast
