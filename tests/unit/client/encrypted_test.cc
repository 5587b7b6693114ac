// SPDX-License-Identifier: Apache-2.0
// Encrypted dumps: keygen, get and log with an identity, against relays that break and lie.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "protos/keys/end_to_end.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"
#include "tests/unit/client/client_test_base.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

// 8 MiB, more than is written in one step.
constexpr std::string_view kText = R"(
  ram 0x0 0x800000
  page_offset 0xffff888000000000
  log [    1.000000] first
  log [    2.000000] second
  log [    3.000000] third
  page 0-0xf 1 0x11
  page 0x10-0x3ff 2 own
  page 0x400-0x4ff 2 zero
  page 0x500-0x7ff 3 own
)";
// A window in the second half.
constexpr uint64_t kLate = 0x60;

class EncryptedTest : public ClientTest {
 protected:
  EncryptedTest() {
    absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(kText);
    EXPECT_TRUE(builder.ok()) << builder.status();
    builder_ = *builder;
    const std::string id = absl::HexStringToBytes(kDumpId);
    std::memcpy(dump_id_.data(), id.data(), dump_id_.size());
    blocks_ = builder_.BuildEncrypted(key_, dump_id_, {me_.recipient});
    for (FakeRelay* relay : {&relay_, &other_}) {
      v1::Dump dump = MakeDump();
      dump.set_encrypted(true);
      dump.set_signature("00112233445566778899aabbccddeeff");
      dump.clear_reason();
      dump.clear_elf_bytes();
      dump.clear_memory_bytes();
      relay->dumps = {dump};
      relay->blocks = blocks_;
    }
    WriteIdentity(identity_, me_);
  }
  static void WriteIdentity(const std::string& path, const Identity& identity) {
    WriteFile(path, IdentityText(identity));
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  }
  Ran Get(std::vector<std::string> more = {}, std::vector<const FakeRelay*> relays = {}) {
    std::vector<std::string> args = {"get", "3fa9", "-O", file_, "--identity", identity_};
    args.insert(args.end(), more.begin(), more.end());
    if (relays.empty()) relays = {&relay_};
    return Run(args, relays);
  }
  // The file of the same dump unencrypted.
  std::string Wanted(bool kdump) {
    auto memory = *MemoryView::Open(builder_.Build());
    auto view = kdump ? *MakeKdumpView(memory) : *MakeElfView(memory);
    std::string bytes(view->size(), '?');
    EXPECT_TRUE(view->Read(0, bytes.size(), bytes.data()).ok());
    return bytes;
  }
  // The relay answers so from a late block on.
  static void CutAt(FakeRelay* relay, const grpc::Status& status) {
    relay->on_blocks = [status](const v1::ReadBlocksRequest& request, v1::ReadBlocksResponse*) {
      const bool late =
          request.prefix_bytes() == 0 && request.block_class() != 0 && request.last() >= kLate;
      return late ? status : grpc::Status::OK;
    };
  }

  DumpBuilder builder_;
  const EndToEndKey key_ = NewEndToEndKey();
  const Identity me_ = NewIdentity();
  std::array<uint8_t, DCAST_ID_BYTES> dump_id_{};
  std::shared_ptr<MapBlockSource> blocks_;
  FakeRelay relay_;
  FakeRelay other_;
  const std::string file_ = Path("vmcore");
  const std::string identity_ = Path("me.identity");
};

TEST_F(EncryptedTest, GetWritesTheFileOfTheSameDumpUnencrypted) {
  for (const bool kdump : {false, true}) {
    const Ran ran = Get({"-f", kdump ? "kdump" : "elf", "--force"});
    EXPECT_EQ(ran.code, kExitOk) << ran.err;
    EXPECT_TRUE(ReadFile(file_) == Wanted(kdump)) << kdump;
  }
  EXPECT_TRUE(relay_.reads.empty()) << "the relay cannot make the file";
}

TEST_F(EncryptedTest, WithoutAnIdentitySaysHowToNameOne) {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"get", "3fa9", "-O", file_}, {"log", "3fa9"}}) {
    const Ran ran = Run(args, {&relay_});
    EXPECT_EQ(ran.code, kExitFailure);
    EXPECT_THAT(ran.err, HasSubstr("the dump is encrypted: name the identity that opens it with "
                                   "--identity FILE, DUMPCAST_IDENTITY"));
  }
  EXPECT_THAT(FilesLeft(), ElementsAre("me.identity"));
}

TEST_F(EncryptedTest, AnotherOnesIdentityIsTold) {
  WriteIdentity(identity_, NewIdentity());
  const Ran ran = Get({}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("this identity cannot read the dump"));
  EXPECT_THAT(ran.err, HasSubstr("1 other recipients"));
  EXPECT_THAT(FilesLeft(), ElementsAre("me.identity"));
}

TEST_F(EncryptedTest, AnIdentityFileThatCannotBeUsedIsNamed) {
  ASSERT_EQ(chmod(identity_.c_str(), 0644), 0);
  Ran ran = Get();
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("chmod"));
  ran = Run({"log", "3fa9", "--identity", Path("none")}, {&relay_});
  EXPECT_EQ(ran.code, kExitUsage) << "3 means that the dump was not found";
  EXPECT_THAT(ran.err, HasSubstr(Path("none")));
}

TEST_F(EncryptedTest, TheIdentityComesFromFlagVariableFileOrItsUsualPlace) {
  const auto log = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {"log", "3fa9"};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args, {&relay_}).code;
  };
  variables_["HOME"] = folder_.string();
  EXPECT_EQ(log({}), kExitFailure);
  std::filesystem::create_directories(Path(".config/dumpcast"));
  WriteIdentity(Path(".config/dumpcast/identity"), me_);
  EXPECT_EQ(log({}), kExitOk);
  WriteFile(Path(".config/dumpcast/client.toml"), "identity = \"" + Path("none") + "\"\n");
  EXPECT_EQ(log({}), kExitUsage);
  variables_["DUMPCAST_IDENTITY"] = identity_;
  EXPECT_EQ(log({}), kExitOk);
  EXPECT_EQ(log({"--identity", Path("none")}), kExitUsage);
  WriteFile(Path(".config/dumpcast/client.toml"), "identity = 7\n");
  EXPECT_EQ(log({}), kExitUsage);
}

TEST_F(EncryptedTest, AnUnencryptedDumpNeedsNone) {
  relay_.dumps = {MakeDump()};
  relay_.views["elf"] = {"the bytes", "v1"};
  relay_.log = "the log\n";
  for (const std::string& identity : {identity_, Path("none")}) {
    EXPECT_EQ(Run({"get", "3fa9", "-O", file_, "--force", "--identity", identity}, {&relay_}).code,
              kExitOk);
    EXPECT_EQ(ReadFile(file_), "the bytes");
    EXPECT_EQ(Run({"log", "3fa9", "--identity", identity}, {&relay_}).out, "the log\n");
  }
}

TEST_F(EncryptedTest, GoesOnAtTheSameByteInALaterRun) {
  for (const bool kdump : {false, true}) {
    CutAt(&relay_, {grpc::StatusCode::UNAVAILABLE, "cable cut"});
    const std::vector<std::string> format = {"-f", kdump ? "kdump" : "elf", "--retries", "0"};
    Ran ran = Get(format);
    EXPECT_EQ(ran.code, kExitFailure);
    EXPECT_THAT(ran.err, HasSubstr("cable cut"));
    EXPECT_THAT(ran.err, HasSubstr("bytes stay in"));
    const size_t held = ReadFile(file_ + ".part").size();
    EXPECT_GT(held, 0u);
    relay_.on_blocks = nullptr;
    ran = Get({"-f", kdump ? "kdump" : "elf", "-o", "json"});
    EXPECT_EQ(ran.code, kExitOk) << ran.err;
    EXPECT_EQ(Json(ran)["resumed_at"], held);
    EXPECT_EQ(Json(ran)["restarts"], 0);
    EXPECT_THAT(Json(ran)["etag"].get<std::string>(),
                MatchesRegex(kdump ? "v1-kdump-[0-9a-f]+" : "v1-elf-[0-9a-f]+"));
    EXPECT_TRUE(ReadFile(file_) == Wanted(kdump));
    std::filesystem::remove(file_);
  }
}

TEST_F(EncryptedTest, GoesOnAtAnotherRelay) {
  CutAt(&relay_, {grpc::StatusCode::UNAVAILABLE, "cable cut"});
  const Ran ran = Get({"-o", "json"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("cable cut; going on at byte"));
  EXPECT_EQ(Json(ran)["server"], other_.address());
  EXPECT_TRUE(ReadFile(file_) == Wanted(false));
}

TEST_F(EncryptedTest, ABlockThatDoesNotOpenIsReadFromAnotherRelay) {
  // Changed by a relay that knows how to make a checksum.
  std::string block = blocks_->blocks().at({3, kLate});
  block[200] ^= 1;
  auto forged = std::make_shared<MapBlockSource>(*blocks_);
  forged->Put(3, kLate, block);
  relay_.blocks = forged;
  const Ran ran = Get({}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("DATA_LOSS: block (3, 0x60): encrypted block: it does not open"));
  EXPECT_TRUE(ReadFile(file_) == Wanted(false));
}

TEST_F(EncryptedTest, NothingIsWrittenOfADumpThatNobodyHasWhole) {
  std::string block = blocks_->blocks().at({1, 0});
  block[60] ^= 1;
  blocks_->Put(1, 0, block);
  const Ran ran = Get({"--retries", "0"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("block (1, 0): encrypted block: it does not open"));
  EXPECT_THAT(ran.err, HasSubstr(other_.address()));
  EXPECT_THAT(FilesLeft(), ElementsAre("me.identity"));
}

TEST_F(EncryptedTest, StartsAgainWhenTheBlocksHaveChanged) {
  blocks_->Drop(3, kLate);
  CutAt(&relay_, {grpc::StatusCode::UNAVAILABLE, "cable cut"});
  EXPECT_EQ(Get({"--retries", "0"}).code, kExitFailure);
  relay_.on_blocks = nullptr;
  relay_.blocks = builder_.BuildEncrypted(key_, dump_id_, {me_.recipient});
  relay_.blocks_etag = "v2";
  const Ran ran = Get({"-o", "json"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(Json(ran)["restarts"], 1);
  EXPECT_EQ(Json(ran)["resumed_at"], 0);
  EXPECT_TRUE(ReadFile(file_) == Wanted(false));
}

TEST_F(EncryptedTest, BytesOfTwoLayoutsAreNotJoinedWhateverTheRelaySays) {
  blocks_->Drop(3, kLate);
  CutAt(&relay_, {grpc::StatusCode::UNAVAILABLE, "cable cut"});
  EXPECT_EQ(Get({"--retries", "0", "-f", "kdump"}).code, kExitFailure);
  relay_.on_blocks = nullptr;
  // Another block set under the same etag, and a file of the same size.
  auto lie = std::static_pointer_cast<MapBlockSource>(
      builder_.BuildEncrypted(key_, dump_id_, {me_.recipient}));
  lie->Drop(3, kLate + 1);
  relay_.blocks = lie;
  const Ran ran = Get({"-o", "json", "-f", "kdump"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(Json(ran)["restarts"], 1);
}

TEST_F(EncryptedTest, WaitsForWhatItCannotBeOpenedWithout) {
  const uint64_t keys = dcast_class0_number(DCAST_STREAM_KEYS, 0);
  const std::string box = blocks_->blocks().at({0, keys});
  blocks_->Drop(0, keys);
  on_pause_ = [&] { blocks_->Put(0, keys, box); };
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(pauses_.size(), 1u);
  EXPECT_TRUE(ReadFile(file_) == Wanted(false));
}

TEST_F(EncryptedTest, LogIsReadHere) {
  const std::string lines = "[    1.000000] first\n[    2.000000] second\n[    3.000000] third\n";
  Ran ran = Run({"log", "3fa9", "--identity", identity_}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ran.out, lines);
  EXPECT_THAT(ran.err, HasSubstr("sent ahead of its memory"));
  ran = Run({"log", "3fa9", "-n", "2", "--identity", identity_}, {&relay_});
  EXPECT_EQ(ran.out, lines.substr(lines.find('\n') + 1));
  ran = Run({"log", "3fa9", "-n", "9", "--identity", identity_}, {&relay_});
  EXPECT_EQ(ran.out, lines);
  ran = Run({"log", "3fa9", "-o", "json", "--identity", identity_}, {&relay_});
  EXPECT_EQ(Json(ran)["source"], "stream");
  EXPECT_EQ(Json(ran)["lines"].size(), 3u);
}

TEST_F(EncryptedTest, LogAsksAnotherRelayWhenOneIsDamaged) {
  auto forged = std::make_shared<MapBlockSource>(*blocks_);
  const uint64_t number = dcast_class0_number(DCAST_STREAM_WHOLE_META, 0);
  forged->Put(0, number, blocks_->blocks().at({1, 0}));
  relay_.blocks = forged;
  const Ran ran = Run({"log", "3fa9", "--identity", identity_}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("third"));
}

TEST_F(EncryptedTest, ListsAndShowsSayThatItIsEncrypted) {
  Ran ran = Run({"ls"}, {&relay_});
  EXPECT_THAT(ran.out, HasSubstr("(encrypted)"));
  ran = Run({"show", "3fa9"}, {&relay_});
  EXPECT_THAT(ran.out, HasSubstr("encrypted    yes\n"));
  EXPECT_THAT(ran.out, HasSubstr("signature    00112233445566778899aabbccddeeff\n"));
  ran = Run({"show", "3fa9", "-o", "json"}, {&relay_});
  EXPECT_EQ(Json(ran)["encrypted"], true);
  EXPECT_EQ(Json(ran)["signature"], "00112233445566778899aabbccddeeff");
  relay_.dumps = {MakeDump()};
  ran = Run({"show", "3fa9"}, {&relay_});
  EXPECT_THAT(ran.out, HasSubstr("encrypted    no\n"));
  EXPECT_THAT(Run({"ls"}, {&relay_}).out, Not(HasSubstr("encrypted")));
}

TEST_F(EncryptedTest, KeygenWritesWhatOpensDumpsAndPrintsTheRecipient) {
  const std::string path = Path("new.identity");
  Ran ran = Run({"keygen", "-O", path});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  struct stat st {};
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const auto identity = LoadIdentity(path);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(ran.out, "recipients = [\"" + RecipientText(identity->recipient) + "\"]\n");

  const std::string before = ReadFile(path);
  ran = Run({"keygen", "-O", path});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("--force"));
  EXPECT_EQ(ReadFile(path), before) << "dumps may need it";
  EXPECT_EQ(ran.out, "");
  WriteFile(path + ".new", "left by an earlier run");
  ran = Run({"keygen", "-O", path, "--force", "-o", "json"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_NE(ReadFile(path), before);
  EXPECT_EQ(Json(ran)["file"], path);
  EXPECT_EQ(Json(ran)["recipient"], RecipientText(LoadIdentity(path)->recipient));
  EXPECT_THAT(FilesLeft(), ElementsAre("me.identity", "new.identity"));
}

TEST_F(EncryptedTest, KeygenWritesToTheUsualPlaceAndNeedsNoServer) {
  variables_["HOME"] = folder_.string();
  variables_["DUMPCAST_SERVER"] = "not an address";
  const Ran ran = Run({"keygen"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_TRUE(LoadIdentity(Path(".config/dumpcast/identity")).ok());
  variables_.clear();
  EXPECT_EQ(Run({"keygen"}).code, kExitUsage) << "without a home";
  EXPECT_EQ(Run({"keygen", "-O", Path("no/such/folder")}).code, kExitUsage);
}

}  // namespace
}  // namespace dumpcast
