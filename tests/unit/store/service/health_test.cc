// SPDX-License-Identifier: Apache-2.0
// What the standard health service says of the relay, over a real connection on loopback.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "store/service/server.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::OpenOrDie;
using testing::TempDir;

constexpr char kServing[] = "\x08\x01";  // HealthCheckResponse{status: SERVING}, as bytes
constexpr char kNotServing[] = "\x08\x02";
constexpr char kDumps[] = "dumpcast.v1.Dumps";

class HealthTest : public ::testing::Test {
 protected:
  HealthTest() : store_(OpenOrDie(dir_.path())) {
    ServerOptions options;
    options.store = store_.get();
    options.listen = {"127.0.0.1:0"};
    server_ = *StartServer(options);
    stub_ = std::make_unique<grpc::GenericStub>(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_->ports()[0]), grpc::InsecureChannelCredentials()));
  }

  // The response's bytes; grpc.health.v1 has no library in Debian.
  std::string Check(const std::string& service) {
    std::string request;
    if (!service.empty())
      request = "\x0a" + std::string(1, static_cast<char>(service.size())) + service;
    const grpc::Slice slice(request);
    const grpc::ByteBuffer sent(&slice, 1);
    grpc::ByteBuffer got;
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    grpc::Status status;
    auto call = stub_->PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", sent, &queue);
    call->StartCall();
    call->Finish(&got, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    if (!status.ok()) return status.error_message();
    grpc::Slice answer;
    EXPECT_TRUE(got.DumpToSingleSlice(&answer).ok());
    return {reinterpret_cast<const char*>(answer.begin()), answer.size()};
  }

  TempDir dir_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

TEST_F(HealthTest, ARelayThatReceivesNothingCanBeRead) {
  EXPECT_EQ(Check(""), kServing);
  EXPECT_EQ(Check(kDumps), kServing);
  server_->SetReceiving(false);
  EXPECT_EQ(Check(""), kNotServing);
  EXPECT_EQ(Check(kDumps), kServing);
  server_->SetReceiving(true);
  EXPECT_EQ(Check(""), kServing);
}

TEST_F(HealthTest, ARelayThatEndsServesNothing) {
  server_->SetServing(false);
  EXPECT_EQ(Check(""), kNotServing);
  EXPECT_EQ(Check(kDumps), kNotServing);
}

}  // namespace
}  // namespace dumpcast
