// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Runs the sender's engine over a MemorySource and UDP paths, from heartbeat to DONE.
#ifndef DUMPCAST_KMOD_CORE_SEND_REPLAY_H_
#define DUMPCAST_KMOD_CORE_SEND_REPLAY_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "kmod/core/dcast_sender.h"
#include "kmod/core/send/memory_source.h"
#include "kmod/core/send/udp_path.h"

namespace dumpcast {

struct ReplayOptions {
  dcast_config config = {};    // but for its secrets, which are
  dcast_secrets secrets = {};  // these
  uint64_t arm_ns = 0;         // heartbeats before the dump, to hear relays
  uint8_t flags = 0;           // DCAST_F_LIVE, DCAST_F_TEST
  bool ignore_replies = false;
  bool insists = false;    // whatever relays' policies say: somebody wants it there
  bool continues = false;  // another sender's dump: dcast_sender_continue()
  bool quiet = false;
};

// One dump. Not thread-safe; Run() is called once.
class Replay {
 public:
  // `source` and `paths` (one per config.paths) must outlive the replay.
  // Errors: kInvalidArgument when the engine refuses the configuration.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Replay>> Create(
      const ReplayOptions& options, const MemorySource* source,
      std::vector<std::unique_ptr<UdpPath>>* paths);

  // Sends until the engine is DONE; progress goes to stderr. True when enough relays
  // committed.
  bool Run();
  // Wipes its secrets.
  ~Replay();

 private:
  struct Rim;
  Replay() = default;
  void AddSignature(dcast_meta* meta) const;
  void Pump(uint64_t now_ns);
  void WaitUntil(uint64_t wake_ns, uint64_t now_ns);
  void PrintVerdict(uint64_t now_ns);
  void PrintProgress(uint64_t now_ns);
  void PrintSummary(uint64_t now_ns);

  ReplayOptions options_;
  const MemorySource* source_ = nullptr;
  std::vector<std::unique_ptr<UdpPath>>* paths_ = nullptr;
  std::unique_ptr<dcast_sender> sender_;
  std::unique_ptr<uint8_t[]> scratch_;
  std::array<bool, DCAST_MAX_PATHS> up_ = {};
  uint64_t up_checked_ns_ = 0;
  uint64_t begin_ns_ = 0;
  uint64_t progress_ns_ = 0;
  uint64_t progress_bytes_ = 0;
  dcast_verdict told_verdict_ = DCAST_ADMIT_FULL;
  bool progress_open_ = false;  // a line without its newline is on the terminal
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_REPLAY_H_
