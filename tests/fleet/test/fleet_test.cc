// SPDX-License-Identifier: Apache-2.0
// A small fleet: what must hold whatever happens in a large one. Seeds as in tests/sim.
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fleet/fleet.h"

namespace dumpcast {
namespace {

using testing::IsEmpty;

FleetOptions Small() {
  FleetOptions o;
  const char* seed = std::getenv("DUMPCAST_SIM_SEED");
  if (seed != nullptr) o.seed = std::strtoull(seed, nullptr, 10);
  o.hosts = 200;
  o.hosts_per_rack = 20;
  o.relays = 3;
  o.panics = 60;
  o.panic_window_ns = 10 * kSecond;
  o.die_ns = 3 * kSecond;
  o.back_ns = 12 * kSecond;
  return o;
}

TEST(Fleet, OfOneSignatureOnlyTheFirstAreTakenInFull) {
  const FleetOptions o = Small();
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  const FleetResult r = fleet.Result();
  EXPECT_GE(r.full, o.admission.full_dumps);
  EXPECT_EQ(r.full + r.log_only, o.panics);
}

TEST(Fleet, WithoutPolicyAllAreTakenInFull) {
  FleetOptions o = Small();
  o.admission.full_dumps = 0;
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  EXPECT_EQ(fleet.Result().full, o.panics);
  EXPECT_EQ(fleet.Result().copies_min, o.relays);
}

TEST(Fleet, SwitchLosesPackets) {
  FleetOptions o = Small();
  o.one_signature = false;
  o.loss = 0.05;
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  EXPECT_EQ(fleet.Result().full, o.panics);
  EXPECT_GT(fleet.Result().chance_losses, 0u);
}

TEST(Fleet, RelayDiesAndComesBack) {
  FleetOptions o = Small();
  o.one_signature = false;
  o.dying = 1;
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  EXPECT_EQ(fleet.Result().full, o.panics);
  EXPECT_EQ(fleet.Result().copies_min, o.relays)
      << "the relay that was away got them from its peers";
}

TEST(Fleet, MoreThanThePortsCarry) {
  FleetOptions o = Small();
  o.one_signature = false;
  o.panic_window_ns = kSecond;
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  EXPECT_EQ(fleet.Result().full, o.panics);
  EXPECT_GT(fleet.Result().port_drops, 0u);
}

TEST(Fleet, GroupsOfRelaysShareTheRacks) {
  FleetOptions o = Small();
  o.relays = 6;
  o.groups = 2;
  o.admission.full_dumps = 0;
  Fleet fleet(o);
  fleet.Run();
  EXPECT_THAT(fleet.Check(), IsEmpty());
  EXPECT_EQ(fleet.Result().full, o.panics);
  EXPECT_EQ(fleet.Result().copies_min, 3u);
  EXPECT_EQ(fleet.Result().copies_mean, 3.0);
}

}  // namespace
}  // namespace dumpcast
