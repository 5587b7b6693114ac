// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_world.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <sstream>

#include "gtest/gtest.h"
#include "protos/keys/end_to_end.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

// An address says which machine and path; the engine only hands it back.
enum : uint8_t { kHost = 1, kRelay = 2 };
Address MakeAddress(uint8_t kind, size_t machine, size_t path) {
  Address address;
  address.bytes[0] = kind;
  address.bytes[1] = static_cast<uint8_t>(machine);
  address.bytes[2] = static_cast<uint8_t>(path);
  return address;
}

constexpr uint64_t kPagesPerWindow = 16;

}  // namespace

World::World(const WorldOptions& o)
    : clock(o.seed), options(o), memory(o.seed, o.windows, o.high_slice, o.changes) {
  for (unsigned h = 0; h < o.hosts; ++h) {
    SimHostOptions host = o.host;
    host.seed = o.seed;
    host.origin = 0x5e4d00 + h;
    hosts.push_back(std::make_unique<SimHost>(
        &clock, &memory, host, [this, h](unsigned path, unsigned, const std::string& packet) {
          if (record) recorded.push_back(packet);
          for (const auto& link : down[h][path]) link->Send(packet);
        }));
  }
  for (unsigned r = 0; r < o.relays; ++r) {
    EngineConfig config = o.engine;
    config.lane_mask = ~uint64_t{0};
    relays.push_back(std::make_unique<SimRelay>(
        &clock, 1000 + r, config, [this, r](const Address& to, const std::string& packet) {
          if (to.bytes[0] == kHost) {
            if (options.way_back) up[to.bytes[1]][to.bytes[2]][r]->Send(packet);
          } else {
            between_[r * options.relays + to.bytes[1]]->Send(packet);
          }
        }));
  }
  for (unsigned h = 0; h < o.hosts; ++h) {
    down.emplace_back(o.host.paths);
    up.emplace_back(o.host.paths);
    for (unsigned p = 0; p < o.host.paths; ++p) {
      for (unsigned r = 0; r < o.relays; ++r) {
        down[h][p].push_back(
            std::make_unique<SimLink>(&clock, o.to_relay, [this, h, p, r](const std::string& s) {
              relays[r]->Receive(s, MakeAddress(kHost, h, p));
            }));
        up[h][p].push_back(std::make_unique<SimLink>(
            &clock, o.to_host, [this, h, p](const std::string& s) { hosts[h]->Receive(p, s); }));
      }
    }
  }
  for (unsigned from = 0; from < o.relays; ++from) {
    for (unsigned to = 0; to < o.relays; ++to) {
      between_.push_back(
          std::make_unique<SimLink>(&clock, o.to_host, [this, from, to](const std::string& s) {
            relays[to]->Receive(s, MakeAddress(kRelay, from, 0));
          }));
    }
  }
  for (unsigned r = 0; r < o.relays; ++r) {
    std::vector<SimRelay*> peers;
    std::vector<Address> addresses;
    for (unsigned other = 0; o.peers && other < o.relays; ++other) {
      if (other == r) continue;
      peers.push_back(relays[other].get());
      addresses.push_back(MakeAddress(kRelay, other, 0));
    }
    relays[r]->SetPeers(peers, addresses);
    relays[r]->Start();
  }
  if (o.replicate && o.peers) clock.After(5 * kSecond, [this] { Replicate(); });
}

void World::Replicate() {
  for (const auto& relay : relays)
    for (const auto& peer : relays)
      if (relay != peer) relay->ReplicateFrom(*peer);
  clock.After(5 * kSecond, [this] { Replicate(); });
}

void World::Arm() {
  for (const auto& host : hosts) host->Arm();
}
void World::Panic() {
  for (const auto& host : hosts) host->Panic();
}

bool World::RunUntil(const std::function<bool()>& done, TimeNs limit_ns) {
  return clock.Run(done, clock.now() + limit_ns);
}

bool World::AllComplete() const {
  return std::all_of(relays.begin(), relays.end(),
                     [](const auto& relay) { return !relay->up() || relay->Complete(); });
}

bool World::RunToEnd(TimeNs limit_ns) {
  return RunUntil(
      [this] {
        return AllComplete() && std::all_of(hosts.begin(), hosts.end(), [](const auto& host) {
                 return !host->alive() || host->phase() == DCAST_PHASE_DONE;
               });
      },
      limit_ns);
}

void World::CheckRelay(const SimRelay& relay, bool complete) {
  if (relay.up()) {
    EXPECT_EQ(relay.engine().CheckCounters(), "");
  }
  EXPECT_EQ(relay.broken_promise(), "");
  EXPECT_EQ(relay.sink().put_twice, 0u) << "a block was stored twice";

  std::map<uint64_t, uint8_t> present[DCAST_CLASSES];  // pages by class
  std::set<std::pair<uint8_t, uint64_t>> seen;
  for (const auto& [key, stored] : relay.sink().blocks()) {
    seen.emplace(key.block_class, key.number);
    if (key.digest == 0) continue;
    const dcast_keys keys = SimHost::Keys();
    ASSERT_EQ(dcast_block_digest(&keys, key.block_class, key.number, stored.encoded.data(),
                                 static_cast<uint32_t>(stored.encoded.size())),
              key.digest);
    std::string encoding = stored.encoded;
    const bool clear =
        key.block_class == 0 &&
        dcast_stream_is_clear(static_cast<unsigned>(key.number >> DCAST_STREAM_SHIFT));
    if (options.host.encrypted && !clear) {
      const auto decrypted = DecryptEncoding(SimHost::CipherKeys(), SimHost::Dump().dump_id.data(),
                                             key.block_class, key.number, stored.encoded);
      ASSERT_TRUE(decrypted.ok()) << decrypted.status();
      encoding = *decrypted;
    }
    const auto block = DecodeBlock(key.block_class, 12, encoding);
    ASSERT_TRUE(block.ok()) << block.status();
    if (key.block_class == 0) {
      const unsigned stream = static_cast<unsigned>(key.number >> DCAST_STREAM_SHIFT);
      const uint64_t chunk = key.number & 0xffffffff;
      if (stream == DCAST_STREAM_WHOLE_META) {
        dcast_meta meta;
        ASSERT_EQ(block->raw.size(), sizeof(meta));
        std::memcpy(&meta, block->raw.data(), sizeof(meta));
        EXPECT_EQ(meta.flags & dcast_to_le64(DCAST_META_ENCRYPTED), 0u);
      } else if (stream != DCAST_STREAM_META && stream != DCAST_STREAM_PRESENCE) {
        EXPECT_EQ(block->raw,
                  memory.Stream(stream).substr(chunk * DCAST_WINDOW_BYTES, DCAST_WINDOW_BYTES));
      }
      continue;
    }
    unsigned carried = 0;
    for (unsigned i = 0; i < kPagesPerWindow; ++i) {
      const uint64_t pfn = key.number * kPagesPerWindow + i;
      const bool here = (block->header.present >> i & 1) != 0;
      ASSERT_EQ(here, memory.ClassOf(pfn) == key.block_class) << "page " << pfn;
      if (!here) continue;
      const bool unreadable = (block->header.unreadable >> i & 1) != 0;
      ASSERT_EQ(unreadable, memory.Unreadable(pfn)) << "page " << pfn;
      if (unreadable) continue;
      if ((block->header.zero >> i & 1) != 0) {
        ASSERT_EQ(memory.Page(pfn), std::string(4096, '\0')) << "page " << pfn;
        continue;
      }
      std::string page = block->raw.substr(4096 * carried++, 4096);
      std::string source = memory.Page(pfn);
      if (memory.Volatile(pfn)) {
        page.replace(0, 8, 8, 0);
        source.replace(0, 8, 8, 0);
      }
      ASSERT_EQ(page, source) << "page " << pfn;
    }
  }
  if (!complete) return;
  std::string lacking;
  for (uint64_t window = 0; window < memory.window_end(); ++window) {
    std::set<uint8_t> classes;
    for (unsigned i = 0; i < kPagesPerWindow; ++i)
      classes.insert(memory.ClassOf(window * kPagesPerWindow + i));
    classes.erase(0);
    for (const uint8_t c : classes)
      if (!seen.contains({c, window}))
        lacking += " " + std::to_string(c) + "/" + std::to_string(window);
  }
  for (unsigned s = 0; s < DCAST_STREAMS; ++s) {
    const bool whole_meta = s == DCAST_STREAM_WHOLE_META && options.host.encrypted;
    const uint64_t bytes = s == DCAST_STREAM_META || whole_meta ? 1 : memory.Stream(s).size();
    for (uint64_t chunk = 0; chunk * DCAST_WINDOW_BYTES < bytes; ++chunk)
      if (!seen.contains({uint8_t{0}, dcast_class0_number(s, chunk)}))
        lacking += " 0/" + std::to_string(s) + ":" + std::to_string(chunk);
  }
  EXPECT_EQ(lacking, "") << "relay " << relay.id();
}

void World::CheckAll(bool complete) {
  for (const auto& relay : relays)
    if (relay->up()) CheckRelay(*relay, complete);
}

void World::CheckEqual() {
  const SimRelay* first = nullptr;
  const auto numbers = [](const SimRelay& relay) {
    std::set<std::pair<uint8_t, uint64_t>> set;
    for (const auto& [key, stored] : relay.sink().blocks())
      set.emplace(key.block_class, key.number);
    return set;
  };
  for (const auto& relay : relays) {
    if (!relay->up()) continue;
    if (first == nullptr) first = relay.get();
    EXPECT_EQ(numbers(*first), numbers(*relay));
  }
}

std::string World::Story() const {
  std::ostringstream out;
  out << "at " << (clock.now() - 10 * kSecond) / kMillisecond << " ms\n";
  for (const auto& host : hosts) {
    const dcast_stats& s = host->stats();
    out << "host: alive " << host->alive() << " phase " << host->phase() << " committed "
        << host->committed() << " blocks " << s.blocks << " parity " << s.parity_symbols
        << " repeats " << s.repeat_symbols << " empties " << s.empties << " naks " << s.naks << "/"
        << s.nak_entries << " dropped " << s.nak_dropped << " bad mac " << s.rx_bad_mac
        << " format " << s.rx_bad_format << " replayed " << s.rx_replayed << "\n";
  }
  for (const auto& relay : relays) {
    out << "relay " << relay->id() << ": ";
    if (!relay->up()) {
      out << "down\n";
      continue;
    }
    if (const auto view = relay->engine().GetDump(SimHost::Dump()))
      out << "expected " << view->expected << " held " << view->held << " missing " << view->missing
          << " sealed " << view->sealed << " complete " << view->complete << " gone "
          << view->sender_gone << " end " << view->end_heard << " ";
    out << relay->engine().counters().ToString() << "\n";
    for (const Event& event : relay->events) out << "    " << event.text << "\n";
  }
  return out.str();
}

}  // namespace dumpcast
