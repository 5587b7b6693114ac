// SPDX-License-Identifier: Apache-2.0
// fleet: scenarios of a whole fleet in virtual time, and their tables. docs/scaling.md explains
// them.
#include <sys/personality.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "tests/fleet/fleet.h"

namespace dumpcast {
namespace {

constexpr TimeNs kArmedNs = 60 * kSecond;

struct Scenario {
  std::string name;
  std::string what;
  std::function<void(FleetOptions*)> set;
  bool slow = false;  // minutes with all hosts and relays: only by name
};

void Armed(FleetOptions* o) {
  o->heartbeat_ms = 5000;
}
void RollOut(FleetOptions* o) {
  o->panics = o->hosts / 25;
}
void NoPolicy(FleetOptions* o) {
  o->admission.full_dumps = 0;
}
// Smaller dumps, since there are so many.
void Power(FleetOptions* o) {
  o->panics = o->hosts;
  o->memory_kib = std::max<uint64_t>(64, o->memory_kib / 2 / 64 * 64);
  o->one_signature = false;
}
void OneSignature(FleetOptions* o) {
  o->one_signature = true;
}
void Groups(FleetOptions* o) {
  o->groups = std::max(1u, o->relays / 3);
}
// What a relay would need that is to take a dump of every host at once.
void Many(FleetOptions* o) {
  o->max_dumps = o->hosts;
}
void Turns(FleetOptions* o) {
  o->admission.concurrent = 32;
  o->admission.waiting = o->hosts;
  o->admission.wait_ns = o->time_limit_ns;
}

std::function<void(FleetOptions*)> All(std::vector<std::function<void(FleetOptions*)>> sets) {
  return [sets = std::move(sets)](FleetOptions* o) {
    for (const auto& set : sets) set(o);
  };
}
std::function<void(FleetOptions*)> Loss(double loss) {
  return [loss](FleetOptions* o) { o->loss = loss; };
}
void Dying(FleetOptions* o) {
  o->dying = o->relays / 3;
}

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> scenarios = {
      {"armed", "nobody panics: heartbeats", Armed},
      {"rollout", "a twenty-fifth of the hosts, rack by rack, one signature", RollOut},
      {"rollout-loss1", "the same with 1 % loss", All({RollOut, Loss(0.01)})},
      {"rollout-loss5", "the same with 5 % loss", All({RollOut, Loss(0.05)})},
      {"rollout-all", "without a limit by signature", All({RollOut, NoPolicy})},
      {"rollout-all-loss1", "the same with 1 % loss", All({RollOut, NoPolicy, Loss(0.01)})},
      {"rollout-all-loss5", "the same with 5 % loss", All({RollOut, NoPolicy, Loss(0.05)})},
      {"rollout-all-dying", "a third of the relays dies after 20 s and is back after 50 s",
       All({RollOut, NoPolicy, Dying})},
      {"rollout-all-groups", "relays in groups of three", All({RollOut, NoPolicy, Groups})},
      {"power-one", "every host, one signature", All({Power, OneSignature}), true},
      {"power-groups", "every host, signatures of their own, relays in groups of three",
       All({Power, Groups}), true},
      {"power", "the same, every relay receives everything", Power, true},
      {"power-many", "the same with --max-dumps for all hosts", All({Power, Many}), true},
      {"power-turns", "the same, 32 at a time, the others wait for their turn",
       All({Power, Many, Turns}), true},
  };
  return scenarios;
}

double CpuSeconds() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec) / 1e6;
}

struct Row {
  const Scenario* scenario;
  FleetResult result;
  double cpu_s;
};

void PrintHead(const std::vector<const char*>& columns) {
  std::printf("\n");
  for (const char* column : columns) std::printf("| %s ", column);
  std::printf("|\n");
  for (size_t i = 0; i < columns.size(); ++i) std::printf("|---");
  std::printf("|\n");
}

void PrintHosts(const std::vector<Row>& rows) {
  PrintHead({"scenario", "MiB sent by hosts", "full / log only / not committed",
             "s to two durable copies: median / 99 % / most", "of logs: 99 %",
             "bytes sent per byte of a full dump", "NAKs heard per panic",
             "blocks asked for per panic", "% repeats", "% of copies lost"});
  for (const auto& [scenario, r, cpu_s] : rows)
    std::printf(
        "| %s | %.1f | %u / %u / %u | %.1f / %.1f / %.1f | %.1f | %.2f | %.1f | %.1f | %.1f "
        "| %.1f |\n",
        scenario->name.c_str(), r.host_wire_mib, r.full, r.log_only, r.not_committed,
        r.full_median_s, r.full_99_s, r.full_max_s, r.log_99_s, r.wire_per_dump, r.naks_per_panic,
        r.nak_blocks_per_panic, r.repeats_percent, r.copies_lost_percent);
}

// Of a relay: the mean of those that add up, the most of any of those that are peaks.
void PrintRelays(const std::vector<Row>& rows) {
  PrintHead({"scenario", "MiB received", "peak MiB/s", "MiB from peers", "packets/s", "replies/s",
             "dumps at once", "peak MiB of incomplete blocks", "of the store's queue", "heap, MiB",
             "complete copies: least / mean", "virtual s", "CPU s of the run"});
  for (const auto& [scenario, r, cpu_s] : rows)
    std::printf(
        "| %s | %.1f | %.1f | %.1f | %.0f | %.0f | %lu | %.2f | %.2f | %.1f | %u / %.1f | "
        "%.0f | %.0f |\n",
        scenario->name.c_str(), r.port_mib, r.port_peak_mib_s, r.peer_mib, r.packets_per_s,
        r.replies_per_s, r.receiving_peak, r.assembly_peak_mib, r.queue_peak_mib,
        r.heap_mib_per_relay, r.copies_min, r.copies_mean, r.virtual_s, cpu_s);
}

// The number of checks that did not hold.
size_t Run(const Scenario& scenario, FleetOptions options, std::vector<Row>* rows) {
  scenario.set(&options);
  const double before = CpuSeconds();
  Fleet fleet(options);
  if (options.panics == 0) {
    fleet.RunArmed(kArmedNs);
  } else {
    fleet.Run();
  }
  rows->push_back({&scenario, fleet.Result(), CpuSeconds() - before});
  std::printf("%s: %s", scenario.name.c_str(), scenario.what.c_str());
  if (options.panics != 0)
    std::printf("; %u panics, %lu KiB of memory each, of which a dump is %zu blocks, %lu bytes",
                options.panics, options.memory_kib, fleet.dump_blocks(), fleet.EncodedBytes());
  std::printf("\n");
  const std::vector<std::string> faults = fleet.Check();
  for (const std::string& fault : faults) std::printf("  WRONG: %s\n", fault.c_str());
  std::fflush(stdout);
  return faults.size();
}

// The engine's hash maps are walked in an order that depends on where they lie: only with the same
// addresses does a seed give the same run.
void FixAddresses(char** argv) {
  const int now = personality(0xffffffff);
  if (now != -1 && (now & ADDR_NO_RANDOMIZE) != 0) return;
  if (personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE) != -1)
    execv("/proc/self/exe", argv);
  std::fprintf(stderr, "fleet: addresses stay random, so that another run may differ a little\n");
}

int Main(int argc, char** argv) {
  FleetOptions options;
  options.memory_kib = 512;
  std::vector<std::string> names;
  CLI::App app("Thousands of hosts and their relays in one process and virtual time.");
  app.add_option("--scenario", names,
                 "Which, by name; may be repeated; default: all but the slow ones");
  app.add_option("--hosts", options.hosts, "Hosts")->capture_default_str();
  app.add_option("--relays", options.relays, "Relays, 64 at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--memory-kib", options.memory_kib,
                 "Memory of a host, a multiple of 64; when all panic half")
      ->capture_default_str()
      ->check(CLI::Range(64, 1 << 20));
  app.add_option("--scale", options.scale, "Every rate and buffer is so much smaller than real")
      ->capture_default_str();
  app.add_option("--loss", options.loss,
                 "Chance of each copy of a packet to be lost, 0..1; "
                 "scenarios that are about loss have their own")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of all chance")->capture_default_str();
  bool list = false;
  app.add_flag("--list", list, "Names the scenarios");
  CLI11_PARSE(app, argc, argv);
  if (list) {
    for (const Scenario& s : Scenarios())
      std::printf("%-20s %s%s\n", s.name.c_str(), s.what.c_str(), s.slow ? " (slow)" : "");
    return 0;
  }
  std::printf("%u hosts, %u relays, scale %.0f, seed %lu; a sender takes %zu bytes (at most %zu)\n",
              options.hosts, options.relays, options.scale, options.seed, sizeof(FleetHost),
              kMaxSenderBytes);
  size_t faults = 0;
  std::vector<Row> rows;
  for (const Scenario& scenario : Scenarios()) {
    const bool named = std::find(names.begin(), names.end(), scenario.name) != names.end();
    if (names.empty() ? !scenario.slow : named) faults += Run(scenario, options, &rows);
  }
  if (rows.empty() || rows.size() < names.size()) {
    std::fprintf(stderr, "fleet: no such scenario; --list names them\n");
    return 2;
  }
  PrintHosts(rows);
  PrintRelays(rows);
  return faults == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dumpcast

int main(int argc, char** argv) {
  dumpcast::FixAddresses(argv);
  return dumpcast::Main(argc, argv);
}
