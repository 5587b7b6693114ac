// SPDX-License-Identifier: Apache-2.0
// ls, show, log, hosts: what they print, and whom they ask.
#include <gmock/gmock.h>

#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string IdOf(int i) {
  std::string id = std::to_string(i);
  return std::string(32 - id.size(), '0') + id;
}

class ListTest : public ClientTest {
 protected:
  ListTest() { relay_.dumps = {MakeDump()}; }
  FakeRelay relay_;
  FakeRelay other_;
};

TEST_F(ListTest, LsPrintsATable) {
  relay_.dumps[0].set_state(v1::DUMP_STATE_RECEIVING);
  relay_.dumps[0].set_blocks_held(1720);
  const Ran ran = Run({"ls"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(ran.out,
            "DUMP          HOST  KERNEL          STATE          SIZE     WHEN       REASON\n"
            "3fa9c2e17b5d  web1  6.1.0-56-amd64  receiving 43%  200 MiB  5 min ago  "
            "sysrq triggered crash\n");
}

TEST_F(ListTest, LsCutsTheReasonOnATerminal) {
  out_is_tty_ = true;
  columns_ = 70;
  const Ran ran = Run({"ls"}, {&relay_});
  std::istringstream lines(ran.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 70u) << line;
  EXPECT_THAT(ran.out, HasSubstr("~"));
}

TEST_F(ListTest, NothingOfACrashedHostSteersTheTerminal) {
  relay_.dumps[0].set_reason(
      "\x1b]0;owned\x07 \xc2\x9b"
      "2J panic");
  relay_.dumps[0].set_hostname("a\nb");
  relay_.log = "one\x1b[2J\ntwo\n";
  out_is_tty_ = true;
  for (const auto& args : std::vector<std::vector<std::string>>{
           {"ls"}, {"show", "3fa9"}, {"log", "3fa9"}, {"ls", "-o", "json"}}) {
    const Ran ran = Run(args, {&relay_});
    EXPECT_EQ(ran.code, kExitOk);
    EXPECT_THAT(ran.out, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\x07")))) << args[0];
  }
  EXPECT_THAT(Run({"ls"}, {&relay_}).out, Not(HasSubstr("\xc2\x9b")));
}

TEST_F(ListTest, LsPrintsOneJsonArrayWithTheNamesOfTheProto) {
  const auto json = Json(Run({"ls", "-o", "json"}, {&relay_}));
  ASSERT_TRUE(json.is_array());
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["dump_id"], kDumpId);
  EXPECT_EQ(json[0]["state"], "DUMP_STATE_COMPLETE");
  EXPECT_EQ(json[0]["blocks_held"], "4000");
  EXPECT_EQ(json[0]["incomplete_reason"], "") << "fields are present when empty";
  EXPECT_EQ(json[0]["crash_time"], "2026-09-21T14:13:20Z");
  relay_.dumps.clear();
  EXPECT_EQ(Run({"ls", "-o", "json"}, {&relay_}).out, "[]\n");
}

TEST_F(ListTest, LsFollowsThePages) {
  relay_.dumps.clear();
  for (int i = 0; i < 130; ++i) relay_.dumps.push_back(MakeDump(IdOf(i)));
  relay_.page_size = 40;
  EXPECT_EQ(Json(Run({"ls", "-o", "json"}, {&relay_})).size(), 130u);
  Ran ran = Run({"ls"}, {&relay_});
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 51);
  EXPECT_THAT(ran.err, HasSubstr("the newest 50 are shown"));
  ran = Run({"ls", "--all"}, {&relay_});
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 131);
  EXPECT_EQ(Json(Run({"ls", "-o", "json", "-n", "45"}, {&relay_})).size(), 45u);
  ran = Run({"ls", "-q"}, {&relay_});
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 130);
  EXPECT_EQ(ran.out.substr(0, 33), IdOf(0) + "\n");
}

TEST_F(ListTest, LsSendsHostAndFilter) {
  EXPECT_EQ(Run({"ls", "--host", "web*", "--filter", "state=complete"}, {&relay_}).code, kExitOk);
  EXPECT_EQ(relay_.lists.back().filter(), "hostname=web* AND state=complete");
  EXPECT_EQ(relay_.lists.back().parent(), "");
  EXPECT_EQ(Run({"ls", "--host", kHostId}, {&relay_}).code, kExitOk);
  EXPECT_EQ(relay_.lists.back().parent(), std::string("hosts/") + kHostId);
  EXPECT_EQ(relay_.lists.back().filter(), "");
  const size_t asked = relay_.lists.size();
  EXPECT_EQ(Run({"ls", "--host", "a\" OR b"}, {&relay_}).code, kExitUsage);
  EXPECT_EQ(relay_.lists.size(), asked);
}

TEST_F(ListTest, AFilterThatTheRelayRefusesIsUsageAndAsksNobodyElse) {
  const Ran ran = Run({"ls", "--filter", "nonsense"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_THAT(ran.err, HasSubstr("has no operator"));
  EXPECT_EQ(other_.calls, 0);
}

TEST_F(ListTest, TheNextServerAnswersWhenOneIsGone) {
  other_.dumps = relay_.dumps;
  relay_.Stop();
  const Ran ran = Run({"ls", "-o", "json"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(Json(ran).size(), 1u);
}

TEST_F(ListTest, TheErrorNamesEachServerAndWhy) {
  relay_.Stop();
  other_.down = {grpc::StatusCode::UNAVAILABLE, "still opening the store"};
  const Ran ran = Run({"ls"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr(relay_.address() + ": UNAVAILABLE: "));
  EXPECT_THAT(ran.err, HasSubstr(other_.address() + ": UNAVAILABLE: still opening the store"));
}

TEST_F(ListTest, NotFoundIsCertainOnlyWhenEveryServerSaysSo) {
  relay_.dumps.clear();
  EXPECT_EQ(Run({"show", "3fa9"}, {&relay_}).code, kExitNotFound);
  EXPECT_EQ(Run({"show", "3fa9"}, {&relay_, &other_}).code, kExitNotFound);
  other_.down = {grpc::StatusCode::UNAVAILABLE, "down"};
  EXPECT_EQ(Run({"show", "3fa9"}, {&relay_, &other_}).code, kExitFailure);
  other_.down = grpc::Status::OK;
  other_.dumps = {MakeDump()};
  EXPECT_EQ(Run({"show", "3fa9"}, {&relay_, &other_}).code, kExitOk);
}

TEST_F(ListTest, ShowPrintsHoldersPathsAndWhatIsMissing) {
  relay_.dumps[0].set_state(v1::DUMP_STATE_INCOMPLETE);
  relay_.dumps[0].set_incomplete_reason("host went silent");
  relay_.dumps[0].set_blocks_held(3000);
  const Ran ran = Run({"show", kDumpId}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  for (const char* text : {kDumpId, "host went silent", "1000 of 4000 blocks", "relay-0", "123456",
                           "incomplete 75%", "#1 SMP Debian", "2026-09-21 14:13:20"}) {
    EXPECT_THAT(ran.out, HasSubstr(text));
  }
  EXPECT_EQ(Run({"show", kDumpId, "--require-complete"}, {&relay_}).code, kExitIncomplete);
}

TEST_F(ListTest, ShowPrintsOneJsonObject) {
  const auto json = Json(Run({"show", "3FA9", "-o", "json"}, {&relay_}));
  EXPECT_EQ(json["dump_id"], kDumpId);
  EXPECT_EQ(json["holders"][0]["relay_name"], "relay-0");
  EXPECT_EQ(json["paths"][0]["lost"], "7");
}

TEST_F(ListTest, IdsThatAreNoneAreUsage) {
  for (const char* id : {"", "xyz", "3fa9/", "hosts/a/dumps/b", "--", "hosts/-/dumps/"}) {
    EXPECT_EQ(Run({"show", id}, {&relay_}).code, kExitUsage) << id;
  }
  EXPECT_EQ(Run({"show", std::string(33, 'a')}, {&relay_}).code, kExitUsage);
  EXPECT_EQ(relay_.calls, 0);
  EXPECT_EQ(Run({"show", relay_.dumps[0].name()}, {&relay_}).code, kExitOk);
}

TEST_F(ListTest, LogPrintsItsBytes) {
  relay_.log = "one\n\xff two\nthree\n";
  Ran ran = Run({"log", "3fa9"}, {&relay_});
  EXPECT_EQ(ran.out, relay_.log);
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(Run({"log", "3fa9", "-n", "2"}, {&relay_}).out, "\xff two\nthree\n");
  const auto json = Json(Run({"log", "3fa9", "-o", "json"}, {&relay_}));
  EXPECT_EQ(json["source"], "memory");
  ASSERT_EQ(json["lines"].size(), 3u);
  EXPECT_EQ(json["lines"][1], "\xef\xbf\xbd two");
  relay_.log_source = v1::LOG_SOURCE_STREAM;
  EXPECT_THAT(Run({"log", "3fa9"}, {&relay_}).err, HasSubstr("ahead of its memory"));
}

TEST_F(ListTest, HostsShowsWhoIsArmed) {
  for (int i = 0; i < 3; ++i) {
    v1::Host host;
    host.set_hostname("web" + std::to_string(i));
    host.set_state(static_cast<v1::HostState>(v1::HOST_STATE_ARMED + i));
    host.mutable_last_heard_time()->set_seconds(1790000297);
    host.set_paths(2);
    host.set_paths_heard(1);
    host.set_memory_bytes(256 << 20);
    host.set_last_dump(relay_.dumps[0].name());
    host.mutable_last_dump_time()->set_seconds(1790000000);
    host.set_last_dump_live(i > 0);
    host.set_last_dump_test(i > 1);
    relay_.hosts.push_back(host);
  }
  relay_.page_size = 2;
  const Ran ran = Run({"hosts"}, {&relay_});
  EXPECT_EQ(ran.out,
            "HOST  STATE     HEARD    PATHS   KERNEL  MEMORY   LAST DUMP\n"
            "web0  armed     3 s ago  1 of 2  -       256 MiB  3fa9c2e17b5d (5 min ago)\n"
            "web1  disarmed  3 s ago  1 of 2  -       256 MiB  3fa9c2e17b5d (live) (5 min ago)\n"
            "web2  lost      3 s ago  1 of 2  -       256 MiB  3fa9c2e17b5d (test) (5 min ago)\n");
  const auto json = Json(Run({"hosts", "-o", "json"}, {&relay_}));
  ASSERT_EQ(json.size(), 3u);
  EXPECT_EQ(json[2]["state"], "HOST_STATE_LOST");
}

TEST_F(ListTest, AListThatNeverEndsIsRefused) {
  // A relay that hands out its own token again would keep the client for ever.
  relay_.dumps = {MakeDump(IdOf(1)), MakeDump(IdOf(2))};
  relay_.page_size = 0;
  EXPECT_EQ(Run({"ls"}, {&relay_}).code, kExitFailure);
}

TEST_F(ListTest, LsGroupsBySignature) {
  relay_.dumps.clear();
  for (int i = 0; i < 60; ++i) {
    v1::Dump dump = MakeDump(IdOf(i));
    dump.set_signature(i < 57 ? std::string(32, 'a') : i == 57 ? std::string(32, 'b') : "");
    dump.set_host_id(IdOf(i % 10));
    if (i % 2 == 0) dump.set_state(v1::DUMP_STATE_INCOMPLETE);
    relay_.dumps.push_back(dump);
  }
  const auto json = Json(Run({"ls", "--by-signature", "-o", "json"}, {&relay_}));
  ASSERT_EQ(json.size(), 3u);
  for (const auto& group : json) {
    const std::string signature = group["signature"];
    EXPECT_EQ(group["dumps"], signature.empty() ? 2 : signature[0] == 'a' ? 57 : 1);
    EXPECT_EQ(group["complete"], signature.empty() ? 1 : signature[0] == 'a' ? 28 : 1);
    EXPECT_EQ(group["hosts"], signature.empty() ? 2 : signature[0] == 'a' ? 10 : 1);
  }
  const Ran ran = Run({"ls", "--by-signature"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk);
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 4) << ran.out;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("aaaaaaaaaaaa  57     28        10"), HasSubstr("\nnone ")));
  EXPECT_EQ(Run({"ls", "--by-signature", "--quiet"}, {&relay_}).code, kExitUsage);
  relay_.dumps.clear();
  EXPECT_EQ(Run({"ls", "--by-signature", "-o", "json"}, {&relay_}).out, "[]\n");
}

}  // namespace
}  // namespace dumpcast
