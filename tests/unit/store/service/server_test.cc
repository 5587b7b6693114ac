// SPDX-License-Identifier: Apache-2.0
#include "store/service/server.h"

#include <gmock/gmock.h>

#include <fstream>

#include "dumpcast/v1/hosts.grpc.pb.h"
#include "tests/unit/store/service/server_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using ::testing::HasSubstr;
using testing::OpenOrDie;
using testing::PutAll;
using testing::SmallDump;
using testing::StoredBlock;
using testing::TempDir;

TEST_F(ServerTest, GetDumpTellsWhatIsKnown) {
  const DumpKey dump = DumpOf(1, 2);
  const std::vector<StoredBlock> blocks = SmallDump();
  AddDump(dump, blocks, kNow, true);
  receiver_.Set(dump, {500, false, {{0, 0xabc, 100, 3, 4}}});
  v1::Dump got;
  ASSERT_TRUE(Get(dump.ResourceName(), &got).ok());
  EXPECT_EQ(got.name(), dump.ResourceName());
  EXPECT_EQ(got.state(), v1::DUMP_STATE_COMPLETE);
  EXPECT_EQ(got.hostname(), "db7");
  EXPECT_EQ(got.reason(), "sysrq triggered crash");
  EXPECT_EQ(got.crash_time().seconds(), 1'700'000'000);
  EXPECT_EQ(got.blocks_held(), blocks.size());
  EXPECT_EQ(got.blocks_expected(), blocks.size());
  EXPECT_EQ(got.blocks_announced(), 500u);
  EXPECT_EQ(got.memory_bytes(), 0x9e000u + 0x2700000u);
  EXPECT_GT(got.elf_bytes(), 4u << 20);
  EXPECT_GT(got.kdump_bytes(), 4u << 20);
  ASSERT_EQ(got.holders_size(), 2);
  EXPECT_EQ(got.holders(0).relay_name(), "relay-a");
  EXPECT_TRUE(got.holders(0).complete());
  EXPECT_EQ(got.holders(1).relay_id(), "0000000000001234");
  ASSERT_EQ(got.paths_size(), 1);
  EXPECT_EQ(got.paths(0).lost(), 3u);
  v1::Dump by_prefix;
  ASSERT_TRUE(Get("hosts/-/dumps/02", &by_prefix).ok());
  EXPECT_EQ(by_prefix.etag(), got.etag());
  EXPECT_EQ(Get("hosts/-/dumps/77", &got).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Get("x", &got).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, ADumpWithoutMetaIsListedAllTheSame) {
  AddDump(DumpOf(1, 3), {}, 0, false);
  v1::Dump got;
  ASSERT_TRUE(Get(DumpOf(1, 3).ResourceName(), &got).ok());
  EXPECT_EQ(got.state(), v1::DUMP_STATE_RECEIVING);
  EXPECT_FALSE(got.has_crash_time());
  EXPECT_EQ(got.elf_bytes(), 0u);
  v1::ReadDumpRequest request;
  request.set_name(got.name());
  std::string bytes;
  v1::ReadDumpResponse first;
  EXPECT_EQ(Read(request, &bytes, &first).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ServerTest, PagesCoverEveryDumpOnceNewestFirst) {
  for (uint8_t d = 1; d <= 7; d++) {
    const std::vector<StoredBlock> blocks = SmallDump([&](DumpBuilder* builder) {
      builder->meta.crash_unix_ns = dcast_to_le64(1'700'000'000'000'000'000 + d * 1'000'000'000ull);
    });
    AddDump(DumpOf(1, d), blocks, d % 2 == 0 ? kNow : 0, false);
  }
  std::vector<std::string> names;
  std::string token;
  int pages = 0;
  do {
    const v1::ListDumpsResponse page = List("", 3, token);
    for (const v1::Dump& dump : page.dumps()) names.push_back(dump.name());
    token = page.next_page_token();
    // One that arrives between two pages, newer than all, moves nothing.
    if (pages++ == 0) {
      AddDump(DumpOf(1, 99), SmallDump([&](DumpBuilder* builder) {
                builder->meta.crash_unix_ns = dcast_to_le64(1'800'000'000'000'000'000);
              }),
              0, false);
    }
  } while (!token.empty());
  ASSERT_EQ(names.size(), 7u);
  for (uint8_t d = 7; d >= 1; d--) EXPECT_EQ(names[7 - d], DumpOf(1, d).ResourceName());
  EXPECT_EQ(List("state=incomplete", 0, "").dumps_size(), 3);

  grpc::ClientContext context;
  v1::ListDumpsRequest request;
  request.set_filter("state=gone");
  v1::ListDumpsResponse response;
  const grpc::Status s = dumps_->ListDumps(&context, request, &response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(s.error_message(), HasSubstr("gone"));
}

TEST_F(ServerTest, RangesOfAReadJoinToTheWholeFile) {
  const DumpKey dump = DumpOf(1, 2);
  AddDump(dump, SmallDump(), kNow, true);
  for (const v1::DumpFormat format : {v1::DUMP_FORMAT_ELF, v1::DUMP_FORMAT_KDUMP}) {
    v1::ReadDumpRequest request;
    request.set_name(dump.ResourceName());
    request.set_format(format);
    std::string whole;
    v1::ReadDumpResponse first;
    ASSERT_TRUE(Read(request, &whole, &first).ok());
    ASSERT_EQ(whole.size(), first.file_bytes());
    EXPECT_EQ(whole.substr(0, 4), format == v1::DUMP_FORMAT_ELF ? "\177ELF" : "KDUM");
    std::string joined;
    for (uint64_t offset = 0; offset < whole.size();) {
      request.set_offset(offset);
      request.set_length(1'234'567);
      request.set_etag(first.etag());
      std::string part;
      v1::ReadDumpResponse part_first;
      ASSERT_TRUE(Read(request, &part, &part_first).ok());
      ASSERT_FALSE(part.empty());
      offset += part.size();
      joined += part;
    }
    EXPECT_TRUE(joined == whole);
    request.set_length(0);
    request.set_offset(whole.size());
    std::string end;
    EXPECT_TRUE(Read(request, &end, &first).ok());
    EXPECT_TRUE(end.empty());
    request.set_offset(whole.size() + 1);
    EXPECT_EQ(Read(request, &end, &first).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  }
  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  request.set_format(static_cast<v1::DumpFormat>(9));
  std::string none;
  v1::ReadDumpResponse first;
  EXPECT_EQ(Read(request, &none, &first).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, AViewThatRepairHasChangedIsRefused) {
  const DumpKey dump = DumpOf(1, 2);
  const std::vector<StoredBlock> blocks = SmallDump();
  const auto late = [](const BlockKey& key) { return key.block_class == 3; };
  PutAll(store_.get(), dump, blocks, [&](const BlockKey& key) { return !late(key); });
  AddDump(dump, {}, kNow, false);
  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  std::string before;
  v1::ReadDumpResponse first;
  ASSERT_TRUE(Read(request, &before, &first).ok());
  PutAll(store_.get(), dump, blocks, late);
  request.set_etag(first.etag());
  request.set_offset(1000);
  std::string after;
  const grpc::Status s = Read(request, &after, &first);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(s.error_message(), HasSubstr("read again from the beginning"));
  EXPECT_TRUE(after.empty());
}

TEST_F(ServerTest, AReadUnderWayKeepsToItsMomentWhileBlocksArrive) {
  const DumpKey dump = DumpOf(1, 2);
  const std::vector<StoredBlock> blocks = SmallDump();
  PutAll(store_.get(), dump, blocks, [](const BlockKey& key) { return key.block_class != 3; });
  AddDump(dump, {}, 0, false);
  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  std::string quiet;
  v1::ReadDumpResponse first;
  ASSERT_TRUE(Read(request, &quiet, &first).ok());

  grpc::ClientContext context;
  auto reader = dumps_->ReadDump(&context, request);
  v1::ReadDumpResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::string busy = response.data();
  // Both new windows and lower digests of old ones.
  PutAll(store_.get(), dump, blocks);
  const StoredBlock& old = blocks.back();
  std::string other = old.encoded;
  other[0] = static_cast<char>(other[0] ^ 1);
  ASSERT_TRUE(store_->PutBlock(dump, {old.key.block_class, old.key.number, 1}, other).ok());
  while (reader->Read(&response)) busy += response.data();
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(busy == quiet);
}

TEST_F(ServerTest, ADumpDeletedWhileItIsReadNeverReadsAsZeros) {
  const DumpKey dump = DumpOf(1, 2);
  AddDump(dump, SmallDump(), kNow, true);
  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  std::string whole;
  v1::ReadDumpResponse first;
  ASSERT_TRUE(Read(request, &whole, &first).ok());
  grpc::ClientContext context;
  auto reader = dumps_->ReadDump(&context, request);
  v1::ReadDumpResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(store_->DeleteDump(dump, 1).ok());
  std::string bytes = response.data();
  while (reader->Read(&response)) bytes += response.data();
  // Either the blocks were still there, or it failed; whatever came is right.
  const grpc::Status s = reader->Finish();
  EXPECT_TRUE(s.ok() || s.error_code() == grpc::StatusCode::DATA_LOSS) << s.error_message();
  EXPECT_TRUE(whole.compare(0, bytes.size(), bytes) == 0);
}

TEST_F(ServerTest, TheLogComesInWholeLinesAndTails) {
  const DumpKey dump = DumpOf(1, 2);
  AddDump(dump, SmallDump([](DumpBuilder* builder) {
            for (int i = 0; i < 40000; i++) {
              builder->log += "[   13.000000] line " + std::to_string(i) + " of a long log\n";
            }
          }),
          kNow, true);
  for (const uint32_t tail : {0u, 1u, 3u, 1000000u}) {
    grpc::ClientContext context;
    v1::ReadLogRequest request;
    request.set_name("hosts/-/dumps/0202");
    request.set_tail_lines(tail);
    auto reader = dumps_->ReadLog(&context, request);
    v1::ReadLogResponse response;
    std::string text;
    int messages = 0;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.text().back(), '\n');
      EXPECT_EQ(response.source(), v1::LOG_SOURCE_STREAM);
      text += response.text();
      messages++;
    }
    ASSERT_TRUE(reader->Finish().ok());
    const auto lines = std::count(text.begin(), text.end(), '\n');
    EXPECT_EQ(lines, tail == 0 || tail > 40002 ? 40002 : tail);
    if (tail == 0) {
      EXPECT_GT(messages, 1);
    }
    EXPECT_THAT(text.substr(text.size() - 40), HasSubstr("line 39999"));
  }
}

TEST_F(ServerTest, AWatchShowsEachChangeOnceAndTheDeletion) {
  const DumpKey dump = DumpOf(1, 2);
  const std::vector<StoredBlock> blocks = SmallDump();
  AddDump(dump, {blocks[0]}, 0, false);
  grpc::ClientContext context;
  v1::WatchDumpsRequest request;
  request.set_min_interval_ms(50);
  request.set_filter("state=receiving");
  auto reader = dumps_->WatchDumps(&context, request);
  v1::WatchDumpsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.dump().blocks_held(), 1u);
  PutAll(store_.get(), dump, blocks);
  do {
    ASSERT_TRUE(reader->Read(&response));
  } while (response.dump().blocks_held() != blocks.size());
  // The end of what was watched is shown, although it matches no more.
  AddDump(dump, {}, kNow, true);
  do {
    ASSERT_TRUE(reader->Read(&response));
  } while (response.dump().state() != v1::DUMP_STATE_COMPLETE);
  AddDump(DumpOf(1, 3), {}, 0, false);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.dump().name(), DumpOf(1, 3).ResourceName());
  ASSERT_TRUE(store_->DeleteDump(DumpOf(1, 3), 1).ok());
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(response.deleted());
  EXPECT_EQ(response.dump().name(), DumpOf(1, 3).ResourceName());
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ServerTest, DeletingNeedsForceWhileReceiving) {
  const DumpKey dump = DumpOf(1, 2);
  AddDump(dump, SmallDump(), 0, false);
  v1::DeleteDumpRequest request;
  request.set_name(dump.ResourceName());
  v1::DeleteDumpResponse response;
  const auto call = [&] {
    grpc::ClientContext context;
    return dumps_->DeleteDump(&context, request, &response);
  };
  EXPECT_EQ(call().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(Deleted().empty());
  request.set_force(true);
  EXPECT_TRUE(call().ok());
  EXPECT_EQ(Deleted(), std::vector<DumpKey>{dump});
  EXPECT_EQ(call().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(List("", 0, "").dumps_size(), 0);
  request.set_name("hosts/-/dumps/02");
  EXPECT_EQ(call().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, HostsAreArmedLostDisarmedOrDumping) {
  const auto add = [&](const std::string& name, uint8_t id, int64_t heard_ago_ms, bool disarmed) {
    v1::HostRecord host;
    host.set_host_id(std::string(16, static_cast<char>(id)));
    host.set_hostname(name);
    host.set_interval_ms(1000);
    host.set_heard_unix_ns(kNow - heard_ago_ms * 1'000'000);
    host.set_disarmed(disarmed);
    ASSERT_TRUE(store_->PutHost(host).ok());
  };
  add("d", 4, 100, false);
  add("a", 1, 2900, false);
  add("b", 2, 3100, false);
  add("c", 3, 3100, true);
  AddDump(DumpOf(4, 9), {}, 0, false);
  receiver_.Set(DumpOf(4, 9), {10, true, {}});
  auto stub = v1::Hosts::NewStub(channel_);
  std::vector<v1::Host> hosts;
  v1::ListHostsRequest request;
  request.set_page_size(3);
  do {
    grpc::ClientContext context;
    v1::ListHostsResponse response;
    ASSERT_TRUE(stub->ListHosts(&context, request, &response).ok());
    hosts.insert(hosts.end(), response.hosts().begin(), response.hosts().end());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  ASSERT_EQ(hosts.size(), 4u);
  EXPECT_EQ(hosts[0].state(), v1::HOST_STATE_ARMED);
  EXPECT_EQ(hosts[1].state(), v1::HOST_STATE_LOST);
  EXPECT_EQ(hosts[2].state(), v1::HOST_STATE_DISARMED);
  EXPECT_EQ(hosts[3].state(), v1::HOST_STATE_DUMPING);
  EXPECT_EQ(hosts[3].last_dump(), DumpOf(4, 9).ResourceName());
  EXPECT_EQ(hosts[0].paths_heard(), 2u);
}

TEST_F(ServerTest, CorruptBlocksAreDataLoss) {
  const DumpKey dump = DumpOf(1, 2);
  const std::vector<StoredBlock> blocks =
      SmallDump([](DumpBuilder* builder) { builder->codec = DCAST_CODEC_NONE; });
  AddDump(dump, blocks, kNow, true);
  server_.reset();
  store_.reset();
  std::string victim;
  for (const StoredBlock& block : blocks) {
    if (block.key.block_class == 2 && block.encoded.size() > 60000) victim = block.encoded;
  }
  ASSERT_FALSE(victim.empty());
  bool damaged = false;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    if (entry.path().extension() != ".sst") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const size_t at = bytes.find(victim);
    if (at == std::string::npos) continue;
    bytes[at + 30000] = static_cast<char>(bytes[at + 30000] ^ 0x40);
    std::ofstream(entry.path(), std::ios::binary) << bytes;
    damaged = true;
  }
  ASSERT_TRUE(damaged);
  store_ = OpenOrDie(dir_.path());
  ServerOptions options;
  options.store = store_.get();
  options.listen = {"127.0.0.1:0"};
  server_ = *StartServer(options);
  dumps_ = v1::Dumps::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(server_->ports()[0]), grpc::InsecureChannelCredentials()));
  v1::ReadDumpRequest request;
  request.set_name(dump.ResourceName());
  std::string bytes;
  v1::ReadDumpResponse first;
  EXPECT_EQ(Read(request, &bytes, &first).error_code(), grpc::StatusCode::DATA_LOSS);
}

TEST(StartServerTest, BadOptionsAreRefusedWithTheFix) {
  TempDir dir;
  auto store = OpenOrDie(dir.path() + "/store");
  ServerOptions options;
  EXPECT_EQ(StartServer(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.store = store.get();
  options.listen = {"127.0.0.1:0"};
  options.tls_ca_file = dir.path() + "/ca.pem";
  EXPECT_THAT(std::string(StartServer(options).status().message()),
              HasSubstr("both a certificate and its key"));
  options.tls_cert_file = dir.path() + "/cert.pem";
  options.tls_key_file = dir.path() + "/key.pem";
  EXPECT_THAT(std::string(StartServer(options).status().message()), HasSubstr("cannot read it"));
  std::ofstream(options.tls_cert_file) << "no certificate";
  EXPECT_THAT(std::string(StartServer(options).status().message()), HasSubstr("it is none"));
}

TEST(StartServerTest, AnAddressThatIsTakenIsNamed) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  ServerOptions options;
  options.store = store.get();
  options.listen = {"127.0.0.1:0"};
  auto first = std::move(*StartServer(options));
  options.listen = {"127.0.0.1:" + std::to_string(first->ports()[0])};
  const absl::Status s = StartServer(options).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr(options.listen[0]));
}

}  // namespace
}  // namespace dumpcast
