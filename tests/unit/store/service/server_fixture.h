// SPDX-License-Identifier: Apache-2.0
// A server with a store and a stub for it, over a real connection on loopback.
#ifndef DUMPCAST_TESTS_UNIT_STORE_SERVICE_SERVER_FIXTURE_H_
#define DUMPCAST_TESTS_UNIT_STORE_SERVICE_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dumpcast/v1/dumps.grpc.pb.h"
#include "store/service/crc32c.h"
#include "store/service/server.h"
#include "tests/unit/store/store_fixture.h"
#include "tests/unit/store/stored_dump.h"

namespace dumpcast {

inline constexpr int64_t kNow = 1'700'000'100'000'000'000;

class FakeReceiver final : public ReceiveStatusSource, public HolderSource {
 public:
  std::optional<ReceiveStatus> GetReceiveStatus(const DumpKey& dump) const override {
    const std::lock_guard lock(mu_);
    const auto it = status_.find(dump);
    if (it == status_.end()) return std::nullopt;
    return it->second;
  }
  uint32_t PathsHeard(const Id16&) const override { return 2; }
  bool FindSymbols(const DumpKey&, BlockSymbols*) const override { return false; }
  std::vector<HolderInfo> Holders(const DumpKey&) const override {
    return {{0x1234, "peer", 7, true, kNow}};
  }
  void Set(const DumpKey& dump, ReceiveStatus status) {
    const std::lock_guard lock(mu_);
    status_[dump] = std::move(status);
  }

 private:
  mutable std::mutex mu_;
  std::map<DumpKey, ReceiveStatus> status_;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() : store_(testing::OpenOrDie(dir_.path())) {
    ServerOptions options;
    options.store = store_.get();
    options.receive_status = &receiver_;
    options.holders = &receiver_;
    options.relay_name = "relay-a";
    options.listen = {"127.0.0.1:0"};
    options.now_unix_ns = [] { return kNow; };
    options.on_delete = [this](const DumpKey& dump) {
      const std::lock_guard lock(deleted_mu_);
      deleted_.push_back(dump);
    };
    server_ = *StartServer(options);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->ports()[0]),
                                   grpc::InsecureChannelCredentials());
    dumps_ = v1::Dumps::NewStub(channel_);
  }

  void AddDump(const DumpKey& dump, const std::vector<testing::StoredBlock>& blocks, int64_t seal,
               bool complete) {
    testing::PutAll(store_.get(), dump, blocks);
    v1::DumpRecord record = testing::RecordOf(dump, 1'700'000'001'000'000'000);
    record.set_seal_unix_ns(seal);
    record.set_complete(complete);
    if (seal != 0 && !complete) record.set_incomplete_reason("the host went away");
    ASSERT_TRUE(store_->PutDump(record).ok());
  }

  grpc::Status Get(const std::string& name, v1::Dump* dump) {
    grpc::ClientContext context;
    v1::GetDumpRequest request;
    request.set_name(name);
    return dumps_->GetDump(&context, request, dump);
  }

  // Reads and checks a whole stream; `first` is its first response.
  grpc::Status Read(const v1::ReadDumpRequest& request, std::string* bytes,
                    v1::ReadDumpResponse* first) {
    grpc::ClientContext context;
    auto reader = dumps_->ReadDump(&context, request);
    v1::ReadDumpResponse response;
    uint64_t offset = request.offset();
    bool is_first = true;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.offset(), offset);
      EXPECT_LE(response.data().size(), 1u << 20);
      EXPECT_EQ(response.crc32c(), service::Crc32c(response.data()));
      EXPECT_EQ(response.etag().empty(), !is_first);
      if (is_first) *first = response;
      is_first = false;
      offset += response.data().size();
      bytes->append(response.data());
    }
    return reader->Finish();
  }

  grpc::Status Runs(const std::string& name, uint32_t block_class, std::string* etag,
                    std::vector<v1::HeldRun>* runs) {
    grpc::ClientContext context;
    v1::ListHeldRunsRequest request;
    request.set_name(name);
    request.set_block_class(block_class);
    auto reader = dumps_->ListHeldRuns(&context, request);
    v1::ListHeldRunsResponse response;
    bool first = true;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.etag().empty(), !first);
      if (first) *etag = response.etag();
      first = false;
      runs->insert(runs->end(), response.runs().begin(), response.runs().end());
    }
    return reader->Finish();
  }

  // Reads and checks a whole stream.
  grpc::Status Blocks(const v1::ReadBlocksRequest& request, std::string* etag,
                      std::vector<v1::StoredBlock>* blocks) {
    grpc::ClientContext context;
    auto reader = dumps_->ReadBlocks(&context, request);
    v1::ReadBlocksResponse response;
    bool first = true;
    while (reader->Read(&response)) {
      EXPECT_LE(response.ByteSizeLong(), (1u << 20) + DCAST_MAX_ENCODED_BYTES + 64);
      EXPECT_EQ(response.etag().empty(), !first);
      if (first) *etag = response.etag();
      first = false;
      for (const v1::StoredBlock& block : response.blocks()) {
        EXPECT_EQ(block.crc32c(), service::Crc32c(block.encoded()));
        blocks->push_back(block);
      }
    }
    return reader->Finish();
  }

  v1::ListDumpsResponse List(const std::string& filter, int page_size, const std::string& token) {
    grpc::ClientContext context;
    v1::ListDumpsRequest request;
    request.set_filter(filter);
    request.set_page_size(page_size);
    request.set_page_token(token);
    v1::ListDumpsResponse response;
    const grpc::Status s = dumps_->ListDumps(&context, request, &response);
    EXPECT_TRUE(s.ok()) << s.error_message();
    return response;
  }

  testing::TempDir dir_;
  std::unique_ptr<Store> store_;
  FakeReceiver receiver_;
  std::vector<DumpKey> Deleted() {
    const std::lock_guard lock(deleted_mu_);
    return deleted_;
  }
  std::mutex deleted_mu_;
  std::vector<DumpKey> deleted_;
  std::unique_ptr<ApiServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Dumps::Stub> dumps_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_STORE_SERVICE_SERVER_FIXTURE_H_
