// SPDX-License-Identifier: Apache-2.0
#include "relay/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>

namespace dumpcast {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

double Value(const std::vector<prometheus::MetricFamily>& families, const std::string& name,
             const std::string& label = "") {
  for (const auto& family : families) {
    if (family.name != name) continue;
    for (const auto& sample : family.metric) {
      if (label.empty() ? !sample.label.empty()
                        : sample.label.empty() || sample.label[0].value != label)
        continue;
      return family.type == prometheus::MetricType::Counter ? sample.counter.value
                                                            : sample.gauge.value;
    }
  }
  return -1;
}

TEST(MetricsTest, EveryCounterIsThereOnce) {
  RelayMetrics metrics;
  double expected = 0;
  for (size_t i = 0; i < kCounterCount; ++i) {
    if (static_cast<Counter>(i) == Counter::kReceived) continue;  // the sum of its parts
    metrics.counters.Add(static_cast<Counter>(i), i + 1);
    expected += static_cast<double>(i + 1);
  }
  double sum = 0;
  for (const auto& family : MetricFamilies(metrics))
    if (family.type == prometheus::MetricType::Counter)
      for (const auto& sample : family.metric) sum += sample.counter.value;
  EXPECT_EQ(sum, expected);
}

TEST(MetricsTest, NamesFollowPrometheus) {
  std::set<std::string> names;
  for (const auto& family : MetricFamilies({})) {
    EXPECT_TRUE(names.insert(family.name).second) << family.name;
    EXPECT_THAT(family.name, StartsWith("dumpcast_relay_"));
    EXPECT_FALSE(family.help.empty()) << family.name;
    if (family.type == prometheus::MetricType::Counter) {
      EXPECT_THAT(family.name, EndsWith("_total"));
    }
  }
}

TEST(MetricsTest, GroupsAreLabels) {
  RelayMetrics metrics;
  metrics.counters.Add(Counter::kMac, 3);
  metrics.counters.Add(Counter::kDuplicate, 4);
  metrics.counters.Add(Counter::kBadDigest, 5);
  metrics.dumps_incomplete = 6;
  metrics.store_accepting = true;
  const auto families = MetricFamilies(metrics);
  EXPECT_EQ(Value(families, "dumpcast_relay_datagrams_total", "refused_mac"), 3);
  EXPECT_EQ(Value(families, "dumpcast_relay_symbols_total", "duplicate"), 4);
  EXPECT_EQ(Value(families, "dumpcast_relay_stored_symbols_total", "bad_digest"), 5);
  EXPECT_EQ(Value(families, "dumpcast_relay_dumps", "incomplete"), 6);
  EXPECT_EQ(Value(families, "dumpcast_relay_store_accepting"), 1);
}

TEST(MetricsTest, ThePageInDocsIsThatOfTheTable) {
  std::ifstream file(DUMPCAST_SOURCE_DIR "/docs/metrics.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(page, MetricsPage()) << "run: dumpcast-relay --describe-metrics > docs/metrics.md";
}

TEST(MetricsServerTest, AnAddressThatIsTakenIsSaid) {
  const auto first = StartMetricsServer("127.0.0.1:0", [] { return RelayMetrics{}; });
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  const auto second = StartMetricsServer(address, [] { return RelayMetrics{}; });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status().message(), HasSubstr(address));
}

}  // namespace
}  // namespace dumpcast
