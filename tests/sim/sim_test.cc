// SPDX-License-Identifier: Apache-2.0
// The real sender core and the real relay engine over a simulated network in virtual time.
//
// Each scenario runs over DUMPCAST_SIM_SEEDS seeds (default 40) from DUMPCAST_SIM_SEED (default 1).
// A failure prints the command that replays its seed alone.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "tests/sim/sim_world.h"

namespace dumpcast {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

void ForSeeds(const std::function<void(uint64_t seed)>& scenario) {
  const uint64_t first = FromEnvironment("DUMPCAST_SIM_SEED", 1);
  const uint64_t count = FromEnvironment("DUMPCAST_SIM_SEEDS", 40);
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed) + "; replay with: DUMPCAST_SIM_SEEDS=1 " +
                 "DUMPCAST_SIM_SEED=" + std::to_string(seed) +
                 " build/dev/tests/unit/unit_sim --gtest_filter=" + info->test_suite_name() + "." +
                 info->name());
    scenario(seed);
    if (testing::Test::HasFailure()) return;
  }
}

// Everything that one seed varies in most scenarios.
WorldOptions Varied(uint64_t seed) {
  SimClock dice(seed * 7919 + 13);
  WorldOptions o;
  o.seed = seed;
  o.relays = 1 + static_cast<unsigned>(dice.Below(4));
  o.windows = 8 + dice.Below(40);
  if (dice.Chance(0.3)) o.high_slice = 1 + dice.Below(3);
  o.host.paths = 1 + static_cast<uint8_t>(dice.Below(2));
  o.host.lanes = 1 + static_cast<uint8_t>(dice.Below(4));
  o.host.mode = dice.Chance(0.3) ? DCAST_STRIPE : DCAST_MIRROR;
  o.host.symbol_size = dice.Chance(0.2) ? 8840 : dice.Chance(0.5) ? 1352 : 1088;
  o.host.slots = 1 + static_cast<uint8_t>(dice.Below(16));
  o.host.parity_percent = static_cast<uint8_t>(dice.Below(3) * 5);
  // None, one of them, or whichever is the best; some of it on other processors.
  o.host.codecs = 1 + static_cast<uint8_t>(dice.Below(7));
  o.host.encrypted = dice.Below(2) != 0;
  if (dice.Chance(0.3)) o.host.helpers = 1 + static_cast<uint8_t>(dice.Below(DCAST_MAX_HELPERS));
  return o;
}

void RunToCompleteEnd(World& world) {
  world.Arm();
  world.RunUntil([] { return false; }, kSecond);
  world.Panic();
  EXPECT_TRUE(world.RunToEnd()) << world.Story();
  world.CheckAll();
  world.CheckEqual();
}

TEST(Sim, NothingGoesWrong) {
  ForSeeds([](uint64_t seed) {
    World world(Varied(seed));
    RunToCompleteEnd(world);
    for (const auto& host : world.hosts) EXPECT_TRUE(host->committed()) << world.Story();
    for (const auto& relay : world.relays) {
      const Counters& c = relay->engine().counters();
      EXPECT_EQ(c[Counter::kMac], 0u);
      EXPECT_EQ(c[Counter::kBlocksBadDigest], 0u);
      EXPECT_EQ(c[Counter::kBlocksEvicted], 0u);
    }
  });
}

TEST(Sim, LossDuplicationReorderingCorruption) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    SimClock dice(seed);
    const double losses[] = {0.001, 0.01, 0.05, 0.2, 0.4};
    o.to_relay.loss = losses[dice.Below(5)];
    o.to_relay.duplicate = dice.Chance(0.5) ? 0.05 : 0;
    o.to_relay.reorder = dice.Chance(0.5) ? 0.2 : 0.01;
    o.to_relay.corrupt = dice.Chance(0.5) ? 0.02 : 0;
    o.to_host = o.to_relay;
    // A block that changes at each read has one answer to be put together from, 64 symbols at most.
    o.changes = o.to_relay.loss <= 0.05 || (o.to_relay.loss <= 0.2 && o.host.symbol_size > 1088);
    World world(o);
    RunToCompleteEnd(world);
  });
}

TEST(Sim, BurstsOfAHundredAreLost) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.to_relay.burst = 0.002;
    o.to_relay.loss = 0.005;
    World world(o);
    RunToCompleteEnd(world);
  });
}

TEST(Sim, PathDies) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.host.paths = 2;
    o.to_relay.loss = 0.01;
    // A host that does not see that a striped path is dead loses half of each answer.
    o.changes = o.host.mode == DCAST_MIRROR;
    World world(o);
    world.Arm();
    const unsigned path = static_cast<unsigned>(world.clock.Below(2));
    const bool carrier = world.clock.Chance(0.5);
    world.clock.After(kSecond + world.clock.Below(50 * kMillisecond), [&world, path, carrier] {
      // Sometimes the host sees it, sometimes the packets go nowhere.
      if (carrier) world.hosts[0]->CutPath(path);
      for (auto& link : world.down[0][path]) link->cut = true;
      for (auto& link : world.up[0][path]) link->cut = true;
    });
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    EXPECT_TRUE(world.RunToEnd()) << world.Story();
    world.CheckAll();
  });
}

TEST(Sim, RelayDiesAndComesBack) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.relays = 2 + static_cast<unsigned>(seed % 3);
    o.to_relay.loss = 0.01;
    World world(o);
    world.Arm();
    SimRelay& victim = *world.relays[world.clock.Below(o.relays)];
    const bool wipe = world.clock.Chance(0.4);
    world.clock.After(kSecond + world.clock.Below(80 * kMillisecond), [&victim, wipe] {
      victim.Kill();
      if (wipe) victim.WipeDisk();
    });
    // Sometimes while the host still sends, sometimes long after it has gone.
    const TimeNs back =
        world.clock.Chance(0.5) ? world.clock.Below(100 * kMillisecond) : 40 * kSecond;
    world.clock.After(kSecond + 90 * kMillisecond + back, [&victim] { victim.Start(); });
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    EXPECT_TRUE(world.RunUntil([&] { return victim.up() && world.AllComplete(); }))
        << world.Story();
    world.CheckAll();
    world.CheckEqual();
  });
}

TEST(Sim, NoWayBack) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.way_back = false;
    o.peers = false;
    o.to_relay.loss = 0.01;
    o.host.blind_passes = 6;
    World world(o);
    RunToCompleteEnd(world);
    for (const auto& host : world.hosts) EXPECT_FALSE(host->committed());
  });
}

// One pass with no way back: of most blocks no relay has enough symbols, all of them together do.
TEST(Sim, WhatNoRelayHasWholeIsMadeOfParts) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.relays = 5;
    o.host.paths = 1;
    o.host.blind_passes = 0;
    o.way_back = false;
    o.replicate = false;
    o.to_relay.loss = 0.3;
    World world(o);
    RunToCompleteEnd(world);
    uint64_t from_peers = 0;
    for (const auto& relay : world.relays)
      from_peers += relay->engine().counters()[Counter::kSymbolsPeer];
    EXPECT_GT(from_peers, 0u);
    o.peers = false;
    World alone(o);
    alone.Arm();
    alone.RunUntil([] { return false; }, kSecond);
    alone.Panic();
    alone.RunUntil([] { return false; }, 60 * kSecond);
    EXPECT_FALSE(alone.AllComplete());
  });
}

TEST(Sim, TwoSendersOfOneDump) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.hosts = 2;
    o.to_relay.loss = 0.02;
    World world(o);
    RunToCompleteEnd(world);
    uint64_t duplicates = 0;
    for (const auto& relay : world.relays) {
      const Counters& c = relay->engine().counters();
      duplicates +=
          c[Counter::kDuplicate] + c[Counter::kHeld] + c[Counter::kSealed] + c[Counter::kStale];
    }
    EXPECT_GT(duplicates, 0u) << world.Story();
  });
}

TEST(Sim, HostDiesHalfWay) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.windows = 60;
    o.host.path_bytes_per_second = 20e6;
    o.to_relay.loss = 0.05;
    World world(o);
    world.Arm();
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    world.RunUntil([] { return false; }, 5 * kMillisecond + world.clock.Below(40 * kMillisecond));
    for (const auto& host : world.hosts) host->Die();
    EXPECT_TRUE(world.RunUntil([&world] {
      return std::all_of(world.relays.begin(), world.relays.end(), [](const auto& relay) {
        return relay->SealedIncomplete() || relay->Complete();
      });
    })) << world.Story();
    world.CheckAll(false);
    for (const auto& relay : world.relays) {
      if (relay->SealedIncomplete()) {
        EXPECT_NE(relay->record().reason, "");
      }
    }
    // Replication makes them equal in the end.
    if (o.relays > 1) {
      world.RunUntil([] { return false; }, 20 * kSecond);
      world.CheckEqual();
    }
  });
}

TEST(Sim, SilentSenderComesBack) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.engine.silent_ns = 2 * kSecond;
    o.engine.seal_ns = 3 * kSecond;
    o.host.linger_ns = 60 * kSecond;
    o.host.rate_kib_s = 512;
    World world(o);
    world.Arm();
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    world.RunUntil([] { return false; }, 100 * kMillisecond);
    const auto cut = [&world](bool off) {
      for (auto& paths : world.down)
        for (auto& links : paths)
          for (auto& link : links) link->cut = off;
    };
    // The network is away until every relay has given up on the host.
    cut(true);
    EXPECT_TRUE(world.RunUntil([&world] {
      return std::all_of(world.relays.begin(), world.relays.end(),
                         [](const auto& relay) { return relay->SealedIncomplete(); });
    })) << world.Story();
    cut(false);
    EXPECT_TRUE(world.RunToEnd()) << world.Story();
    world.CheckAll();
  });
}

TEST(Sim, DiskFullForAWhile) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.host.linger_ns = 30 * kSecond;
    World world(o);
    SimRelay& victim = *world.relays[world.clock.Below(o.relays)];
    world.Arm();
    world.clock.After(kSecond + world.clock.Below(30 * kMillisecond),
                      [&victim] { victim.sink().full = true; });
    world.clock.After(kSecond + 4 * kSecond, [&victim] { victim.sink().full = false; });
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    EXPECT_TRUE(world.RunUntil([&] { return !victim.sink().full && world.AllComplete(); }))
        << world.Story();
    world.CheckAll();
  });
}

// The way to the relays takes a tenth of what the host can send: of what it sends, the most
// arrives.
TEST(Sim, ABottleneckOnTheWaySetsThePace) {
  uint64_t evicted = 0;
  ForSeeds([&evicted](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.host.paths = 1;
    o.host.codecs = 1 << DCAST_CODEC_NONE;
    o.windows = 150;
    o.changes = false;
    o.host.path_bytes_per_second = 20e6;
    // Less than what is incomplete before the host has been told.
    if (seed % 2 == 0) o.engine.dump_memory_bytes = 2 << 20;
    const auto sent = [&](double bytes_per_second) {
      o.to_relay.bytes_per_second = bytes_per_second;
      World world(o);
      RunToCompleteEnd(world);
      for (const auto& relay : world.relays)
        evicted += relay->engine().counters()[Counter::kBlocksEvicted];
      return world.hosts[0]->stats().bytes[0];
    };
    const uint64_t all = sent(0);
    EXPECT_LT(sent(2e6), 2 * all);
  });
  EXPECT_GT(evicted, 0u) << "memory was never too little";
}

// One of three relays has a disk of a hundredth of the others' rate.
TEST(Sim, ASlowDiskHoldsNobodyAndLosesNothing) {
  uint64_t paces = 0;
  ForSeeds([&paces](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.relays = 3;
    o.windows = 60 + o.windows;
    o.host.codecs = 1 << DCAST_CODEC_NONE;
    o.host.commits_wanted = 2;
    o.engine.store_queue_bytes = 256 << 10;
    std::string story;
    const auto run = [&](bool slow) {
      World world(o);
      for (const auto& relay : world.relays) relay->disk_bytes_per_second = 50e6;
      if (slow) world.relays[1]->disk_bytes_per_second = 500e3;
      world.Arm();
      world.RunUntil([] { return false; }, kSecond);
      world.Panic();
      const TimeNs from = world.clock.now();
      const auto& host = *world.hosts[0];
      EXPECT_TRUE(world.RunUntil([&host] { return host.phase() == DCAST_PHASE_DONE; }))
          << world.Story();
      const TimeNs took = world.clock.now() - from;
      story = world.Story();
      EXPECT_TRUE(host.committed()) << world.Story();
      paces += world.relays[1]->engine().counters()[Counter::kPaces];
      EXPECT_TRUE(world.RunToEnd()) << world.Story();
      world.CheckAll();
      world.CheckEqual();
      return took;
    };
    const TimeNs alone = run(false);
    EXPECT_LT(run(true), 2 * alone + kSecond) << story;
  });
  EXPECT_GT(paces, 0u) << "no relay ever had too much";
}

TEST(Sim, LittleMemoryForIncompleteBlocks) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.engine.dump_memory_bytes = 300 << 10;
    o.engine.total_memory_bytes = 300 << 10;
    o.host.slots = 16;
    o.to_relay.loss = 0.1;
    World world(o);
    world.Arm();
    world.RunUntil([] { return false; }, kSecond);
    world.Panic();
    EXPECT_TRUE(world.RunUntil([&world] {
      for (const auto& relay : world.relays) {
        EXPECT_LE(relay->engine().assembly_bytes(), 300u << 10);
      }
      return world.AllComplete();
    })) << world.Story();
    world.CheckAll();
  });
}

TEST(Sim, RecordedPacketsAreReplayed) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.relays = 2;
    World world(o);
    world.record = true;
    RunToCompleteEnd(world);
    SimRelay& relay = *world.relays[0];
    const auto blocks = relay.sink().blocks().size();
    const uint64_t received = relay.engine().counters()[Counter::kReceived];
    for (const std::string& packet : world.recorded) relay.Receive(packet, {});
    world.RunUntil([] { return false; }, 5 * kSecond);
    EXPECT_EQ(relay.sink().blocks().size(), blocks);
    EXPECT_EQ(relay.engine().counters()[Counter::kReceived], received + world.recorded.size());
    EXPECT_TRUE(relay.Complete());
    world.CheckAll();
  });
}

TEST(Sim, SlowHostIsNotAskedTooEarly) {
  ForSeeds([](uint64_t seed) {
    WorldOptions o = Varied(seed);
    o.windows = 10;
    o.high_slice = 0;
    o.host.rate_kib_s = 256;
    o.host.slots = 16;
    World world(o);
    RunToCompleteEnd(world);
    // Nothing was lost, so nothing had to be sent twice but META and a stray early question.
    for (const auto& host : world.hosts)
      EXPECT_LE(host->stats().repeat_symbols, host->stats().blocks) << world.Story();
  });
}

}  // namespace
}  // namespace dumpcast
