// SPDX-License-Identifier: Apache-2.0
// dumpcast-relay: options, keys, log, signals.
#include <grpc/grpc.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <bit>
#include <cstdio>
#include <ctime>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "protos/keys/keys.h"
#include "relay/log.h"
#include "relay/metrics.h"
#include "relay/node.h"
#include "relay/options.h"
#include "relay/peer_names.h"

namespace dumpcast {
namespace {

constexpr char kDefaultConfig[] = "/etc/dumpcast/relay.toml";
constexpr time_t kCounterSeconds = 60;

// Memory that is freed is wanted again by the next block: given back to the kernel in between, each
// page of it would be cleared and mapped again, which was a third of a relay's work. When no dump
// comes it is given back (Run()).
void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that there is
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

// A table of the store is a file, and a terabyte has some ten thousand of them.
void RaiseFileLimit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &files);
}

// Debian builds Abseil with a graph of all locks ever held together, which ends the process when
// two were taken in both orders: for tests, and one lock for all threads.
void DoNotWatchLocks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

void SayHowToTry(const RelayOptions& options) {
  spdlog::info(
      "single node with defaults; send it a test dump of any file with: dumpcast-send "
      "--test --format raw --file FILE");
  spdlog::info("then look at it with: dumpcast ls");
  spdlog::info("the store is in {}", options.store_path);
}

absl::StatusOr<ClusterKeys> LoadClusterKeys(const std::string& path) {
  if (path.empty()) return UnauthenticatedKeys();
  absl::StatusOr<ClusterKeys> keys = LoadKeyFile(path);
  if (keys.ok() && (keys->by_epoch.empty() || !keys->host_by_epoch.empty())) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": a relay wants cluster keys, `epoch key`; `host` lines are for the host they name"));
  }
  return keys;
}

// The key file when it has changed: rotated keys and revoked hosts count without a restart. One
// that cannot be read is told, and nothing changes.
class KeyFileWatch {
 public:
  explicit KeyFileWatch(const std::string& path) : path_(path), seen_(Look()) {}

  // forced: somebody says that it has changed.
  void Refresh(Node* node, bool forced) {
    if (path_.empty()) return;
    const Seen now = Look();
    if (!forced && now == seen_) return;
    seen_ = now;
    auto keys = LoadClusterKeys(path_);
    if (!keys.ok()) {
      spdlog::error("the keys stay as they were: {}", std::string(keys.status().message()));
      return;
    }
    spdlog::info("keys are read again: {} epochs, the newest is {}; {} hosts are revoked",
                 keys->by_epoch.size(), keys->NewestEpoch(), keys->revoked.size());
    node->SetKeys(*std::move(keys));
  }

 private:
  using Seen = std::tuple<ino_t, off_t, time_t, long>;
  Seen Look() const {
    struct stat st {};
    if (path_.empty() || stat(path_.c_str(), &st) != 0) return {};
    return {st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  }
  const std::string path_;
  Seen seen_;
};

int Run(const RelayOptions& options) {
  if (options.describe_metrics) {
    std::fputs(MetricsPage().c_str(), stdout);
    return 0;
  }
  KeyFileWatch key_file(options.key_file);
  auto keys = LoadClusterKeys(options.key_file);
  if (!keys.ok()) {
    std::fprintf(stderr, "dumpcast-relay: --key-file: %s\n",
                 std::string(keys.status().message()).c_str());
    return 2;
  }
  for (const std::string& peer : options.peers) {
    if (auto name = ParsePeer(peer, 1); !name.ok()) {
      std::fprintf(stderr, "dumpcast-relay: --peers: %s\n",
                   std::string(name.status().message()).c_str());
      return 2;
    }
  }
  if (options.check_config) {
    std::printf("dumpcast-relay: the configuration is right\n");
    return 0;
  }

  // Before any thread: all of them inherit it, and the signals come to sigtimedwait() below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // Never undone: gRPC's own teardown may wait 10 s for a poller of a connection to a peer that
  // has gone, when everything is durable already and a supervisor wants the process to end. It
  // starts threads, so it comes after the mask: a signal that one of them takes ends the process.
  grpc_init();

  SetUpLog(options.log_level, options.json_log);
  if (options.key_file.empty()) spdlog::warn("{}", kUnauthenticatedWarning);
  auto node = Node::Start(options, *std::move(keys));
  if (!node.ok()) {
    spdlog::critical("cannot start: {}", std::string(node.status().message()));
    return 1;
  }
  spdlog::info("{} listens on {} lanes of {} and {} port {}, gRPC on {}", options.name,
               std::popcount(options.own_lanes), options.group, options.group6, options.port,
               absl::StrJoin(options.listen, ", "));
  if (!options.configured) SayHowToTry(options);

  std::string last;
  int signal_number = -1;
  while (signal_number != SIGTERM && signal_number != SIGINT) {
    const timespec wait{kCounterSeconds, 0};
    signal_number = sigtimedwait(&signals, nullptr, &wait);
    key_file.Refresh(node->get(), signal_number == SIGHUP);
    const std::string line = (*node)->CounterLine();
    if (line != last || signal_number == SIGUSR1) spdlog::info("counters: {}", line);
    last = line;
    if ((*node)->Metrics().dumps_receiving == 0) malloc_trim(0);
  }
  spdlog::info("ending: signal {}", signal_number);
  if (const absl::Status status = (*node)->Stop(); !status.ok()) {
    spdlog::critical("the last flush failed: {}", status.ToString());
    return 1;
  }
  spdlog::info("everything received is durable");
  return 0;
}

}  // namespace
}  // namespace dumpcast

int main(int argc, char** argv) {
  dumpcast::KeepFreedMemory();
  dumpcast::DoNotWatchLocks();
  dumpcast::RaiseFileLimit();
  if (sodium_init() < 0) {
    std::fprintf(stderr, "dumpcast-relay: libsodium cannot start\n");
    return 1;
  }
  const auto parsed = dumpcast::ParseRelayOptions(argc, argv, dumpcast::kDefaultConfig);
  return parsed.run ? dumpcast::Run(parsed.options) : parsed.exit_code;
}
