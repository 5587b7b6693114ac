// SPDX-License-Identifier: Apache-2.0
// absl::Status inside, grpc::Status at the edge: the codes have the same numbers.
#ifndef DUMPCAST_STORE_SERVICE_GRPC_STATUS_H_
#define DUMPCAST_STORE_SERVICE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace dumpcast {

inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

inline absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_GRPC_STATUS_H_
