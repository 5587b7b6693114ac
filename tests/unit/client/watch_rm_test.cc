// SPDX-License-Identifier: Apache-2.0
// watch and rm: what changes, and what must not by accident.
#include <gmock/gmock.h>

#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::WatchDumpsResponse Event(v1::DumpState state, uint64_t blocks,
                             const std::string& id = kDumpId) {
  v1::WatchDumpsResponse event;
  *event.mutable_dump() = MakeDump(id);
  event.mutable_dump()->set_state(state);
  event.mutable_dump()->set_blocks_held(blocks);
  return event;
}

class WatchTest : public ClientTest {
 protected:
  WatchTest() {
    relay_.dumps = {Event(v1::DUMP_STATE_RECEIVING, 100).dump()};
    relay_.keep_watching = true;
  }
  FakeRelay relay_;
  FakeRelay other_;
};

TEST_F(WatchTest, EndsWhenSealed) {
  relay_.events = {Event(v1::DUMP_STATE_RECEIVING, 2000), Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "3fa9", "--until", "sealed"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("receiving 2%"));
  EXPECT_THAT(ran.out, HasSubstr("receiving 50%"));
  EXPECT_THAT(ran.out, HasSubstr("complete, 4000 of 4000 blocks"));
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 3) << "no line twice\n" << ran.out;
}

TEST_F(WatchTest, ALiveDumpIsMarked) {
  relay_.events = {Event(v1::DUMP_STATE_COMPLETE, 4000)};
  relay_.events[0].mutable_dump()->set_live(true);
  EXPECT_THAT(Run({"watch", "3fa9", "--until", "sealed"}, {&relay_}).out,
              HasSubstr("blocks: (live) sysrq triggered crash"));
}

TEST_F(WatchTest, EndsAtOnceWhenItIsSealedAlready) {
  relay_.dumps = {MakeDump()};
  EXPECT_EQ(Run({"watch", "3fa9", "--until", "sealed"}, {&relay_}).code, kExitOk);
  EXPECT_THAT(relay_.watches, IsEmpty());
}

TEST_F(WatchTest, SealedIncompleteIsNotComplete) {
  relay_.events = {Event(v1::DUMP_STATE_INCOMPLETE, 3000)};
  EXPECT_EQ(Run({"watch", "3fa9", "--until", "sealed", "--require-complete"}, {&relay_}).code,
            kExitIncomplete);
  relay_.events = {Event(v1::DUMP_STATE_INCOMPLETE, 3000), Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "3fa9", "--until", "complete", "-o", "json"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk);
  std::istringstream lines(ran.out);
  nlohmann::json last;
  for (std::string line; std::getline(lines, line);) last = nlohmann::json::parse(line);
  EXPECT_EQ(last["dump"]["state"], "DUMP_STATE_COMPLETE");
  EXPECT_EQ(last["deleted"], false);
}

TEST_F(WatchTest, FailsWhenTheTimeIsOver) {
  const Ran ran = Run({"watch", "3fa9", "--until", "sealed", "--timeout", "0.2"}, {&relay_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("not sealed within 200ms"));
  EXPECT_THAT(ran.err, HasSubstr("3900 of 4000 blocks are missing"));
  EXPECT_EQ(Run({"watch", "3fa9", "--timeout", "0.2"}, {&relay_}).code, kExitOk)
      << "watching for a while is no failure";
}

TEST_F(WatchTest, WaitsForADumpThatIsNotKnownYet) {
  relay_.dumps.clear();
  EXPECT_EQ(Run({"watch", "3fa9"}, {&relay_}).code, kExitNotFound);
  relay_.events = {Event(v1::DUMP_STATE_COMPLETE, 4000, std::string(32, '7')),
                   Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "3fa9", "--until", "sealed", "--timeout", "60"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("not known yet"));
  EXPECT_THAT(ran.out, ::testing::Not(HasSubstr("777"))) << "another dump is not it";
}

TEST_F(WatchTest, WithoutAnIdEveryMatchMustBeSealed) {
  relay_.dumps.push_back(Event(v1::DUMP_STATE_COMPLETE, 4000, std::string(32, '7')).dump());
  relay_.events = {Event(v1::DUMP_STATE_RECEIVING, 3000), Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "--host", "web1", "--until", "sealed"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(relay_.watches.back().filter(), "hostname=web1");
  EXPECT_THAT(ran.out, HasSubstr("receiving 75%"));
}

TEST_F(WatchTest, AllThatAreThereCountBeforeTheFirstIsJudged) {
  // The sealed one comes first in the list; the one that is arriving must not be overlooked.
  relay_.dumps.insert(relay_.dumps.begin(), MakeDump(std::string(32, '7')));
  const Ran ran = Run({"watch", "--until", "sealed", "--timeout", "0.2"}, {&relay_});
  EXPECT_EQ(ran.code, kExitFailure) << ran.out;
}

TEST_F(WatchTest, GoesOnAtAnotherRelay) {
  relay_.keep_watching = false;
  relay_.events = {Event(v1::DUMP_STATE_RECEIVING, 2000)};
  other_.dumps = {Event(v1::DUMP_STATE_RECEIVING, 2000).dump()};
  other_.keep_watching = true;
  other_.events = {Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "3fa9", "--until", "sealed"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 3) << ran.out;
}

TEST_F(WatchTest, GivesUpWhenNoServerAnswers) {
  relay_.Stop();
  const Ran ran = Run({"watch", "3fa9"}, {&relay_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr(relay_.address()));
  EXPECT_FALSE(pauses_.empty());
}

TEST_F(WatchTest, SaysWhenTheDumpIsDeleted) {
  v1::WatchDumpsResponse gone;
  gone.mutable_dump()->set_name(relay_.dumps[0].name());
  gone.set_deleted(true);
  relay_.events = {gone};
  EXPECT_EQ(Run({"watch", "3fa9", "--until", "sealed"}, {&relay_}).code, kExitNotFound);
}

TEST_F(WatchTest, RedrawsOnATerminal) {
  out_is_tty_ = true;
  relay_.events = {Event(v1::DUMP_STATE_COMPLETE, 4000)};
  const Ran ran = Run({"watch", "3fa9", "--until", "sealed"}, {&relay_});
  EXPECT_THAT(ran.out, HasSubstr("\x1b[2A"));
}

class RmTest : public ClientTest {
 protected:
  RmTest() { relay_.dumps = {MakeDump(), MakeDump(std::string(32, '7'))}; }
  FakeRelay relay_;
  FakeRelay other_;
};

TEST_F(RmTest, NeedsAYes) {
  Ran ran = Run({"rm", "3fa9"}, {&relay_});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_THAT(ran.err, HasSubstr("--yes"));
  in_is_tty_ = true;
  for (const char* answer : {"", "\n", "n\n", "yess\n"}) {
    input_ = answer;
    EXPECT_EQ(Run({"rm", "3fa9"}, {&relay_}).code, kExitFailure);
  }
  EXPECT_THAT(relay_.deleted, IsEmpty());
  input_ = "Y\n";
  ran = Run({"rm", "3fa9"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr(kDumpId)) << "the whole id is shown before";
  EXPECT_THAT(relay_.deleted, ElementsAre(relay_.dumps[0].name()));
}

TEST_F(RmTest, DeletesNothingWhenOneIsNotFound) {
  EXPECT_EQ(Run({"rm", "-y", "3fa9", "dead"}, {&relay_}).code, kExitNotFound);
  EXPECT_THAT(relay_.deleted, IsEmpty());
  const Ran ran = Run({"rm", "-y", "3fa9", "777", "-o", "json"}, {&relay_});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(Json(ran)["deleted"].size(), 2u);
}

TEST_F(RmTest, SaysWhatIsInTheWay) {
  relay_.delete_status = {grpc::StatusCode::FAILED_PRECONDITION, "the dump is being received"};
  const Ran ran = Run({"rm", "-y", "3fa9"}, {&relay_, &other_});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, HasSubstr("being received"));
  EXPECT_EQ(Run({"rm", "-y", "--force", "3fa9"}, {&relay_}).code, kExitOk);
}

}  // namespace
}  // namespace dumpcast
