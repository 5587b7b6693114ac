// SPDX-License-Identifier: Apache-2.0
// Blocks over a real connection, from a relay that counts calls and lies on demand.
#include "client/remote_source.h"

#include <gmock/gmock.h>
#include <functional>
#include <optional>
#include <random>

#include "absl/time/clock.h"
#include "tests/unit/client/client_test_base.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlocks = 1000;

class RemoteSourceTest : public ClientTest {
 protected:
  RemoteSourceTest() {
    auto blocks = std::make_shared<MapBlockSource>();
    for (uint64_t i = 0; i < kBlocks; ++i) blocks->Put(2, Number(i), Bytes(i));
    blocks->PutEmpty(2, Number(7));
    relay_.blocks = blocks;
    relay_.dumps = {MakeDump()};
    ClientConfig config;
    config.servers = {relay_.address()};
    servers_.emplace(*Servers::Create(config));
    relay_.Sync();
  }
  ~RemoteSourceTest() override { relay_.Sync(); }

  // With gaps of one after every tenth.
  static uint64_t Number(uint64_t i) { return i + i / 10; }
  static std::string Bytes(uint64_t i) {
    return RandomBytes(100 + static_cast<size_t>(i) % 7, static_cast<unsigned>(i));
  }
  absl::StatusOr<std::shared_ptr<const RemoteSource>> Open() {
    return RemoteSource::Open(&servers_->At(0), relay_.dumps[0].name(), absl::Seconds(10));
  }
  std::shared_ptr<const RemoteSource> OpenOrFail() {
    auto source = Open();
    EXPECT_TRUE(source.ok()) << source.status();
    return *source;
  }

  FakeRelay relay_;
  std::optional<Servers> servers_;
};

TEST_F(RemoteSourceTest, GivesTheRelaysBlocksInAnyOrder) {
  const auto source = OpenOrFail();
  EXPECT_EQ(source->etag(), "v1");
  EXPECT_EQ(*source->HeldRuns(2, 5, 500), *relay_.blocks->HeldRuns(2, 5, 500));
  EXPECT_EQ(source->HeldRuns(3, 0, 500)->size(), 0u);
  std::mt19937 random(1);
  std::string bytes;
  std::string wanted;
  for (int i = 0; i < 300; ++i) {
    // Forward mostly, with jumps, into gaps and past the end, too.
    uint64_t number = random() % (Number(kBlocks) + 20);
    for (unsigned step = 0; step < random() % 12; ++step, number += random() % 3) {
      const BlockState state = *relay_.blocks->ReadBlock(2, number, &wanted);
      ASSERT_EQ(*source->ReadBlock(2, number, &bytes), state) << number;
      ASSERT_EQ(bytes, wanted) << number;
      ASSERT_EQ(*source->ReadBlockHeader(2, number, &bytes), state) << number;
      ASSERT_EQ(bytes, wanted.substr(0, 72)) << number;
    }
  }
}

TEST_F(RemoteSourceTest, ReadsAheadWhenReadersGoForward) {
  const auto source = OpenOrFail();
  std::string bytes;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const BlockState state = i == 7 ? BlockState::kEmpty : BlockState::kHeld;
    ASSERT_EQ(*source->ReadBlock(2, Number(i), &bytes), state);
    ASSERT_EQ(bytes, i == 7 ? "" : Bytes(i));
  }
  relay_.Sync();
  // 4 and 16 blocks, then 64 at a time.
  EXPECT_EQ(relay_.block_reads.size(), 2 + (kBlocks - 20 + 63) / 64);
  relay_.block_reads.clear();
  for (uint64_t i = 0; i < kBlocks; ++i) {
    ASSERT_TRUE(source->ReadBlockHeader(2, Number(i), &bytes).ok());
  }
  relay_.Sync();
  EXPECT_EQ(relay_.block_reads.size(), 3u);  // 64, 256, and the rest
}

TEST_F(RemoteSourceTest, WhoJumpsFetchesLittle) {
  const auto source = OpenOrFail();
  std::string bytes;
  for (const uint64_t i : {900, 100, 500, 300}) {
    ASSERT_TRUE(source->ReadBlock(2, Number(i), &bytes).ok());
  }
  relay_.Sync();
  for (const auto& read : relay_.block_reads) EXPECT_LE(read.last() - read.first(), 4u);
  EXPECT_EQ(relay_.block_reads.size(), 4u);
}

TEST_F(RemoteSourceTest, RefusesWhatIsNotWhatWasAskedFor) {
  const struct {
    std::function<void(v1::ReadBlocksResponse*)> lie;
    const char* wanted;
  } kCases[] = {
      {[](auto* r) { (*r->mutable_blocks(0)->mutable_encoded())[3] ^= 1; }, "has CRC-32C"},
      {[](auto* r) { r->mutable_blocks()->RemoveLast(); }, "left out block (2, 0x2)"},
      {[](auto* r) { r->mutable_blocks(0)->set_number(77); }, "sent block (2, 0x4d), wanted 0"},
      {[](auto* r) { *r->add_blocks() = r->blocks(0); }, "sent block (2, 0), wanted 0x3"},
      {[](auto* r) { r->mutable_blocks(0)->mutable_encoded()->resize(70000); }, "sent 70000 bytes"},
      {[](auto* r) { r->clear_blocks(); }, "left out block (2, 0)"},
  };
  const auto source = OpenOrFail();
  std::string bytes;
  for (const auto& c : kCases) {
    relay_.Sync();
    relay_.on_blocks = [&](const v1::ReadBlocksRequest&, v1::ReadBlocksResponse* response) {
      if (response->blocks_size() != 0) c.lie(response);
      return grpc::Status::OK;
    };
    relay_.Sync();
    const auto state = source->ReadBlock(2, 0, &bytes);
    EXPECT_EQ(state.status().code(), absl::StatusCode::kDataLoss) << c.wanted;
    EXPECT_THAT(std::string(state.status().message()), HasSubstr(c.wanted));
  }
  relay_.Sync();
  relay_.on_blocks = nullptr;
  relay_.Sync();
  EXPECT_TRUE(source->ReadBlock(2, 0, &bytes).ok());
  EXPECT_EQ(bytes, Bytes(0));
}

TEST_F(RemoteSourceTest, RefusesRunsThatAreNone) {
  const struct {
    uint64_t first;
    uint64_t count;
  } kCases[] = {{2000, 0}, {10, 1}, {0, 1}, {uint64_t{1} << 40, 1}, {2000, ~uint64_t{0}}};
  for (const auto& c : kCases) {
    relay_.Sync();
    relay_.on_runs = [&](const v1::ListHeldRunsRequest& request,
                         v1::ListHeldRunsResponse* response) {
      if (request.block_class() != 2 || response->etag().empty()) return grpc::Status::OK;
      response->mutable_runs(1)->set_first(c.first);
      response->mutable_runs(1)->set_count(c.count);
      return grpc::Status::OK;
    };
    relay_.Sync();
    EXPECT_EQ(Open().status().code(), absl::StatusCode::kDataLoss) << c.first << " " << c.count;
    relay_.Sync();
  }
}

TEST_F(RemoteSourceTest, AnotherBlockSetIsAborted) {
  const auto source = OpenOrFail();
  relay_.Sync();
  relay_.blocks_etag = "v2";
  relay_.Sync();
  std::string bytes;
  EXPECT_EQ(source->ReadBlock(2, 0, &bytes).status().code(), absl::StatusCode::kAborted);
}

TEST_F(RemoteSourceTest, ASilentRelayIsLeft) {
  relay_.on_blocks = [](const v1::ReadBlocksRequest&, v1::ReadBlocksResponse*) {
    absl::SleepFor(absl::Milliseconds(500));
    return grpc::Status::OK;
  };
  relay_.Sync();
  auto source =
      RemoteSource::Open(&servers_->At(0), relay_.dumps[0].name(), absl::Milliseconds(100));
  ASSERT_TRUE(source.ok()) << source.status();
  std::string bytes;
  const auto state = (*source)->ReadBlock(2, 0, &bytes);
  EXPECT_EQ(state.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(state.status().message(), HasSubstr("silent for 100ms"));
}

}  // namespace
}  // namespace dumpcast
