// SPDX-License-Identifier: Apache-2.0
#include "relay/hosts.h"

#include <algorithm>
#include <cstring>

#include "gtest/gtest.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {
namespace {

using Announced = Hosts::Announced;

class HostsTest : public testing::Test {
 protected:
  // One ANNOUNCE of a boot, with the host's clock in seconds.
  Announced Hear(uint8_t boot, uint64_t unix_s, uint8_t state = DCAST_ST_ARMED,
                 const char* hostname = "double") {
    Verified packet;
    std::memset(packet.hdr.host_id, 0xaa, sizeof(packet.hdr.host_id));
    packet.hdr.path = path_;
    Hosts::Host& host = hosts_.Touch(now_, packet);
    dcast_announce announce{};
    std::memset(announce.boot_id, boot, sizeof(announce.boot_id));
    announce.unix_ns = dcast_to_le64(unix_s * kSecond);
    announce.interval_ms = dcast_to_le32(1000);
    announce.state = state;
    std::memcpy(announce.hostname, hostname, std::min(strlen(hostname), sizeof(announce.hostname)));
    return hosts_.NoteAnnounce(now_, host, announce, &record_);
  }
  const Hosts::Host& Known() const { return *hosts_.Find(SenderDouble::Dump().host_id); }

  Hosts hosts_;
  TimeNs now_ = 100 * kSecond;
  uint8_t path_ = 0;
  bool record_ = false;
};

TEST_F(HostsTest, FirstHeartbeatIsRecordedAndTheNextIsNot) {
  EXPECT_EQ(Hear(1, 1000), Announced::kArmed);
  EXPECT_TRUE(record_);
  now_ += kSecond;
  EXPECT_EQ(Hear(1, 1001), Announced::kSame);
  EXPECT_FALSE(record_);
  now_ += 60 * kSecond;
  EXPECT_EQ(Hear(1, 1061), Announced::kSame);
  EXPECT_TRUE(record_) << "so that `last heard` keeps up";
}

TEST_F(HostsTest, AChangedNameIsRecordedAtOnce) {
  Hear(1, 1000);
  EXPECT_EQ(Hear(1, 1001, DCAST_ST_ARMED, "renamed"), Announced::kSame);
  EXPECT_TRUE(record_);
  EXPECT_EQ(Known().hostname, "renamed");
}

TEST_F(HostsTest, ANameWithoutItsZeroEndsAtTheField) {
  const std::string longest(64, 'h');
  Hear(1, 1000, DCAST_ST_ARMED, longest.c_str());
  EXPECT_EQ(Known().hostname, longest);
}

TEST_F(HostsTest, GoodbyeIsToldOnceAndUndoneByAHeartbeat) {
  Hear(1, 1000);
  EXPECT_EQ(Hear(1, 1001, DCAST_ST_GOODBYE), Announced::kGoodbye);
  EXPECT_TRUE(Known().disarmed);
  EXPECT_EQ(Hear(1, 1001, DCAST_ST_GOODBYE), Announced::kSame);
  EXPECT_EQ(Hear(1, 1002), Announced::kArmed);
  EXPECT_FALSE(Known().disarmed);
}

TEST_F(HostsTest, AnOldGoodbyeIsAReplay) {
  Hear(1, 1000);
  EXPECT_EQ(Hear(1, 900, DCAST_ST_GOODBYE), Announced::kReplay);
  EXPECT_FALSE(Known().disarmed);
}

TEST_F(HostsTest, AFormerBootIsAReplay) {
  Hear(1, 1000);
  now_ += 60 * kSecond;
  EXPECT_EQ(Hear(2, 1060), Announced::kRebooted);
  EXPECT_EQ(Hear(1, 1000), Announced::kReplay);
  now_ += 3600 * kSecond;
  EXPECT_EQ(Hear(1, 1000), Announced::kReplay) << "also when the host is silent";
  EXPECT_EQ(Known().boot_id[0], 2);
}

// A relay that has just started has never heard the boots before.
TEST_F(HostsTest, ABootNeverHeardIsAReplayWhenItsClockIsOlder) {
  Hear(9, 5000);
  now_ += kSecond;
  EXPECT_EQ(Hear(3, 1000), Announced::kReplay);
  EXPECT_EQ(Hear(9, 5001), Announced::kSame) << "and the host itself is believed as before";
}

TEST_F(HostsTest, ReplayBeforeTheFirstHeartbeatDoesNotShutTheHostOut) {
  EXPECT_EQ(Hear(3, 1000), Announced::kArmed);  // nothing is known: it has to be believed
  EXPECT_EQ(Hear(9, 5000), Announced::kRebooted);
  EXPECT_EQ(Hear(3, 1000), Announced::kReplay);
  EXPECT_EQ(Hear(9, 5001), Announced::kSame);
}

TEST_F(HostsTest, ReplayWhileTheHostIsSilentDoesNotShutItOut) {
  Hear(9, 5000);
  now_ += 60 * kSecond;
  EXPECT_EQ(Hear(3, 1000), Announced::kRebooted);  // may be a host whose clock was lost
  EXPECT_EQ(Hear(9, 5060), Announced::kRebooted);
  EXPECT_EQ(Hear(3, 1000), Announced::kReplay);
  EXPECT_EQ(Known().boot_id[0], 9);
}

TEST_F(HostsTest, AHostThatBootsWithALostClockIsBelieved) {
  Hear(1, 5000);
  now_ += 60 * kSecond;
  EXPECT_EQ(Hear(2, 10), Announced::kRebooted);
  EXPECT_EQ(Hear(2, 11), Announced::kSame);
  EXPECT_EQ(Hear(2, 5070), Announced::kSame) << "the clock was set";
}

TEST_F(HostsTest, AClockThatIsSetBackWhileTheHostRunsIsNoReplay) {
  Hear(1, 5000);
  EXPECT_EQ(Hear(1, 1400), Announced::kSame);
}

TEST_F(HostsTest, PathsAreHeardForThreeIntervals) {
  Hear(1, 1000);
  path_ = 2;
  Hear(1, 1000);
  const Id16 id = SenderDouble::Dump().host_id;
  EXPECT_EQ(hosts_.PathsHeard(now_, id), 2u);
  now_ += 2 * kSecond;
  Hear(1, 1002);
  EXPECT_EQ(hosts_.PathsHeard(now_ + 1500 * kMillisecond, id), 1u);
  EXPECT_EQ(hosts_.PathsHeard(now_ + 3 * kSecond, id), 0u);
  EXPECT_EQ(hosts_.PathsHeard(now_, Id16{}), 0u);
}

TEST_F(HostsTest, TheHostUnheardForLongestIsForgotten) {
  Verified packet;
  for (uint32_t i = 0; i <= Hosts::kMaxHosts; ++i) {
    std::memcpy(packet.hdr.host_id, &i, sizeof(i));
    hosts_.Touch(i + 1, packet);
  }
  Id16 id{};
  EXPECT_EQ(hosts_.Find(id), nullptr);
  id[0] = 1;
  EXPECT_NE(hosts_.Find(id), nullptr);
}

TEST_F(HostsTest, BootsRememberedOverARestartTellReplays) {
  Id16 former, present;
  former.fill(1);
  present.fill(2);
  hosts_.Restore({SenderDouble::Dump().host_id, present, {former}, 2000 * kSecond});
  EXPECT_FALSE(Known().announced) << "only an ANNOUNCE arms a host";
  EXPECT_EQ(Hear(1, 1000), Announced::kReplay);
  EXPECT_EQ(Hear(2, 1999, DCAST_ST_GOODBYE), Announced::kReplay);
  EXPECT_EQ(Hear(2, 2001), Announced::kArmed);
  // A former boot that speaks now was wrongly taken for former.
  EXPECT_EQ(Hear(1, 3000), Announced::kRebooted);
  EXPECT_EQ(Hear(2, 2002), Announced::kReplay);
}

}  // namespace
}  // namespace dumpcast
