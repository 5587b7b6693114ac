// SPDX-License-Identifier: Apache-2.0
// Admission, and dumps of the log alone.
#include "relay/engine.h"

#include "gtest/gtest.h"
#include "tests/unit/relay/engine_double.h"

namespace dumpcast {
namespace {

// What a host was told last, DCAST_ADMIT_FULL when nothing.
dcast_admit Told(const EngineDouble& d, uint8_t dump) {
  dcast_admit admit{};
  for (const Reply& reply : d.replies) {
    dcast_hdr hdr;
    std::memcpy(&hdr, reply.payload.data(), sizeof(hdr));
    if (hdr.type == DCAST_ADMIT && hdr.dump_id[0] == dump)
      std::memcpy(&admit, reply.payload.data() + sizeof(hdr), sizeof(admit));
  }
  return admit;
}

// META of a dump whose crash has this signature.
void BeginDump(EngineDouble& d, uint8_t dump, uint8_t signature) {
  d.sender.dump = dump;
  d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
  d.Receive(d.sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, signature)[0]));
  d.Run(50 * kMillisecond);
}

TEST(EngineAdmissionTest, HostsAreToldWhatThePolicyIs) {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1, .concurrent = 1, .wait_ns = 20 * kSecond};
  EngineDouble d(config);
  BeginDump(d, 1, 7);
  EXPECT_GE(d.Replies(DCAST_ADMIT), 1u) << "a yes is said, since others may say no";
  BeginDump(d, 2, 7);
  EXPECT_EQ(Told(d, 2).verdict, dcast_to_le32(DCAST_ADMIT_LOG_ONLY));
  BeginDump(d, 3, 8);
  EXPECT_EQ(Told(d, 3).verdict, dcast_to_le32(DCAST_ADMIT_WAIT));
  EXPECT_NEAR(dcast_le32(Told(d, 3).wait_ms), 20000, 100);
  EXPECT_EQ(d.Events(Event::Kind::kAdmission), 2u);
  // The first falls silent: its place is free.
  for (int i = 0; i < 30; ++i) {
    d.Receive(d.sender.Announce(DCAST_ST_DUMPING));
    d.Run(100 * kMillisecond);
  }
  EXPECT_EQ(Told(d, 3).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
}

TEST(EngineAdmissionTest, LiveDumpsAreNotAskedAbout) {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1};
  EngineDouble d(config);
  BeginDump(d, 1, 7);
  d.sender.dump = 2;
  for (const std::string& packet :
       d.sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, 7)[0], DCAST_F_LIVE))
    d.Receive(packet);
  d.Run(kSecond);
  EXPECT_EQ(Told(d, 2).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
}

// Of signature 7, which another host's dump has used up.
EngineConfig LogOnlyConfig() {
  EngineConfig config = EngineDouble::Config();
  config.admission = {.full_dumps = 1};
  return config;
}

void UseUp(EngineDouble& d) {
  SenderDouble first;
  first.origin = 0x5e40;
  std::swap(first, d.sender);
  BeginDump(d, 0xfe, 7);
  d.Receive(d.sender.Announce(DCAST_ST_DONE));
  std::swap(first, d.sender);
  d.Run(5 * kSecond);
  d.replies.clear();
  d.ops.clear();
}

// All that comes of a host that sends the log only.
void SendLogAlone(EngineDouble& d, SenderDouble& sender) {
  d.Receive(sender.Announce(DCAST_ST_DUMPING));
  d.Receive(sender.Symbols(0, 0, SenderDouble::Class0Encodings(4, 7)[0]));
  d.Run(50 * kMillisecond);
  d.Receive(sender.Symbol(1, 0, SenderDouble::Page(0), 0));  // begun before the verdict
  d.Receive(sender.End(0, DCAST_END_LOG_ONLY));
}

TEST(EngineAdmissionTest, ALogAloneIsCommittedAndSealedAsWhatItIs) {
  EngineDouble d(LogOnlyConfig());
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(kSecond);
  EXPECT_GE(d.Replies(DCAST_COMMIT), 1u);
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u) << "neither PRESENCE nor memory is missing";
  EXPECT_EQ(d.View().missing, 0u);
  EXPECT_FALSE(d.View().sealed);
  d.Receive(d.sender.Announce(DCAST_ST_DONE));
  d.Run(5 * kSecond);
  EXPECT_TRUE(d.View().sealed);
  EXPECT_FALSE(d.View().complete);
  ASSERT_EQ(d.Ops(StoreOp::Kind::kSeal), 1u);
  EXPECT_NE(d.ops.back().reason.find("only the log was taken"), std::string::npos)
      << d.ops.back().reason;
  EXPECT_EQ(d.ops.back().committed_lanes, 0u) << "should more come, it is not committed";
}

TEST(EngineAdmissionTest, ALogAloneTakesNoPlaceOfADump) {
  EngineConfig config = LogOnlyConfig();
  config.max_dumps = 1;
  EngineDouble d(config);
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(300 * kMillisecond);
  ASSERT_EQ(d.Replies(DCAST_COMMIT), 1u);
  SenderDouble second;
  second.origin = 0x5e4e;
  second.dump = 0xcc;
  SendLogAlone(d, second);
  d.Run(300 * kMillisecond);
  EXPECT_EQ(d.Events(Event::Kind::kDumpBegun), 3u);
  EXPECT_EQ(d.Events(Event::Kind::kDeclined), 0u);
}

TEST(EngineAdmissionTest, ALogAloneBecomesAWholeDumpWhenAnotherRelayWantsIt) {
  EngineDouble d(LogOnlyConfig());
  UseUp(d);
  SendLogAlone(d, d.sender);
  d.Run(kSecond);
  const size_t commits = d.Replies(DCAST_COMMIT);
  EXPECT_GE(commits, 1u);
  d.Receive(d.sender.Symbol(1, 1, SenderDouble::Page(1), 0));
  d.Run(100 * kMillisecond);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), commits) << "it was of the log alone";
  EXPECT_EQ(d.Replies(DCAST_NAK), 0u) << "the walk goes on: nothing is missing yet";
  d.Receive(d.sender.End());
  d.Run(kSecond);
  EXPECT_EQ(d.Replies(DCAST_COMMIT), commits);
  EXPECT_GE(d.Replies(DCAST_NAK), 1u);
  d.ReceiveAll(4);
  d.Run(kSecond);
  EXPECT_TRUE(d.View().complete);
  EXPECT_GT(d.Replies(DCAST_COMMIT), commits);
}

TEST(EngineAdmissionTest, ARelayThatWantsItAllSaysSoAlsoToAHostThatHasSentItsLog) {
  EngineDouble d;
  SendLogAlone(d, d.sender);
  d.replies.clear();
  d.Run(kSecond);
  EXPECT_GE(d.Replies(DCAST_ADMIT), 2u);
  EXPECT_EQ(Told(d, d.sender.dump).verdict, dcast_to_le32(DCAST_ADMIT_FULL));
  EXPECT_EQ(d.Replies(DCAST_COMMIT), 0u);
}

}  // namespace
}  // namespace dumpcast
