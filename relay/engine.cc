// SPDX-License-Identifier: Apache-2.0
#include "relay/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "relay/arbitrate.h"
#include "relay/dump.h"
#include "relay/hosts.h"
#include "relay/reply.h"
#include "relay/shared.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxPeerOrigins = 256;
constexpr TimeNs kRefusedNs = 5 * kSecond;  // a dump that the store refused to begin
constexpr TimeNs kVersionEventNs = 60 * kSecond;
constexpr TimeNs kDeclinedEventNs = 60 * kSecond;
constexpr size_t kMaxRefused = 4096;
constexpr size_t kMaxHellos = 16384;
constexpr TimeNs kHelloSpreadNs = 20 * kMillisecond;

template <typename T>
T PayloadAs(std::string_view payload) {
  T value;
  std::memcpy(&value, payload.data(), sizeof(value));
  return value;
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const EngineConfig& config, KeyLookup keys, std::function<uint64_t()> random)
      : shared(config, std::move(random)), lookup(keys), verifier(std::move(keys)) {}

  void Accept(TimeNs now, const Verified& packet);
  void OnAnnounce(TimeNs now, Hosts::Host& host, const Verified& packet);
  void OnPeerPacket(TimeNs now, const Verified& packet);
  // `old`: so far behind its path's newest that it may well be a replay.
  void OnDumpPacket(TimeNs now, const Verified& packet, bool old);
  void RecordHost(const DumpKey& key, const Hosts::Host& host);
  void SayHello(TimeNs now, const Verified& packet);
  void SendHellos(TimeNs now);
  Dump* Find(const DumpKey& key) {
    const auto it = dumps.find(key);
    return it == dumps.end() ? nullptr : it->second.get();
  }
  // The dump of a packet of a sender that dumps, begun when it is new; nullptr when it is refused.
  Dump* FindOrBegin(TimeNs now, const Verified& packet);
  size_t Receiving() const {
    return std::count_if(live.begin(), live.end(), [](Dump* dump) { return dump->takes_place(); });
  }
  size_t Sending() const {
    return std::count_if(live.begin(), live.end(), [](Dump* dump) { return dump->sender_there(); });
  }
  // A dump that may still change; `dumps` owns it.
  Dump* Keep(std::unique_ptr<Dump> dump);
  void ForgetSealed() {
    absl::erase_if(live, [](Dump* dump) { return !dump->live(); });
  }

  Shared shared;
  KeyLookup lookup;
  Verifier verifier;
  Hosts hosts;
  absl::flat_hash_map<uint64_t, SeqWindow> peer_seqs;  // by relay id
  // Destroyed before `shared`, whose budget they use.
  absl::flat_hash_map<DumpKey, std::unique_ptr<Dump>> dumps;
  // Those of which something is still to be done: a relay may have thousands that are sealed.
  absl::flat_hash_set<Dump*> live;
  absl::flat_hash_map<DumpKey, TimeNs> refused;  // until when
  // Answers to ANNOUNCEs, spread so that many relays do not answer in one instant.
  struct Hello {
    TimeNs due_ns = 0;
    DumpKey dump;
    uint16_t key_epoch = 0;
    std::shared_ptr<const dcast_keys> keys;
    Address to;
    uint8_t path = 0;
    uint64_t announce_seq = 0;  // as on the wire
  };
  std::vector<Hello> hellos;
  TimeNs version_told_ns = 0;
  TimeNs many_told_ns = 0;
};

Engine::Engine(const EngineConfig& config, KeyLookup keys, std::function<uint64_t()> random)
    : impl_(std::make_unique<Impl>(config, std::move(keys), std::move(random))) {}
Engine::~Engine() = default;

// ---- recovery ----

void Engine::RestoreDump(TimeNs now, const RestoredDump& restored) {
  const HostKeys host = impl_->lookup(restored.key.host_id, restored.key_epoch);
  const std::optional<dcast_keys> keys = host.revoked ? std::nullopt : host.keys;
  // Without its key nothing of the dump can be checked; a sealed or declined one needs none.
  auto dump = std::make_unique<Dump>(&impl_->shared, restored.key, restored.key_epoch,
                                     keys.value_or(dcast_keys{}), restored.live, restored.test);
  Dump::State state = Dump::State::kReceiving;
  if (restored.declined) {
    state = Dump::State::kDeclined;
  } else if (restored.sealed) {
    state = restored.complete ? Dump::State::kComplete : Dump::State::kIncomplete;
  }
  dump->Restore(now, state, restored.committed_lanes);
  if (restored.complete && !restored.live && !restored.test && restored.age_ns < now)
    impl_->shared.admission.Restore(now - restored.age_ns, restored.signature);
  if (state == Dump::State::kReceiving)
    impl_->shared.Tell(Event::Kind::kDumpResumed, restored.key,
                       keys ? "going on with what the store holds"
                            : absl::StrCat("the key file has no epoch ", restored.key_epoch,
                                           " for it: nothing more is asked for"));
  impl_->Keep(std::move(dump));
}

void Engine::RestoreBlock(const DumpKey& dump, const BlockKey& key, std::string_view encoded) {
  if (Dump* d = impl_->Find(dump)) d->RestoreBlock(key, encoded);
}

void Engine::RestoreHost(const RestoredHost& host) {
  impl_->hosts.Restore(host);
}

// ---- packets ----

void Engine::Receive(TimeNs now, const Datagram& datagram) {
  impl_->Accept(now, impl_->verifier.Verify(datagram));
}

void Engine::ReceiveVerified(TimeNs now, const Verified& packet) {
  impl_->Accept(now, packet);
}

void Engine::Impl::Accept(TimeNs now, const Verified& packet) {
  Counters& counters = shared.counters;
  counters.Add(Counter::kReceived);
  shared.pace.NoteReceived(now, sizeof(packet.hdr) + packet.payload.size());
  if (!packet.ok()) {
    counters.Add(packet.verdict);
    if (packet.verdict == Counter::kVersion &&
        (version_told_ns == 0 || now >= version_told_ns + kVersionEventNs)) {
      version_told_ns = now;
      shared.Tell(Event::Kind::kBadVersion, packet.dump(),
                  absl::StrCat("packets of format version ", int{packet.hdr.major}, ".",
                               int{packet.hdr.minor}, " are refused: this relay speaks version ",
                               DCAST_VERSION_MAJOR, "; update the relay before the hosts"));
    }
    return;
  }
  if (dcast_le64(packet.hdr.origin) == shared.config.relay_id) return counters.Add(Counter::kOwn);
  if (packet.verdict == Counter::kPeerPacket) return OnPeerPacket(now, packet);

  Hosts::Host& host = hosts.Touch(now, packet);
  const uint64_t lost = host.seqs.lost();
  const SeqVerdict seq = host.seqs.Note(now, dcast_le64(packet.hdr.origin), packet.hdr.path,
                                        packet.hdr.lane, dcast_le64(packet.hdr.seq));
  shared.pace.NoteInSequence(static_cast<int64_t>(host.seqs.lost() - lost));
  // A very late SYMBOL still does good and no harm; a late state would turn time back.
  const bool late = (packet.verdict == Counter::kAnnounce || packet.verdict == Counter::kEnd) &&
                    !host.seqs.Rising(dcast_le64(packet.hdr.origin), packet.hdr.path,
                                      packet.hdr.lane, dcast_le64(packet.hdr.seq));
  if (seq == SeqVerdict::kSeen || late) return counters.Add(Counter::kReplay);
  if (packet.verdict == Counter::kAnnounce) return OnAnnounce(now, host, packet);
  OnDumpPacket(now, packet, seq == SeqVerdict::kOld);
}

void Engine::Impl::OnAnnounce(TimeNs now, Hosts::Host& host, const Verified& packet) {
  const auto announce = PayloadAs<dcast_announce>(packet.payload);
  bool record = false;
  const Hosts::Announced what = hosts.NoteAnnounce(now, host, announce, &record);
  if (what == Hosts::Announced::kReplay) return shared.counters.Add(Counter::kReplay);
  shared.counters.Add(Counter::kAnnounce);
  const DumpKey about{packet.dump().host_id, {}};
  if (what == Hosts::Announced::kArmed)
    shared.Tell(Event::Kind::kHostArmed, about,
                absl::StrCat(host.hostname, " is armed, kernel \"", host.kernel_release, "\""));
  if (what == Hosts::Announced::kRebooted)
    shared.Tell(
        Event::Kind::kHostRebooted, about,
        absl::StrCat(host.hostname, " has booted again, kernel \"", host.kernel_release, "\""));
  if (what == Hosts::Announced::kGoodbye)
    shared.Tell(Event::Kind::kHostGoodbye, about,
                absl::StrCat(host.hostname, " is no longer armed"));
  if (record) RecordHost(about, host);

  switch (announce.state) {
    case DCAST_ST_ARMED:
      for (Dump* dump : live)
        if (dump->key().host_id == about.host_id && dump->key() != packet.dump())
          dump->OnHostElsewhere(now);
      SayHello(now, packet);
      break;
    case DCAST_ST_DUMPING:
    case DCAST_ST_LINGER:
      SayHello(now, packet);
      if (Dump* dump = FindOrBegin(now, packet)) {
        dump->NoteSource(now, packet);
        dump->OnAnnounce(now, packet, announce);
      }
      break;
    case DCAST_ST_DONE:
      if (Dump* dump = Find(packet.dump())) {
        dump->NoteSource(now, packet);
        dump->OnAnnounce(now, packet, announce);
      }
      break;
    default:
      break;
  }
}

void Engine::Impl::RecordHost(const DumpKey& key, const Hosts::Host& host) {
  StoreOp op;
  op.kind = StoreOp::Kind::kHost;
  op.dump = key;
  op.hostname = host.hostname;
  op.kernel_release = host.kernel_release;
  op.boot_id = host.boot_id;
  op.memory_bytes = host.memory_bytes;
  op.paths = host.paths;
  op.interval_ms = static_cast<uint32_t>(host.interval_ns / kMillisecond);
  op.disarmed = host.disarmed;
  op.announce_unix_ns = host.announce_unix_ns;
  op.former_boots.assign(host.former_boots.begin(), host.former_boots.end());
  shared.store.Add(std::move(op));
}

void Engine::Impl::SayHello(TimeNs now, const Verified& packet) {
  if (hellos.size() >= kMaxHellos) return;
  hellos.push_back({now + shared.random() % kHelloSpreadNs, packet.dump(),
                    dcast_le16(packet.hdr.key_epoch), packet.keys, packet.from, packet.hdr.path,
                    packet.hdr.seq});
}

void Engine::Impl::SendHellos(TimeNs now) {
  const auto due = std::stable_partition(hellos.begin(), hellos.end(),
                                         [now](const Hello& h) { return h.due_ns > now; });
  for (auto it = due; it != hellos.end(); ++it) {
    const ReplyTo to{it->dump, it->key_epoch, it->keys.get()};
    shared.counters.Add(Counter::kHellos);
    shared.replies.push_back(
        {it->to,
         MakePacket(DCAST_HELLO, to, shared.config.relay_id, shared.next_seq++, it->path,
                    HelloPayload(it->announce_seq, shared.config.lane_mask,
                                 shared.pace.KibPerSecond(Sending()), shared.config.name))});
  }
  hellos.erase(due, hellos.end());
}

void Engine::Impl::OnPeerPacket(TimeNs now, const Verified& packet) {
  const uint64_t origin = dcast_le64(packet.hdr.origin);
  if (!peer_seqs.contains(origin) && peer_seqs.size() >= kMaxPeerOrigins) peer_seqs.clear();
  if (peer_seqs[origin].Note(dcast_le64(packet.hdr.seq)) != SeqVerdict::kNew)
    return shared.counters.Add(Counter::kReplay);
  shared.counters.Add(Counter::kPeerPacket);
  if (packet.hdr.type != DCAST_NAK) return;
  if (Dump* dump = Find(packet.dump())) dump->OnOtherNak(now, packet);
}

Dump* Engine::Impl::FindOrBegin(TimeNs now, const Verified& packet) {
  const DumpKey key = packet.dump();
  if (Dump* dump = Find(key)) return dump;
  bool again = false;
  if (const auto it = refused.find(key); it != refused.end()) {
    if (now < it->second) return nullptr;
    refused.erase(it);
    again = true;
  }
  if (Receiving() >= shared.config.max_dumps) {
    if (many_told_ns == 0 || now >= many_told_ns + kDeclinedEventNs) {
      many_told_ns = now;
      shared.Tell(
          Event::Kind::kDeclined, key,
          absl::StrCat("declined: ", shared.config.max_dumps, " dumps are being received already"));
    }
    return nullptr;
  }
  const bool live = (packet.hdr.flags & DCAST_F_LIVE) != 0;
  const bool test = (packet.hdr.flags & DCAST_F_TEST) != 0;
  auto dump = std::make_unique<Dump>(&shared, key, dcast_le16(packet.hdr.key_epoch), *packet.keys,
                                     live, test);
  dump->Open(now);
  const Hosts::Host* host = hosts.Find(key.host_id);
  if (!again)
    shared.Tell(Event::Kind::kDumpBegun, key,
                absl::StrCat(host != nullptr && host->announced ? host->hostname : "a host",
                             test   ? " sends a test dump"
                             : live ? " sends a live dump"
                                    : " has crashed and sends its memory"));
  return Keep(std::move(dump));
}

Dump* Engine::Impl::Keep(std::unique_ptr<Dump> dump) {
  auto& place = dumps[dump->key()];
  live.erase(place.get());
  place = std::move(dump);
  if (place->live()) live.insert(place.get());
  return place.get();
}

void Engine::Impl::OnDumpPacket(TimeNs now, const Verified& packet, bool old) {
  shared.counters.Add(packet.verdict);
  Dump* dump = FindOrBegin(now, packet);
  if (dump == nullptr) {
    if (packet.verdict == Counter::kSymbol) shared.counters.Add(Counter::kDeclined);
    return;
  }
  // What an old packet brings is as good as ever, but it does not show that the host lives, nor
  // where it is: replies would follow whoever replays.
  if (dump->state() != Dump::State::kDeclined && !old) dump->NoteSource(now, packet);
  switch (packet.verdict) {
    case Counter::kSymbol:
      return dump->OnSymbol(now, packet);
    case Counter::kEmpty:
      return dump->OnEmpty(now, packet);
    default:
      return dump->OnEnd(now, packet);
  }
}

// ---- time, store, peers ----

void Engine::Tick(TimeNs now) {
  Shared& shared = impl_->shared;
  for (Dump* dump : impl_->live)
    if (now >= dump->WakeNs()) dump->Tick(now);
  impl_->ForgetSealed();
  if (!impl_->hellos.empty()) impl_->SendHellos(now);
  if (shared.store_full && now >= shared.store_probe_ns) {
    shared.store_probe_ns = kNever;
    StoreOp op;
    op.kind = StoreOp::Kind::kProbe;
    shared.store.Add(std::move(op));
  }
  uint64_t hurt = 0;
  for (const Dump* dump : impl_->live) hurt += dump->Lacking() + dump->AskedAgain();
  const bool changed = shared.pace.Update(now, shared.store.pending_bytes(), hurt);
  for (Dump* dump : impl_->live)
    if (changed || dump->PaceDue(now))
      dump->SendPace(now, shared.pace.KibPerSecond(impl_->Sending()));
}

TimeNs Engine::WakeNs() const {
  TimeNs wake = std::min(impl_->shared.store.WakeNs(), impl_->shared.store_probe_ns);
  for (const Impl::Hello& hello : impl_->hellos) wake = std::min(wake, hello.due_ns);
  bool sending = false;
  for (const Dump* dump : impl_->live) {
    wake = std::min(wake, dump->WakeNs());
    sending = sending || dump->sender_there();
  }
  return sending ? std::min(wake, impl_->shared.pace.WakeNs()) : wake;
}

void Engine::StoreDone(TimeNs now, uint64_t op_id, const absl::Status& status) {
  Shared& shared = impl_->shared;
  const auto done = shared.store.Report(now, op_id, status);
  if (!done) return;
  if (status.ok()) shared.pace.NoteStored(done->bytes);
  if (done->symbols != 0)
    shared.NoteDecoded(done->symbols, done->parity, !absl::IsInvalidArgument(status));
  if (done->kind == StoreOp::Kind::kProbe) {
    if (!status.ok()) {
      shared.store_probe_ns = now + Shared::kStoreProbeNs;
      return;
    }
    shared.store_full = false;
    shared.store_full_told_ns = 0;
    shared.Tell(Event::Kind::kDiskRoom, {}, "the store takes blocks again");
    return;
  }
  if (done->kind == StoreOp::Kind::kFlush) {
    for (Dump* dump : impl_->live) dump->OnStoreDone(now, *done, status);
    return;
  }
  Dump* dump = impl_->Find(done->dump);
  if (dump == nullptr) return;
  dump->OnStoreDone(now, *done, status);
  // A dump that could not begin is forgotten, and may try again when there is room.
  if (done->kind == StoreOp::Kind::kOpenDump && !status.ok() && dump->receiving()) {
    if (impl_->refused.size() >= kMaxRefused) impl_->refused.clear();
    impl_->refused[done->dump] = now + kRefusedNs;
    impl_->live.erase(dump);
    impl_->dumps.erase(done->dump);
  }
}

void Engine::PeerFetched(TimeNs now, uint64_t fetch_id, const PeerResult& result) {
  const auto it = impl_->shared.open_fetches.find(fetch_id);
  if (it == impl_->shared.open_fetches.end()) return;
  const DumpKey key = it->second;
  impl_->shared.open_fetches.erase(it);
  if (Dump* dump = impl_->Find(key)) dump->OnPeerResult(now, result);
}

void Engine::BlocksReplicated(TimeNs now, const DumpKey& key,
                              const std::vector<PeerBlock>& blocks) {
  if (Dump* dump = impl_->Find(key)) dump->OnReplicated(now, blocks);
}

void Engine::SealedByReplication(const DumpKey& key) {
  if (Dump* dump = impl_->Find(key)) dump->OnSealedElsewhere();
}

void Engine::Decline(TimeNs now, const DumpKey& key) {
  Dump* dump = impl_->Find(key);
  if (dump == nullptr) {
    RestoredDump gone;
    gone.key = key;
    gone.declined = true;
    return RestoreDump(now, gone);
  }
  if (dump->state() == Dump::State::kDeclined) return;
  dump->Decline();
  impl_->shared.Tell(Event::Kind::kDeclined, key, "deleted or evicted; its packets are declined");
}

void Engine::SetPeers(std::vector<Address> peers, bool has_peers) {
  impl_->shared.peers = std::move(peers);
  impl_->shared.has_peers = has_peers;
}

void Engine::NoteSocketDrops(TimeNs, uint64_t datagrams) {
  impl_->shared.counters.Add(Counter::kSocketDrops, datagrams);
  impl_->shared.pace.NoteSocketDrops(datagrams);
}

// ---- out ----

std::vector<Reply> Engine::TakeReplies() {
  return std::exchange(impl_->shared.replies, {});
}
std::vector<StoreOp> Engine::TakeStoreOps(TimeNs now) {
  return impl_->shared.store.Take(now);
}
std::vector<PeerFetch> Engine::TakePeerFetches() {
  return std::exchange(impl_->shared.fetches, {});
}
std::vector<Event> Engine::TakeEvents() {
  return std::exchange(impl_->shared.events, {});
}

// ---- look ----

const Counters& Engine::counters() const {
  return impl_->shared.counters;
}
uint64_t Engine::assembly_bytes() const {
  return impl_->shared.budget.used();
}
uint64_t Engine::waiting_symbols() const {
  return impl_->shared.budget.waiting_symbols();
}
uint64_t Engine::store_queue_bytes() const {
  return impl_->shared.store.pending_bytes();
}
uint32_t Engine::pace_kib_s() const {
  return impl_->shared.pace.KibPerSecond(1);
}
std::string Engine::CheckCounters() const {
  return impl_->shared.counters.Check(impl_->shared.budget.waiting_symbols());
}

namespace {

Engine::DumpView ViewOf(const Dump& dump) {
  Engine::DumpView view;
  view.key = dump.key();
  view.sealed = dump.state() == Dump::State::kComplete || dump.state() == Dump::State::kIncomplete;
  view.complete = dump.state() == Dump::State::kComplete;
  view.declined = dump.state() == Dump::State::kDeclined;
  view.sender_gone = dump.gone();
  view.end_heard = dump.end_heard();
  view.expected = dump.expected();
  view.held = dump.held();
  view.missing = dump.missing();
  view.committed_lanes = dump.committed_lanes();
  return view;
}

}  // namespace

std::optional<Engine::DumpView> Engine::GetDump(const DumpKey& key) const {
  const Dump* dump = impl_->Find(key);
  if (dump == nullptr) return std::nullopt;
  return ViewOf(*dump);
}

std::vector<Engine::DumpView> Engine::ListDumps() const {
  std::vector<DumpView> views;
  for (const auto& [key, dump] : impl_->dumps) views.push_back(ViewOf(*dump));
  return views;
}

std::optional<ReceiveStatus> Engine::GetReceiveStatus(const DumpKey& key) const {
  const Dump* dump = impl_->Find(key);
  if (dump == nullptr) return std::nullopt;
  return dump->Status(impl_->hosts.Find(key.host_id));
}

bool Engine::FindSymbols(const DumpKey& key, BlockSymbols* symbols) const {
  const Dump* dump = impl_->Find(key);
  return dump != nullptr && dump->FindSymbols(symbols);
}

uint32_t Engine::PathsHeard(TimeNs now, const Id16& host_id) const {
  return impl_->hosts.PathsHeard(now, host_id);
}

}  // namespace dumpcast
