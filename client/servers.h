// SPDX-License-Identifier: Apache-2.0
// The relays that a command may ask, tried one after the other.
#ifndef DUMPCAST_CLIENT_SERVERS_H_
#define DUMPCAST_CLIENT_SERVERS_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/config.h"
#include "dumpcast/v1/dumps.grpc.pb.h"
#include "dumpcast/v1/hosts.grpc.pb.h"

namespace dumpcast {

struct Server {
  std::string address;
  std::unique_ptr<v1::Dumps::Stub> dumps;
  std::unique_ptr<v1::Hosts::Stub> hosts;
};

// Same code, and the message without gRPC's own decorations.
absl::Status FromGrpc(const grpc::Status& status);

// Whether another relay may do better: it is unreachable, lacks the dump, or holds damaged blocks.
bool MayFailOver(const absl::Status& status);

// What each server answered, in the order of asking.
class ServerErrors {
 public:
  void Add(const Server& server, absl::Status status);
  bool empty() const { return errors_.empty(); }
  void clear() { errors_.clear(); }
  // NOT_FOUND only when every server said so; else the code of the first other error. The message
  // names each server and why.
  absl::Status Join() const;

 private:
  std::vector<std::pair<std::string, absl::Status>> errors_;
};

// Thread safety: none needed, a command has one thread.
class Servers {
 public:
  // Opens no connection yet. INVALID_ARGUMENT when a TLS file cannot be read.
  static absl::StatusOr<Servers> Create(const ClientConfig& config);

  size_t size() const { return servers_.size(); }
  // The i-th to ask, from the preferred one on.
  Server& At(size_t i) { return servers_[(first_ + i) % servers_.size()]; }
  // Asks the server at At(i) first from now on.
  void Prefer(size_t i) { first_ = (first_ + i) % servers_.size(); }
  absl::Duration deadline() const { return deadline_; }

  // Calls `ask` with one server after the other until it returns OK or an error that no other
  // server would mend; prefers that server from then on.
  [[nodiscard]] absl::Status Try(absl::FunctionRef<absl::Status(Server&)> ask);

 private:
  std::vector<Server> servers_;
  size_t first_ = 0;
  absl::Duration deadline_;
};

// Cancels a call whose peer says nothing for too long. Waiting is bracketed by Arm() and Disarm(),
// so that a slow reader of ours is never taken for a dead relay.
class Watchdog {
 public:
  // `context` must outlive it.
  Watchdog(grpc::ClientContext* context, absl::Duration patience);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Arm();
  void Disarm();
  bool fired() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_SERVERS_H_
