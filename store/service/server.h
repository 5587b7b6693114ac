// SPDX-License-Identifier: Apache-2.0
// The relay's gRPC server: Dumps, Hosts, Replication, health and reflection.
#ifndef DUMPCAST_STORE_SERVICE_SERVER_H_
#define DUMPCAST_STORE_SERVICE_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "store/holder_source.h"
#include "store/receive_status.h"
#include "store/store.h"

namespace dumpcast {

struct ServerOptions {
  Store* store = nullptr;                               // must outlive the server
  const ReceiveStatusSource* receive_status = nullptr;  // may be null; must outlive the server
  const HolderSource* holders = nullptr;                // may be null; must outlive the server
  // Shown to people and peers.
  std::string relay_name;
  // gRPC addresses, such as "0.0.0.0:26211" or "unix:/run/dumpcast.sock"; port 0 takes a free one.
  std::vector<std::string> listen;
  // PEM files. Without a certificate the server speaks in the clear. With tls_ca_file clients must
  // show a certificate that it signed.
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_ca_file;
  // Clock of holders' times and host states. Default: the system's.
  std::function<int64_t()> now_unix_ns;
  // Called after DeleteDump has deleted a dump here; from a gRPC thread.
  std::function<void(const DumpKey&)> on_delete;
};

// Thread safety: all methods may be called from any thread.
class ApiServer {
 public:
  virtual ~ApiServer() = default;
  // Bound TCP ports, as ServerOptions::listen is ordered; 1 for a Unix socket.
  virtual const std::vector<int>& ports() const = 0;
  // After a dump was deleted by other means than a client: lets go of what readers may come back
  // for, which keeps the store from giving its space back.
  virtual void ForgetViews() = 0;
  // Reports NOT_SERVING to health checks, so that no new work comes.
  virtual void SetServing(bool serving) = 0;
  // Health of the relay as a whole, service "": whether it can receive dumps. Those that it has can
  // be read meanwhile, and service "dumpcast.v1.Dumps" says so.
  virtual void SetReceiving(bool receiving) = 0;
  // Lets calls under way end for at most `grace_ms`, then cuts them off. Idempotent; the destructor
  // does it with no grace.
  virtual void Shutdown(int grace_ms) = 0;
};

// INVALID_ARGUMENT for options that contradict each other or files that cannot be read;
// FAILED_PRECONDITION naming the address that cannot be bound.
absl::StatusOr<std::unique_ptr<ApiServer>> StartServer(ServerOptions options);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_SERVER_H_
