// SPDX-License-Identifier: Apache-2.0
// The rim: sockets, threads, store, peers and gRPC server around one Engine.
//
// Threads: one for each lane and one for unicast (receive, verify, engine), a timer, a writer
// (store work), a flusher beside it, and those of replication and gRPC. The engine is under one
// mutex, which nobody holds while waiting for a socket, the disk or a peer.
#ifndef DUMPCAST_RELAY_NODE_H_
#define DUMPCAST_RELAY_NODE_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "protos/keys/keys.h"
#include "relay/engine.h"
#include "relay/metrics.h"
#include "relay/options.h"
#include "relay/peer_names.h"
#include "relay/udp.h"
#include "relay/verify.h"
#include "relay/writer.h"
#include "store/receive_status.h"
#include "store/replicate/replicator.h"
#include "store/service/server.h"
#include "store/store.h"

namespace dumpcast {

class Node final : public ReceiveStatusSource {
 public:
  // Opens the store, reads what it holds, binds and starts everything. `keys` is by value.
  static absl::StatusOr<std::unique_ptr<Node>> Start(const RelayOptions& options, ClusterKeys keys);
  ~Node() override;

  // Ends receiving, writes what has come, flushes. The error is of the last flush.
  absl::Status Stop();

  // ReceiveStatusSource.
  std::optional<ReceiveStatus> GetReceiveStatus(const DumpKey& dump) const override;
  bool FindSymbols(const DumpKey& dump, BlockSymbols* symbols) const override;
  uint32_t PathsHeard(const Id16& host_id) const override;

  std::string CounterLine() const;
  RelayMetrics Metrics() const;

  // Other keys from now on. What a host sent under keys that are no longer there is kept.
  void SetKeys(ClusterKeys keys);
  const std::vector<int>& grpc_ports() const { return server_->ports(); }

 private:
  Node(const RelayOptions& options, ClusterKeys keys);
  absl::Status Init();
  void StartReplication();
  absl::Status StartApi();
  absl::Status VerifyEncoding(const DumpKey& dump, uint32_t key_epoch, const BlockKey& key,
                              std::string_view encoded) const;
  void OnReplicated(const DumpKey& dump, const std::vector<FetchedBlock>& blocks);
  void OnReplicatedSeal(const DumpKey& dump, bool complete);
  bool Receiving(const DumpKey& dump) const;

  HostKeys FindHostKeys(const Id16& host_id, uint16_t epoch) const;
  void ReceiveLoop(size_t receiver);
  void TimerLoop();
  void WriterLoop();
  // Flushes beside the puts that follow them; one at a time, each reported under its op's id.
  void FlusherLoop();
  void BeginFlush(uint64_t id);
  // Health: whether dumps can be received at all, and why not.
  void CheckHealth();
  void LogStoreError(StoreOp::Kind kind, const absl::Status& status);

  // Runs `work` on the engine, then takes out what it has and hands it on.
  void WithEngine(const std::function<void(Engine&, TimeNs)>& work);
  static TimeNs Now();
  void LogEvents(const std::vector<Event>& events);

  const RelayOptions options_;
  mutable std::mutex keys_mu_;
  ClusterKeys keys_;  // under keys_mu_
  // Rises with each SetKeys(): who remembers keys forgets them.
  std::atomic<uint64_t> keys_version_ = 0;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Udp> udp_;
  std::unique_ptr<PeerNames> peer_names_;
  std::unique_ptr<Replicator> replicator_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<MetricsServer> metrics_;

  mutable std::mutex engine_mu_;
  std::unique_ptr<Engine> engine_;  // under engine_mu_

  std::mutex ops_mu_;
  std::condition_variable ops_cv_;
  std::deque<StoreOp> ops_;  // under ops_mu_
  bool writer_ends_ = false;

  std::mutex flush_mu_;
  std::condition_variable flush_cv_;
  uint64_t flush_id_ = 0;  // under flush_mu_; 0: none is under way
  bool flusher_ends_ = false;

  std::mutex timer_mu_;
  std::condition_variable timer_cv_;
  TimeNs timer_wake_ns_ = 0;  // under timer_mu_
  bool timer_ends_ = false;

  std::vector<std::thread> receive_threads_;
  std::thread timer_thread_, writer_thread_, flusher_thread_;
  // By kind of work: flushes the flusher's, others the writer's.
  std::array<TimeNs, StoreOp::kKinds> store_error_told_ns_{};
  std::string unhealthy_;  // why; the timer's
  bool stopped_ = false;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_NODE_H_
