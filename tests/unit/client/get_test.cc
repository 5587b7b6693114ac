// SPDX-License-Identifier: Apache-2.0
// `dumpcast get` against relays that break, lie, change and vanish.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class GetTest : public ClientTest {
 protected:
  GetTest() {
    for (FakeRelay* relay : {&relay_, &other_}) {
      relay->dumps = {MakeDump()};
      relay->views["elf"] = {elf_, "v1"};
      relay->views["kdump"] = {RandomBytes(33333, 2), "v1k"};
    }
  }
  Ran Get(std::vector<std::string> more = {}, std::vector<const FakeRelay*> relays = {}) {
    std::vector<std::string> args = {"get", "3fa9", "-O", file_};
    args.insert(args.end(), more.begin(), more.end());
    if (relays.empty()) relays = {&relay_};
    return Run(args, relays);
  }
  static std::vector<uint64_t> Offsets(const FakeRelay& relay) {
    std::vector<uint64_t> offsets;
    for (const auto& read : relay.reads) offsets.push_back(read.offset());
    return offsets;
  }

  const std::string elf_ = RandomBytes(100001, 1);
  FakeRelay relay_;
  FakeRelay other_;
  const std::string file_ = Path("vmcore");
};

TEST_F(GetTest, WritesTheWholeFileAndNothingElse) {
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(FilesLeft(), ElementsAre("vmcore"));
  struct stat st {};
  ASSERT_EQ(stat(file_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u) << "memory of a kernel is for its reader only";
}

TEST_F(GetTest, FetchesTheKdumpFormat) {
  const Ran ran = Get({"-f", "kdump"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), relay_.views["kdump"].bytes);
}

TEST_F(GetTest, GoesOnAtTheExactByteWhenTheStreamBreaks) {
  relay_.faults = {{Fault::kBreak, 50001}, {Fault::kBreak, 50002}};
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(relay_), ElementsAre(0, 50001, 50002));
  EXPECT_EQ(relay_.reads[1].etag(), "v1");
  EXPECT_THAT(ran.err, HasSubstr("going on at byte 50001"));
}

TEST_F(GetTest, GoesOnAtTheExactByteInALaterRun) {
  relay_.faults = {{Fault::kBreak, 70001}, {Fault::kBreak, 70001}};
  Ran ran = Get({"--retries", "0"});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("70001 bytes stay in"));
  EXPECT_THAT(ran.err, HasSubstr("cable cut"));
  EXPECT_THAT(FilesLeft(), ElementsAre("vmcore.part", "vmcore.part.json"));
  relay_.reads.clear();
  ran = Get({"-o", "json"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(relay_), ElementsAre(70001));
  EXPECT_EQ(Json(ran)["resumed_at"], 70001);
  EXPECT_EQ(Json(ran)["bytes"], elf_.size());
  EXPECT_THAT(FilesLeft(), ElementsAre("vmcore"));
}

TEST_F(GetTest, StartsAtTheSyncedByteWhenTheMachineWasRestarted) {
  relay_.faults = {{Fault::kBreak, 70001}, {Fault::kBreak, 70001}};
  EXPECT_EQ(Get({"--retries", "0"}).code, kExitFailure);
  auto note = nlohmann::json::parse(ReadFile(file_ + ".part.json"));
  note["boot_id"] = "of an earlier boot";
  note["synced_bytes"] = 4096;
  WriteFile(file_ + ".part.json", note.dump());
  // What the page cache lost.
  WriteFile(file_ + ".part", elf_.substr(0, 4096) + std::string(50000, '\0'));
  relay_.reads.clear();
  EXPECT_EQ(Get().code, kExitOk);
  EXPECT_THAT(Offsets(relay_), ElementsAre(4096));
  EXPECT_EQ(ReadFile(file_), elf_);
}

TEST_F(GetTest, NeverWritesAChunkWithAWrongChecksum) {
  relay_.faults = {{Fault::kWrongCrc, 40960}, {Fault::kWrongCrc, 40960}};
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(relay_), ElementsAre(0, 40960, 40960));
}

TEST_F(GetTest, SaysSoWhenTheChecksumStaysWrong) {
  relay_.faults = std::deque<Fault>(3, {Fault::kWrongCrc, 0});
  const Ran ran = Get({"--retries", "2"});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("CRC-32C"));
  EXPECT_THAT(ran.err, HasSubstr("DATA_LOSS"));
  EXPECT_THAT(FilesLeft(), ElementsAre());
  EXPECT_EQ(pauses_.size(), 2u);
  EXPECT_GT(pauses_[1], pauses_[0]);
}

TEST_F(GetTest, TakesDamagedBytesFromAnotherRelay) {
  relay_.faults = std::deque<Fault>(10, {Fault::kWrongCrc, 40960});
  const Ran ran = Get({}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(other_), ElementsAre(40960));
}

TEST_F(GetTest, RefusesChunksOutOfPlace) {
  relay_.faults = {{Fault::kWrongOffset, 8192}, {Fault::kTooLong, 8192}, {Fault::kEndEarly, 12000}};
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(relay_), ElementsAre(0, 8192, 8192, 12000));
}

TEST_F(GetTest, StartsAgainWhenTheViewChanged) {
  const View repaired = {RandomBytes(120000, 9), "v2"};
  relay_.faults = {{Fault::kBreak, 50000}};
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 50000) relay_.views["elf"] = repaired;
  };
  const Ran ran = Get({"-o", "json"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), repaired.bytes);
  EXPECT_THAT(Offsets(relay_), ElementsAre(0, 50000, 0));
  EXPECT_EQ(relay_.reads[2].etag(), "");
  EXPECT_THAT(ran.err, HasSubstr("starting again"));
  EXPECT_EQ(Json(ran)["restarts"], 1);
  EXPECT_EQ(Json(ran)["etag"], "v2");
}

TEST_F(GetTest, StartsAgainInALaterRunWhenTheViewShrank) {
  relay_.faults = {{Fault::kBreak, 90000}, {Fault::kBreak, 90000}};
  EXPECT_EQ(Get({"--retries", "0"}).code, kExitFailure);
  relay_.views["elf"] = {RandomBytes(20000, 9), "v2"};
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), relay_.views["elf"].bytes);
}

TEST_F(GetTest, DoesNotSpliceAViewThatARelayMixedUp) {
  relay_.faults = {{Fault::kBreak, 50000}, {Fault::kOtherView}};
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 50000) relay_.views["elf"] = {RandomBytes(100001, 9), "v2"};
  };
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), relay_.views["elf"].bytes);
}

TEST_F(GetTest, GivesUpOnAViewThatNeverRests) {
  relay_.faults = std::deque<Fault>(100, {Fault::kBreak, 50000});
  int version = 1;
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 50000) relay_.views["elf"] = {RandomBytes(100001, 9), std::to_string(++version)};
  };
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("dumpcast watch --until sealed"));
}

TEST_F(GetTest, GoesOnAtAnotherRelayWhenOneIsKilled) {
  relay_.down = grpc::Status::OK;
  relay_.faults = {{Fault::kBreak, 60001}};
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 60001) relay_.down = {grpc::StatusCode::UNAVAILABLE, "killed"};
  };
  const Ran ran = Get({"-o", "json"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(other_), ElementsAre(60001));
  EXPECT_EQ(Json(ran)["server"], other_.address());
}

TEST_F(GetTest, WaitsForARelayThatComesBack) {
  relay_.faults = {{Fault::kBreak, 60001}};
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 60001) relay_.down = {grpc::StatusCode::UNAVAILABLE, "restarting"};
  };
  on_pause_ = [&] {
    if (pauses_.size() == 3) relay_.down = grpc::Status::OK;
  };
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_EQ(pauses_.size(), 3u);
}

TEST_F(GetTest, LeavesASilentRelayForTheNext) {
  relay_.faults = {{Fault::kSilence, 30000}};
  const Ran ran = Get({"--deadline", "0.2"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(Offsets(other_), ElementsAre(30000));
  EXPECT_THAT(ran.err, HasSubstr("silent for"));
}

TEST_F(GetTest, AsksTheRelayThatHoldsMost) {
  relay_.dumps[0].set_state(v1::DUMP_STATE_INCOMPLETE);
  relay_.dumps[0].set_blocks_held(10);
  const Ran ran = Get({"--require-complete"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(Offsets(relay_), ElementsAre());
  EXPECT_THAT(Offsets(other_), ElementsAre(0));
}

TEST_F(GetTest, TriesTheOthersWhenOneDoesNotKnowTheDump) {
  relay_.dumps.clear();
  EXPECT_EQ(Get({}, {&relay_, &other_}).code, kExitOk);
  other_.dumps.clear();
  const Ran ran = Get({"--force"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitNotFound);
  EXPECT_THAT(ran.err, HasSubstr(relay_.address()));
  EXPECT_THAT(ran.err, HasSubstr(other_.address()));
}

TEST_F(GetTest, WarnsOfWhatIsMissing) {
  relay_.dumps[0].set_state(v1::DUMP_STATE_INCOMPLETE);
  relay_.dumps[0].set_incomplete_reason("host went silent");
  relay_.dumps[0].set_blocks_held(3984);
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitOk);
  EXPECT_THAT(ran.err, HasSubstr("host went silent"));
  EXPECT_THAT(ran.err, HasSubstr("16 of 4000 blocks are missing, up to 1.0 MiB"));
}

TEST_F(GetTest, FetchesNothingIncompleteWhenToldSo) {
  relay_.dumps[0].set_state(v1::DUMP_STATE_INCOMPLETE);
  EXPECT_EQ(Get({"--require-complete"}).code, kExitIncomplete);
  EXPECT_THAT(relay_.reads, ::testing::IsEmpty());
  EXPECT_THAT(FilesLeft(), ElementsAre());
}

TEST_F(GetTest, DoesNotReplaceAFileUnlessForced) {
  WriteFile(file_, "dear");
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("--force"));
  EXPECT_EQ(ReadFile(file_), "dear");
  EXPECT_THAT(relay_.reads, ::testing::IsEmpty());
  EXPECT_EQ(Get({"--force"}).code, kExitOk);
  EXPECT_EQ(ReadFile(file_), elf_);
}

TEST_F(GetTest, DoesNotReplaceAFileThatAppearsMeanwhile) {
  relay_.after_chunk = [&](size_t) { WriteFile(file_, "dear"); };
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_EQ(ReadFile(file_), "dear");
  EXPECT_EQ(ReadFile(file_ + ".part"), elf_);
  std::filesystem::remove(file_);
  relay_.after_chunk = nullptr;
  relay_.reads.clear();
  EXPECT_EQ(Get().code, kExitOk) << "the part was whole";
  EXPECT_EQ(ReadFile(file_), elf_);
  EXPECT_THAT(relay_.reads, ::testing::IsEmpty());
}

TEST_F(GetTest, DropsThePartOfAnotherFormat) {
  relay_.faults = {{Fault::kBreak, 50000}, {Fault::kBreak, 50000}};
  EXPECT_EQ(Get({"--retries", "0"}).code, kExitFailure);
  const Ran ran = Get({"-f", "kdump"});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("another dump or format"));
  EXPECT_EQ(ReadFile(file_), relay_.views["kdump"].bytes);
}

TEST_F(GetTest, LeavesAForeignPartAlone) {
  WriteFile(file_ + ".part", "somebody else's");
  const Ran ran = Get();
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_EQ(ReadFile(file_ + ".part"), "somebody else's");
  WriteFile(file_ + ".part.json", R"({"version": 1, "etag": 7})");
  EXPECT_EQ(Get().code, kExitFailure);
  EXPECT_EQ(ReadFile(file_ + ".part"), "somebody else's");
}

TEST_F(GetTest, WritesToStandardOutput) {
  relay_.faults = {{Fault::kBreak, 50001}};
  Ran ran = Run({"get", "3fa9", "-O", "-"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ran.out, elf_);
  out_is_tty_ = true;
  ran = Run({"get", "3fa9", "-O", "-"}, {&relay_});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_EQ(ran.out, "");
}

TEST_F(GetTest, CannotTakeBackStandardOutputWhenTheViewChanges) {
  relay_.faults = {{Fault::kBreak, 50000}};
  relay_.after_chunk = [&](size_t sent) {
    if (sent == 50000) relay_.views["elf"].etag = "v2";
  };
  const Ran ran = Run({"get", "3fa9", "-O", "-"}, {&relay_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_EQ(ran.out, elf_.substr(0, 50000));
  EXPECT_THAT(ran.err, HasSubstr("cannot be taken back"));
}

TEST_F(GetTest, SaysSoWhenADeviceIsFull) {
  const Ran ran = Run({"get", "3fa9", "-O", "/dev/full"}, {&relay_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("cannot write to /dev/full"));
}

TEST_F(GetTest, NamesTheFileByItselfWithinTheFolder) {
  relay_.dumps[0].set_hostname("../../etc/\x1b[2Jweb");
  const Ran ran = Run({"get", "3fa9", "-O", folder_.string()}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(FilesLeft(), ElementsAre("vmcore-.._.._etc___2Jweb-3fa9c2e17b5d.elf"));
  EXPECT_THAT(ran.out + ran.err, Not(HasSubstr("\x1b")));
}

TEST_F(GetTest, IsQuietWhenToldSo) {
  err_is_tty_ = true;
  EXPECT_THAT(Get().err, HasSubstr("100.0%"));
  EXPECT_EQ(Get({"--force", "-q"}).err, "");
}

}  // namespace
}  // namespace dumpcast
