// SPDX-License-Identifier: Apache-2.0
#include "relay/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace dumpcast {
namespace {

constexpr absl::string_view kPrefix = "dumpcast_relay_";

// Counters of which each counted thing is in exactly one: one family, a label apart. counters.h has
// them side by side, and what they sum up to.
struct Group {
  Counter first, last;
  absl::string_view family, label, strip, text;
};
constexpr Group kGroups[] = {
    {Counter::kTruncated, Counter::kPeerPacket, "datagrams_total", "outcome", "",
     "Datagrams that came in, each by what became of it."},
    {Counter::kStored, Counter::kMismatch, "symbols_total", "outcome", "symbols_",
     "Symbols from hosts and peers, each by what became of it; their sum is datagrams_total of "
     "outcome symbols and symbols_peer_total."},
    {Counter::kInBlocks, Counter::kForgotten, "stored_symbols_total", "outcome", "stored_",
     "Symbols that were put into a block, by what became of the block; those of blocks "
     "incomplete or not decoded yet, waiting_symbols, make the sum symbols_total of outcome "
     "stored."},
};

const Group* GroupOf(Counter counter) {
  for (const Group& group : kGroups)
    if (counter >= group.first && counter <= group.last) return &group;
  return nullptr;
}

// The label's value of a counter in its group.
std::string ValueOf(const Group& group, Counter counter) {
  return std::string(absl::StripPrefix(std::string(CounterName(counter)), group.strip));
}

std::string Text(std::string_view text) {
  std::string sentence(text);
  sentence[0] = absl::ascii_toupper(static_cast<unsigned char>(sentence[0]));
  return absl::StrCat(sentence, ".");
}

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(absl::string_view name, std::string help, MetricType type) {
  MetricFamily family;
  family.name = absl::StrCat(kPrefix, name);
  family.help = std::move(help);
  family.type = type;
  return family;
}

void AddSample(MetricFamily* family, uint64_t value, absl::string_view label = "",
               absl::string_view label_value = "") {
  ClientMetric sample;
  if (!label.empty()) sample.label.push_back({std::string(label), std::string(label_value)});
  (family->type == MetricType::Counter ? sample.counter.value : sample.gauge.value) =
      static_cast<double>(value);
  family->metric.push_back(std::move(sample));
}

void AddCounters(const Counters& counters, std::vector<MetricFamily>* families) {
  for (const Group& group : kGroups) {
    MetricFamily family = Family(group.family, std::string(group.text), MetricType::Counter);
    for (auto i = static_cast<size_t>(group.first); i <= static_cast<size_t>(group.last); ++i) {
      const auto counter = static_cast<Counter>(i);
      AddSample(&family, counters[counter], group.label, ValueOf(group, counter));
    }
    families->push_back(std::move(family));
  }
  for (size_t i = 0; i < kCounterCount; ++i) {
    const auto counter = static_cast<Counter>(i);
    if (counter == Counter::kReceived || GroupOf(counter) != nullptr) continue;
    MetricFamily family = Family(absl::StrCat(std::string(CounterName(counter)), "_total"),
                                 Text(CounterText(counter)), MetricType::Counter);
    AddSample(&family, counters[counter]);
    families->push_back(std::move(family));
  }
}

class Collector final : public prometheus::Collectable {
 public:
  explicit Collector(std::function<RelayMetrics()> metrics) : metrics_(std::move(metrics)) {}
  std::vector<MetricFamily> Collect() const override { return MetricFamilies(metrics_()); }

 private:
  const std::function<RelayMetrics()> metrics_;
};

class Server final : public MetricsServer {
 public:
  Server(const std::string& address, std::function<RelayMetrics()> metrics)
      : collector_(std::make_shared<Collector>(std::move(metrics))), exposer_(address, 1) {
    exposer_.RegisterCollectable(collector_);
  }
  int port() const override { return exposer_.GetListeningPorts().at(0); }

 private:
  const std::shared_ptr<Collector> collector_;
  prometheus::Exposer exposer_;
};

}  // namespace

std::vector<MetricFamily> MetricFamilies(const RelayMetrics& m) {
  std::vector<MetricFamily> families;
  AddCounters(m.counters, &families);
  const auto add = [&families](absl::string_view name, std::string help, uint64_t value,
                               MetricType type = MetricType::Gauge) {
    families.push_back(Family(name, std::move(help), type));
    AddSample(&families.back(), value);
  };
  add("send_errors_total", "Replies to hosts that could not be sent.", m.send_errors,
      MetricType::Counter);
  add("waiting_symbols", "Symbols in incomplete blocks, and in blocks not decoded yet.",
      m.waiting_symbols);
  add("assembly_bytes", "Memory of incomplete blocks.", m.assembly_bytes);
  add("assembly_limit_bytes", "The most that incomplete blocks may take, --memory.",
      m.assembly_limit_bytes);
  add("store_queue_bytes", "Encodings that wait for the store.", m.store_queue_bytes);
  add("store_accepting", "1 while the store takes blocks, 0 while the disk is full or fails.",
      m.store_accepting ? 1 : 0);
  add("damaged_blocks", "Blocks that the disk has changed and no peer has given again.",
      m.damaged_blocks);
  add("healed_blocks_total", "Blocks that the disk had changed, taken again from peers.",
      m.blocks_healed, MetricType::Counter);
  add("pace_bytes_per_second", "What hosts are told to keep to, all together; 0 without a limit.",
      m.pace_bytes_per_second);
  add("socket_buffer_bytes", "Receive buffer of each socket, as the kernel gave it.",
      m.socket_buffer_bytes);
  MetricFamily dumps = Family("dumps", "Dumps that the relay knows, by state.", MetricType::Gauge);
  AddSample(&dumps, m.dumps_receiving, "state", "receiving");
  AddSample(&dumps, m.dumps_complete, "state", "complete");
  AddSample(&dumps, m.dumps_incomplete, "state", "incomplete");
  AddSample(&dumps, m.dumps_declined, "state", "declined");
  families.push_back(std::move(dumps));
  MetricFamily hosts =
      Family("hosts", "Hosts that the relay has heard, by state; lost: silent without a goodbye.",
             MetricType::Gauge);
  AddSample(&hosts, m.hosts_armed, "state", "armed");
  AddSample(&hosts, m.hosts_disarmed, "state", "disarmed");
  AddSample(&hosts, m.hosts_lost, "state", "lost");
  AddSample(&hosts, m.hosts_dumping, "state", "dumping");
  families.push_back(std::move(hosts));
  MetricFamily build = Family("build_info", "1; the label has the version.", MetricType::Gauge);
  AddSample(&build, 1, "version", DUMPCAST_VERSION);
  families.push_back(std::move(build));
  return families;
}

std::string MetricsPage() {
  std::string page =
      "# Metrics of a relay\n\nAt `http://RELAY:26212/metrics` (`--metrics`), in Prometheus's text "
      "format. Made by `dumpcast-relay --describe-metrics`;\nthe same counters are in the log by "
      "the "
      "names that they have in `relay/counters.h`.\n\n| series | type | what |\n|---|---|---|\n";
  for (const MetricFamily& family : MetricFamilies({})) {
    const bool counter = family.type == MetricType::Counter;
    absl::StrAppend(&page, "| `", family.name, "` | ", counter ? "counter" : "gauge", " | ",
                    family.help, " |\n");
    const Group* group = nullptr;
    for (const Group& candidate : kGroups)
      if (absl::StrCat(kPrefix, candidate.family) == family.name) group = &candidate;
    if (group == nullptr) continue;
    for (auto i = static_cast<size_t>(group->first); i <= static_cast<size_t>(group->last); ++i) {
      const auto counter = static_cast<Counter>(i);
      absl::StrAppend(&page, "| &nbsp;&nbsp;`", group->label, "=\"", ValueOf(*group, counter),
                      "\"` | | ", Text(CounterText(counter)), " |\n");
    }
  }
  return page;
}

absl::StatusOr<std::unique_ptr<MetricsServer>> StartMetricsServer(
    const std::string& address, std::function<RelayMetrics()> metrics) {
  try {  // prometheus-cpp reports by exception; none leaves this function
    return std::make_unique<Server>(address, std::move(metrics));
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(
        absl::StrCat("--metrics ", address, ": cannot listen there (", e.what(),
                     "): is another relay running, and is the address this machine's?"));
  }
}

}  // namespace dumpcast
