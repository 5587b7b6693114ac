// SPDX-License-Identifier: Apache-2.0
#include "tests/fleet/fleet.h"

#include <malloc.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

constexpr double kMib = 1 << 20;
constexpr uint64_t kMaxRelays = 64;  // bits of promised_
constexpr uint64_t kLeastStoreQueueBytes = 1 << 20;
constexpr TimeNs kArmingNs = 5 * kSecond;    // all hosts, one after another
constexpr TimeNs kSettleNs = 120 * kSecond;  // silence, seal, and two rounds of replication

size_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

double Seconds(TimeNs ns) {
  return static_cast<double>(ns) / static_cast<double>(kSecond);
}

// Of sorted values.
double Percentile(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<size_t>(p * static_cast<double>(sorted.size() - 1))];
}

double Ratio(double part, double whole) {
  return whole == 0 ? 0 : part / whole;
}

}  // namespace

Fleet::Fleet(const FleetOptions& o)
    : options_(o),
      clock_(o.seed),
      memory_(o.seed, o.memory_kib),
      senders_(&clock_, &memory_, o.nic_bytes_per_second / o.scale,
               [this](uint32_t host, const Packet& packet) { Depart(host, packet); }),
      groups_(o.groups),
      promised_(o.hosts),
      durable_ns_(o.hosts),
      port_bytes_(std::min<uint64_t>(o.relays, kMaxRelays)) {
  senders_.config.time_limit_ns = o.time_limit_ns;
  senders_.config.heartbeat_ms = o.heartbeat_ms;
  shared_.clock = &clock_;
  shared_.memory = &memory_;
  shared_.port_bytes_per_second = o.port_bytes_per_second / o.scale;
  shared_.port_queue_bytes = o.switch_buffer_bytes / o.scale;
  shared_.disk_bytes_per_second = o.disk_bytes_per_second / o.scale;
  shared_.encode = [this](uint32_t host, const FleetMemory::Name& name) {
    return hosts_[host].Encode(name);
  };
  shared_.send = [this](std::vector<Reply> replies) {
    replies_ += replies.size();
    clock_.After(options_.latency_ns, [this, replies = std::move(replies)] { Deliver(replies); });
  };
  shared_.on_commit = [this](uint32_t host, uint32_t relay) {
    promised_[host] |= uint64_t{1} << relay;
    if (durable_ns_[host] == 0 && std::popcount(promised_[host]) >= 2)
      durable_ns_[host] = clock_.now();
  };
  for (uint32_t h = 0; h < o.hosts; ++h) hosts_.emplace_back(&senders_, h);
  const uint32_t racks = (o.hosts + o.hosts_per_rack - 1) / o.hosts_per_rack;
  uplinks_.assign(racks,
                  FleetLink(o.uplink_bytes_per_second / o.scale, o.switch_buffer_bytes / o.scale));
  EngineConfig config;
  config.admission = o.admission;
  config.max_dumps = o.max_dumps;
  config.store_queue_bytes =
      std::max(kLeastStoreQueueBytes, static_cast<uint64_t>(o.store_queue_bytes / o.scale));
  for (uint32_t r = 0; r < port_bytes_.size(); ++r) {
    relays_.push_back(std::make_unique<FleetRelay>(&shared_, r, config));
    groups_[r % o.groups].push_back(relays_.back().get());
  }
  for (const auto& group : groups_) {
    for (FleetRelay* relay : group) {
      std::vector<FleetRelay*> peers = group;
      std::erase(peers, relay);
      relay->SetPeers(std::move(peers));
    }
  }
}

void Fleet::Arm() {
  heap_at_start_ = HeapBytes();
  begun_ns_ = clock_.now();
  for (const auto& relay : relays_) relay->Start();
  for (FleetHost& host : hosts_) clock_.After(clock_.Below(kArmingNs), [&host] { host.Arm(); });
  Sample();
}

void Fleet::RunArmed(TimeNs duration) {
  Arm();
  clock_.Run([] { return false; }, begun_ns_ + duration);
}

void Fleet::Run() {
  Arm();
  // Every host has been answered.
  const TimeNs first = begun_ns_ + kArmingNs + kSecond;
  for (uint32_t h = 0; h < std::min(options_.panics, options_.hosts); ++h) {
    Admission::Signature signature{};
    const uint32_t cause = options_.one_signature ? 1 : h + 1;
    std::memcpy(signature.data(), &cause, sizeof(cause));
    clock_.At(first + clock_.Below(options_.panic_window_ns),
              [this, h, signature] { hosts_[h].Panic(signature); });
  }
  for (uint32_t i = 0; i < std::min<uint32_t>(options_.dying, relays_.size()); ++i) {
    FleetRelay* relay = relays_[i].get();
    clock_.At(first + options_.die_ns, [relay] { relay->Kill(); });
    clock_.At(first + options_.back_ns, [relay] { relay->Start(); });
  }
  const TimeNs last = first + std::max(options_.panic_window_ns, options_.back_ns);
  clock_.Run([] { return false; }, last);
  const auto each_second = [this](const auto& done, TimeNs limit_ns) {
    while (!done() && clock_.now() < limit_ns)
      clock_.Run([] { return false; }, clock_.now() + kSecond);
  };
  each_second(
      [this] {
        return std::all_of(hosts_.begin(), hosts_.end(),
                           [](const FleetHost& host) { return !host.panicked() || host.ended(); });
      },
      last + options_.time_limit_ns + kSecond);
  each_second([this] { return Over(); }, clock_.now() + kSettleNs);
}

// Nothing is under way, and the relays of a group have the same.
bool Fleet::Over() const {
  return std::all_of(relays_.begin(), relays_.end(), [this](const auto& relay) {
    return relay->up() && relay->Idle() && relay->Receiving() == 0 &&
           relay->complete_dumps() ==
               groups_[relay->index() % options_.groups].front()->complete_dumps();
  });
}

void Fleet::Depart(uint32_t host, const Packet& packet) {
  const uint64_t bytes = packet->size() + kFrameBytes;
  host_wire_bytes_ += bytes;
  const TimeNs at = uplinks_[host / options_.hosts_per_rack].Send(clock_.now(), bytes);
  if (at == kNever) return;
  clock_.At(at + options_.latency_ns, [this, host, packet] {
    for (FleetRelay* relay : groups_[GroupOf(host)]) {
      ++copies_;
      if (clock_.Chance(options_.loss)) {
        ++chance_losses_;
      } else {
        relay->Arrive(packet, HostAddress(host));
      }
    }
  });
}

void Fleet::Deliver(const std::vector<Reply>& replies) {
  for (const Reply& reply : replies) {
    if (clock_.Chance(options_.loss)) continue;
    if (const auto host = HostAt(reply.to)) {
      hosts_[*host].Receive(reply.payload);
    } else {
      relays_[RelayAt(reply.to)]->Arrive(std::make_shared<const std::string>(reply.payload),
                                         RelayAddress(0));
    }
  }
}

void Fleet::Sample() {
  for (size_t r = 0; r < relays_.size(); ++r) {
    const uint64_t bytes = relays_[r]->port().bytes();
    port_peak_bytes_s_ = std::max(port_peak_bytes_s_, bytes - port_bytes_[r]);
    port_bytes_[r] = bytes;
    if (relays_[r]->up()) receiving_peak_ = std::max(receiving_peak_, relays_[r]->Receiving());
  }
  heap_peak_ = std::max(heap_peak_, HeapBytes());
  clock_.After(kSecond, [this] { Sample(); });
}

uint64_t Fleet::EncodedBytes() const {
  uint64_t bytes = sizeof(dcast_meta);
  for (const auto& [name, encoding] : senders_.encodings) bytes += encoding.size();
  return bytes;
}

FleetResult Fleet::Result() const {
  FleetResult r;
  std::vector<double> full_s, log_s;
  uint64_t full_wire = 0, repeats = 0, panic_packets = 0, copies = 0;
  uint32_t panics = 0, sent_in_full = 0;
  r.copies_min = static_cast<uint32_t>(relays_.size());
  for (uint32_t h = 0; h < options_.hosts; ++h) {
    const FleetHost& host = hosts_[h];
    if (!host.panicked()) continue;
    ++panics;
    const dcast_stats& s = host.stats();
    repeats += s.repeat_symbols;
    panic_packets += s.packets[0];
    r.naks_per_panic += static_cast<double>(s.naks);
    r.nak_blocks_per_panic += static_cast<double>(s.nak_entries);
    if (!host.committed()) {
      ++r.not_committed;
      continue;
    }
    const double seconds = Seconds(durable_ns_[h] - host.panic_ns());
    if (host.log_only()) {
      ++r.log_only;
      log_s.push_back(seconds);
      continue;
    }
    ++r.full;
    full_s.push_back(seconds);
    full_wire += s.bytes[0] + s.packets[0] * kFrameBytes;
    ++sent_in_full;
    const auto holders =
        static_cast<uint32_t>(std::count_if(relays_.begin(), relays_.end(), [h](const auto& relay) {
          const FleetRelay::Stored* stored = relay->Find(h);
          return stored != nullptr && stored->complete;
        }));
    copies += holders;
    r.copies_min = std::min(r.copies_min, holders);
  }
  if (sent_in_full == 0) r.copies_min = 0;
  std::sort(full_s.begin(), full_s.end());
  std::sort(log_s.begin(), log_s.end());
  r.full_median_s = Percentile(full_s, 0.5);
  r.full_99_s = Percentile(full_s, 0.99);
  r.full_max_s = Percentile(full_s, 1);
  r.log_99_s = Percentile(log_s, 0.99);
  r.host_wire_mib = static_cast<double>(host_wire_bytes_) / kMib;
  r.wire_per_dump = Ratio(static_cast<double>(full_wire),
                          static_cast<double>(r.full) * static_cast<double>(EncodedBytes()));
  r.naks_per_panic = Ratio(r.naks_per_panic, panics);
  r.nak_blocks_per_panic = Ratio(r.nak_blocks_per_panic, panics);
  r.repeats_percent = 100 * Ratio(static_cast<double>(repeats), static_cast<double>(panic_packets));
  r.copies_mean = Ratio(static_cast<double>(copies), sent_in_full);

  const auto relays = static_cast<double>(relays_.size());
  const double run_s = Seconds(clock_.now() - begun_ns_);
  for (const FleetLink& uplink : uplinks_) r.uplink_drops += uplink.drops();
  for (const auto& relay : relays_) {
    r.port_drops += relay->port().drops();
    r.port_mib += static_cast<double>(relay->port().bytes()) / kMib / relays;
    r.peer_mib += static_cast<double>(relay->peer_bytes()) / kMib / relays;
    r.packets_per_s += static_cast<double>(relay->Count(Counter::kReceived)) / run_s / relays;
    r.assembly_peak_mib =
        std::max(r.assembly_peak_mib, static_cast<double>(relay->peak_assembly_bytes()) / kMib);
    r.queue_peak_mib =
        std::max(r.queue_peak_mib, static_cast<double>(relay->peak_queue_bytes()) / kMib);
  }
  r.chance_losses = chance_losses_;
  r.copies_lost_percent = 100 * Ratio(static_cast<double>(r.port_drops + r.chance_losses),
                                      static_cast<double>(copies_));
  r.port_peak_mib_s = static_cast<double>(port_peak_bytes_s_) / kMib;
  r.replies_per_s = static_cast<double>(replies_) / run_s / relays;
  r.receiving_peak = receiving_peak_;
  r.heap_mib_per_relay = static_cast<double>(heap_peak_ - heap_at_start_) / kMib / relays;
  r.virtual_s = run_s;
  return r;
}

std::vector<std::string> Fleet::Check() const {
  std::vector<std::string> faults;
  std::map<Admission::Signature, std::pair<uint64_t, uint64_t>> by_signature;  // panics, log only
  for (uint32_t h = 0; h < options_.hosts; ++h) {
    const FleetHost& host = hosts_[h];
    if (!host.panicked()) continue;
    if (!host.ended()) faults.push_back(absl::StrCat("host ", h, " has not ended"));
    auto& [panics, log_only] = by_signature[host.signature()];
    ++panics;
    log_only += host.log_only();
    const auto promised = static_cast<size_t>(std::popcount(promised_[h]));
    if (host.committed() && promised < std::min<size_t>(2, groups_[GroupOf(h)].size()))
      faults.push_back(absl::StrCat("host ", h, " believes in COMMITs that nobody has sent"));
    for (const auto& relay : relays_) {
      if ((promised_[h] >> relay->index() & 1) != 0 && !relay->Holds(h, host.log_only()))
        faults.push_back(
            absl::StrCat("relay ", relay->index(), " has promised host ", h, " and lacks blocks"));
    }
  }
  for (const auto& [signature, counts] : by_signature) {
    const uint32_t full_dumps = options_.admission.full_dumps;
    const uint64_t beyond =
        full_dumps == 0 || counts.first < full_dumps ? 0 : counts.first - full_dumps;
    // Who found all places taken is told the log only as well.
    if (options_.admission.concurrent == 0 && counts.second > beyond)
      faults.push_back(absl::StrCat(counts.second, " of ", counts.first,
                                    " dumps of one signature were the log only"));
  }
  for (const auto& relay : relays_) {
    if (!relay->fault().empty()) faults.push_back(relay->fault());
    if (!relay->up()) faults.push_back(absl::StrCat("relay ", relay->index(), " is down"));
  }
  return faults;
}

}  // namespace dumpcast
