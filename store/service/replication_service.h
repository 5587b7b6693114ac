// SPDX-License-Identifier: Apache-2.0
// dumpcast.v1.Replication, the side that has blocks. The side that fetches is store/replicate/.
#ifndef DUMPCAST_STORE_SERVICE_REPLICATION_SERVICE_H_
#define DUMPCAST_STORE_SERVICE_REPLICATION_SERVICE_H_

#include <string>

#include "dumpcast/v1/replication.grpc.pb.h"
#include "store/receive_status.h"
#include "store/store.h"

namespace dumpcast {

// Lists durable blocks only: what a peer counts as held here must survive a crash. Bytes are given
// of all blocks that were put: who asks for them keeps them itself.
//
// Thread safety: gRPC calls it from its own threads.
class ReplicationService final : public v1::Replication::Service {
 public:
  // receive_status: may be null; both outlive the service.
  ReplicationService(Store* store, const ReceiveStatusSource* receive_status,
                     std::string relay_name)
      : store_(store), receive_status_(receive_status), relay_name_(std::move(relay_name)) {}

  grpc::Status GetInventory(grpc::ServerContext* context, const v1::GetInventoryRequest* request,
                            v1::GetInventoryResponse* response) override;
  grpc::Status GetBlockMap(grpc::ServerContext* context, const v1::GetBlockMapRequest* request,
                           v1::GetBlockMapResponse* response) override;
  grpc::Status ListBlocks(grpc::ServerContext* context, const v1::ListBlocksRequest* request,
                          grpc::ServerWriter<v1::ListBlocksResponse>* writer) override;
  grpc::Status FetchBlocks(grpc::ServerContext* context, const v1::FetchBlocksRequest* request,
                           grpc::ServerWriter<v1::FetchBlocksResponse>* writer) override;
  grpc::Status FetchSymbols(grpc::ServerContext* context, const v1::FetchSymbolsRequest* request,
                            v1::FetchSymbolsResponse* response) override;

 private:
  Store* const store_;
  const ReceiveStatusSource* const receive_status_;
  const std::string relay_name_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_REPLICATION_SERVICE_H_
