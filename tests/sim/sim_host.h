// SPDX-License-Identifier: Apache-2.0
// A crashed host: the real sender engine over made-up memory.
#ifndef DUMPCAST_TESTS_SIM_SIM_HOST_H_
#define DUMPCAST_TESTS_SIM_SIM_HOST_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kmod/core/dcast_sender.h"
#include "relay/packets.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_memory.h"

namespace dumpcast {

struct SimHostOptions {
  uint64_t seed = 1;
  uint64_t origin = 0x5e4d;
  uint8_t paths = 1;
  uint8_t lanes = 1;
  dcast_path_mode mode = DCAST_MIRROR;
  uint16_t symbol_size = 1352;
  double path_bytes_per_second = 100e6;  // of each path's device
  uint32_t rate_kib_s = 0;
  uint32_t blind_passes = 4;
  uint8_t commits_wanted = 0;
  uint8_t slots = 8;
  uint8_t parity_percent = 4;
  TimeNs linger_ns = 5 * kSecond;
  uint8_t helpers = 0;
  uint8_t codecs = 1 << DCAST_CODEC_NONE | 1 << DCAST_CODEC_LZ4;
  bool encrypted = false;
};

class SimHost {
 public:
  using OnPacket = std::function<void(unsigned path, unsigned lane, const std::string& packet)>;
  SimHost(SimClock* clock, const SimMemory* memory, const SimHostOptions& options,
          OnPacket on_packet);

  // Heartbeats from now on; the dump when Panic() is called.
  void Arm();
  void Panic();
  // Power off.
  void Die() { alive_ = false; }
  void CutPath(unsigned path) { path_up_[path] = false; }
  void Receive(unsigned path, const std::string& packet);

  bool alive() const { return alive_; }
  dcast_phase phase() const { return dcast_sender_phase(sender_.get()); }
  bool committed() const { return dcast_sender_committed(sender_.get()) != 0; }
  const dcast_stats& stats() const { return *dcast_sender_stats(sender_.get()); }
  bool begun() const { return begun_; }
  const SimHostOptions& options() const { return options_; }

  static DumpKey Dump();
  static dcast_keys Keys();
  static dcast_cipher_keys CipherKeys();
  static constexpr uint16_t kEpoch = 7;

 private:
  friend struct SimRim;
  void Step();
  void Wake(TimeNs when);

  SimClock* clock_;
  const SimMemory* memory_;
  const SimHostOptions options_;
  OnPacket on_packet_;
  dcast_secrets secrets_ = {};
  std::unique_ptr<dcast_sender> sender_;
  std::vector<uint8_t> scratch_;
  std::vector<uint8_t> tx_;
  std::array<TimeNs, DCAST_MAX_PATHS> busy_until_ns_{};
  std::array<bool, DCAST_MAX_PATHS> path_up_;
  std::map<unsigned, std::string> streams_;
  uint64_t reads_ = 0;
  uint64_t turns_ = 0;       // of helpers
  TimeNs wake_ns_ = kNever;  // of the event that is queued
  uint64_t wake_number_ = 0;
  bool alive_ = true;
  bool begun_ = false;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_SIM_SIM_HOST_H_
