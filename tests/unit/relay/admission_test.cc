// SPDX-License-Identifier: Apache-2.0
#include "relay/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

DumpKey Dump(uint8_t number) {
  DumpKey key;
  key.host_id.fill(0xaa);
  key.dump_id.fill(number);
  return key;
}

Admission::Signature Of(uint8_t kind) {
  Admission::Signature signature;
  signature.fill(kind);
  return signature;
}

TEST(AdmissionTest, BeyondTheLimitOfASignatureOnlyTheLog) {
  Admission admission({.full_dumps = 2, .window_ns = 100 * kSecond});
  EXPECT_EQ(admission.Ask(1, Dump(1), Of(1)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(2, Dump(2), Of(1)).verdict, DCAST_ADMIT_FULL);
  const Admission::Verdict third = admission.Ask(3, Dump(3), Of(1));
  EXPECT_EQ(third.verdict, DCAST_ADMIT_LOG_ONLY);
  EXPECT_THAT(third.why, HasSubstr("2 dumps of this signature came in full within 1m40s"));
  EXPECT_EQ(admission.Ask(3, Dump(4), Of(2)).verdict, DCAST_ADMIT_FULL) << "another signature";
  // Who was told keeps its answer.
  EXPECT_EQ(admission.Ask(4, Dump(1), Of(1)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(200 * kSecond, Dump(3), Of(1)).verdict, DCAST_ADMIT_LOG_ONLY);
  EXPECT_EQ(admission.Ask(200 * kSecond, Dump(5), Of(1)).verdict, DCAST_ADMIT_FULL) << "the window";
}

TEST(AdmissionTest, WithoutASignatureThereIsNoLimit) {
  Admission admission({.full_dumps = 1});
  for (uint8_t i = 1; i < 10; ++i)
    EXPECT_EQ(admission.Ask(i, Dump(i), Admission::Signature{}).verdict, DCAST_ADMIT_FULL);
}

TEST(AdmissionTest, NoLimitAtAll) {
  Admission admission({.full_dumps = 0});
  for (uint8_t i = 1; i < 100; ++i)
    EXPECT_EQ(admission.Ask(i, Dump(i), Of(1)).verdict, DCAST_ADMIT_FULL);
}

TEST(AdmissionTest, TooManyAtATimeWaitForTheirTurn) {
  Admission admission({.full_dumps = 0, .concurrent = 1, .waiting = 2, .wait_ns = 60 * kSecond});
  EXPECT_EQ(admission.Ask(0, Dump(1), Of(1)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(0, Dump(2), Of(2)).verdict, DCAST_ADMIT_WAIT);
  EXPECT_EQ(admission.Ask(kSecond, Dump(3), Of(3)).verdict, DCAST_ADMIT_WAIT);
  EXPECT_EQ(admission.Ask(kSecond, Dump(4), Of(4)).verdict, DCAST_ADMIT_LOG_ONLY)
      << "no room to wait";
  EXPECT_EQ(admission.Ask(2 * kSecond, Dump(2), Of(2)).wait_ns, 58 * kSecond);
  admission.Leave(Dump(1));
  EXPECT_EQ(admission.Ask(3 * kSecond, Dump(3), Of(3)).verdict, DCAST_ADMIT_WAIT) << "not its turn";
  EXPECT_EQ(admission.Ask(3 * kSecond, Dump(2), Of(2)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(4 * kSecond, Dump(3), Of(3)).verdict, DCAST_ADMIT_WAIT);
  // A wait that has expired is a yes: the sender does not wait for longer either.
  EXPECT_EQ(admission.Ask(61 * kSecond, Dump(3), Of(3)).verdict, DCAST_ADMIT_FULL);
}

TEST(AdmissionTest, WhoWaitsAndLeavesMakesRoom) {
  Admission admission({.full_dumps = 0, .concurrent = 1, .waiting = 1});
  admission.Ask(0, Dump(1), Of(1));
  EXPECT_EQ(admission.Ask(0, Dump(2), Of(2)).verdict, DCAST_ADMIT_WAIT);
  admission.Leave(Dump(2));
  EXPECT_EQ(admission.Ask(0, Dump(3), Of(3)).verdict, DCAST_ADMIT_WAIT);
  admission.Leave(Dump(1));
  admission.Leave(Dump(1));
  EXPECT_EQ(admission.Ask(0, Dump(3), Of(3)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(0, Dump(4), Of(4)).verdict, DCAST_ADMIT_WAIT) << "left twice counts once";
}

TEST(AdmissionTest, WaitedUntilTheSignatureHadEnough) {
  Admission admission({.full_dumps = 1, .concurrent = 1});
  EXPECT_EQ(admission.Ask(0, Dump(1), Of(1)).verdict, DCAST_ADMIT_FULL);
  EXPECT_EQ(admission.Ask(0, Dump(2), Of(2)).verdict, DCAST_ADMIT_WAIT);
  EXPECT_EQ(admission.Ask(0, Dump(3), Of(2)).verdict, DCAST_ADMIT_WAIT);
  admission.Leave(Dump(1));
  EXPECT_EQ(admission.Ask(1, Dump(2), Of(2)).verdict, DCAST_ADMIT_FULL);
  admission.Leave(Dump(2));
  EXPECT_EQ(admission.Ask(2, Dump(3), Of(2)).verdict, DCAST_ADMIT_LOG_ONLY);
}

TEST(AdmissionTest, FullDumpsFromBeforeCount) {
  Admission admission({.full_dumps = 2, .window_ns = 100 * kSecond});
  admission.Restore(50 * kSecond, Of(1));
  admission.Restore(10 * kSecond, Of(1));
  EXPECT_EQ(admission.Ask(60 * kSecond, Dump(1), Of(1)).verdict, DCAST_ADMIT_LOG_ONLY);
  EXPECT_EQ(admission.Ask(111 * kSecond, Dump(2), Of(1)).verdict, DCAST_ADMIT_FULL);
}

}  // namespace
}  // namespace dumpcast
