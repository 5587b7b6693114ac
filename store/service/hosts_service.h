// SPDX-License-Identifier: Apache-2.0
// dumpcast.v1.Hosts, over the store.
#ifndef DUMPCAST_STORE_SERVICE_HOSTS_SERVICE_H_
#define DUMPCAST_STORE_SERVICE_HOSTS_SERVICE_H_

#include "dumpcast/v1/hosts.grpc.pb.h"
#include "store/service/catalog.h"

namespace dumpcast {

// Thread safety: gRPC calls it from its own threads.
class HostsService final : public v1::Hosts::Service {
 public:
  explicit HostsService(Catalog* catalog) : catalog_(catalog) {}

  grpc::Status ListHosts(grpc::ServerContext* context, const v1::ListHostsRequest* request,
                         v1::ListHostsResponse* response) override;

 private:
  Catalog* const catalog_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_HOSTS_SERVICE_H_
