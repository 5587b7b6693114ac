// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/status.h"

#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

// As kmod/linux/status.c prints it.
constexpr char kArmed[] =
    "host state=armed dump_id=00112233445566778899aabbccddeeff held_bytes=3145728 symbol_size=1352 "
    "memory_bytes=1073741824 relays=1 bad_mac=4 bad_format=5\n"
    "path index=0 name=a device=eth0 card=eth0 source=10.0.0.2 up=1 resolved=1/1 ring=256 sent=17 "
    "errors=2 destination=239.192.68.67 error=\"\"\n"
    "path index=1 name=b device=eth1 card=eth1 source=none up=0 resolved=0/2 ring=0 sent=0 "
    "errors=0 destination=10.0.0.5,10.0.0.6 error=\"eth1 is down\"\n"
    "relay id=00000000000000ff name=\"relay one\" lanes=f pace_kib_s=2048 heard_ms.0=1234\n"
    "test ok=0 error=-110 relays=1 packets=900 ms=30000\n";

TEST(ArmStatusTest, EveryWordIsTaken) {
  const auto parsed = ParseStatus(kArmed);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(parsed->armed);
  EXPECT_EQ(parsed->dump_id, "00112233445566778899aabbccddeeff");
  EXPECT_EQ(parsed->held_bytes, 3145728u);
  EXPECT_EQ(parsed->symbol_bytes, 1352u);
  EXPECT_EQ(parsed->bad_mac, 4u);
  ASSERT_EQ(parsed->paths.size(), 2u);
  EXPECT_TRUE(parsed->paths[0].up);
  EXPECT_EQ(parsed->paths[0].send_errors, 2u);
  EXPECT_EQ(parsed->paths[1].error, "eth1 is down");
  EXPECT_EQ(parsed->paths[1].resolved, "0/2");
  ASSERT_EQ(parsed->relays.size(), 1u);
  EXPECT_EQ(parsed->relays[0].name, "relay one");
  EXPECT_EQ(parsed->relays[0].lane_mask, 0xfu);
  EXPECT_EQ(parsed->relays[0].heard_ms.at(0), 1234u);
  ASSERT_TRUE(parsed->test);
  EXPECT_EQ(parsed->test->error, -110);
  EXPECT_FALSE(parsed->test->ok);
}

TEST(ArmStatusTest, ADumpUnderWayAndTheLastLiveDumpAreTold) {
  const auto parsed = ParseStatus(
      "host state=armed dump_id=01 symbol_size=1352\n"
      "running test=0 dump_id=02 done=30 total=120 packets=7 relays=1 ms=1500\n"
      "live ok=1 error=0 relays=2 packets=60565 ms=30770\n");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_TRUE(parsed->running && parsed->live && !parsed->test);
  EXPECT_FALSE(parsed->running->test);
  EXPECT_EQ(Share(*parsed->running), "25 %");
  RunningStatus early;
  early.done_blocks = 9;
  EXPECT_EQ(Share(early), "9 blocks");
  const std::string table = StatusTable(*parsed);
  EXPECT_THAT(table, HasSubstr("a live dump is under way: 02, 25 %, 1.5 s"));
  EXPECT_THAT(table, HasSubstr("last live dump: good, 2 relays committed it, 30.7 s"));
  EXPECT_THAT(StatusJson(*parsed), HasSubstr("\"total_blocks\": 120"));
}

TEST(ArmStatusTest, ANewerModuleMaySayMore) {
  const auto parsed =
      ParseStatus("host state=armed colour=\"dark blue\" x\nweather rain=1\nnothing\n");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(parsed->armed);
}

TEST(ArmStatusTest, DamageIsRefused) {
  EXPECT_FALSE(ParseStatus("").ok());
  EXPECT_FALSE(ParseStatus("path index=0\n").ok());
  const auto open = ParseStatus("host state=\"armed\n");
  EXPECT_THAT(std::string(open.status().message()), HasSubstr("quote that is not closed"));
}

TEST(ArmStatusTest, TheTableShowsWhoAnswersOnWhichPath) {
  const std::string table = StatusTable(*ParseStatus(kArmed));
  EXPECT_THAT(table, HasSubstr("armed"));
  EXPECT_THAT(table, HasSubstr("eth1 is down"));
  EXPECT_THAT(table, HasSubstr("relay one"));
  EXPECT_THAT(table, HasSubstr("1.2 s ago"));
  EXPECT_THAT(table, HasSubstr("never"));
  EXPECT_THAT(StatusTable(ArmStatus()), HasSubstr("disarmed"));
}

TEST(ArmStatusTest, TheTableNamesTheCardBelowAStackedDevice) {
  const std::string table = StatusTable(
      *ParseStatus("host state=armed\npath index=0 name=a device=bond0 card=eth1 up=1\n"));
  EXPECT_THAT(table, HasSubstr("bond0 by eth1"));
  EXPECT_THAT(StatusTable(*ParseStatus(kArmed)), ::testing::Not(HasSubstr(" by eth")));
}

TEST(ArmStatusTest, JsonIsWhole) {
  const auto json = nlohmann::json::parse(StatusJson(*ParseStatus(kArmed)));
  EXPECT_EQ(json["state"], "armed");
  EXPECT_EQ(json["relays"][0]["answered_ms_ago"]["a"], 1234);
  EXPECT_EQ(json["paths"].size(), 2u);
  EXPECT_EQ(json["relays"].size(), 1u);
  // A name that is no UTF-8 must not end the program.
  EXPECT_NO_THROW(
      (void)StatusJson(*ParseStatus("host state=armed\nrelay id=1 name=\"\xff\xfe\"\n")));
}

}  // namespace
}  // namespace dumpcast
