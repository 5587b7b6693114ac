// SPDX-License-Identifier: Apache-2.0
// dumpcast.v1.Dumps, over the store.
#ifndef DUMPCAST_STORE_SERVICE_DUMPS_SERVICE_H_
#define DUMPCAST_STORE_SERVICE_DUMPS_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "dumpcast/v1/dumps.grpc.pb.h"
#include "store/service/catalog.h"

namespace dumpcast {

// Thread safety: gRPC calls it from its own threads. A streaming call keeps one of them until it
// ends.
class DumpsService final : public v1::Dumps::Service {
 public:
  // on_delete, if set, is called after a dump was deleted here, with its key.
  DumpsService(Catalog* catalog, std::function<void(const DumpKey&)> on_delete)
      : catalog_(catalog), on_delete_(std::move(on_delete)) {}

  grpc::Status ListDumps(grpc::ServerContext* context, const v1::ListDumpsRequest* request,
                         v1::ListDumpsResponse* response) override;
  grpc::Status GetDump(grpc::ServerContext* context, const v1::GetDumpRequest* request,
                       v1::Dump* response) override;
  grpc::Status ReadDump(grpc::ServerContext* context, const v1::ReadDumpRequest* request,
                        grpc::ServerWriter<v1::ReadDumpResponse>* writer) override;
  grpc::Status ReadLog(grpc::ServerContext* context, const v1::ReadLogRequest* request,
                       grpc::ServerWriter<v1::ReadLogResponse>* writer) override;
  grpc::Status ListHeldRuns(grpc::ServerContext* context, const v1::ListHeldRunsRequest* request,
                            grpc::ServerWriter<v1::ListHeldRunsResponse>* writer) override;
  grpc::Status ReadBlocks(grpc::ServerContext* context, const v1::ReadBlocksRequest* request,
                          grpc::ServerWriter<v1::ReadBlocksResponse>* writer) override;
  grpc::Status WatchDumps(grpc::ServerContext* context, const v1::WatchDumpsRequest* request,
                          grpc::ServerWriter<v1::WatchDumpsResponse>* writer) override;
  grpc::Status DeleteDump(grpc::ServerContext* context, const v1::DeleteDumpRequest* request,
                          v1::DeleteDumpResponse* response) override;

 private:
  absl::Status List(const v1::ListDumpsRequest& request, v1::ListDumpsResponse* response);
  absl::Status Read(grpc::ServerContext* context, const v1::ReadDumpRequest& request,
                    grpc::ServerWriter<v1::ReadDumpResponse>* writer);
  absl::Status Log(grpc::ServerContext* context, const v1::ReadLogRequest& request,
                   grpc::ServerWriter<v1::ReadLogResponse>* writer);
  template <typename Request>
  absl::StatusOr<std::shared_ptr<const OpenedBlocks>> OpenBlocks(const Request& request);
  absl::Status SendRuns(grpc::ServerContext* context, const v1::ListHeldRunsRequest& request,
                        grpc::ServerWriter<v1::ListHeldRunsResponse>* writer);
  absl::Status SendBlocks(grpc::ServerContext* context, const v1::ReadBlocksRequest& request,
                          grpc::ServerWriter<v1::ReadBlocksResponse>* writer);
  absl::Status Watch(grpc::ServerContext* context, const v1::WatchDumpsRequest& request,
                     grpc::ServerWriter<v1::WatchDumpsResponse>* writer);
  absl::Status Delete(const v1::DeleteDumpRequest& request);

  Catalog* const catalog_;
  const std::function<void(const DumpKey&)> on_delete_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_DUMPS_SERVICE_H_
