// SPDX-License-Identifier: Apache-2.0
// What Prometheus scrapes at /metrics. Every series is in one table, of which docs/metrics.md is
// made: the engine's counters (counters.h) and the gauges of this file.
#ifndef DUMPCAST_RELAY_METRICS_H_
#define DUMPCAST_RELAY_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/metric_family.h"
#include "relay/counters.h"

namespace dumpcast {

// A relay at one moment.
struct RelayMetrics {
  Counters counters;
  uint64_t waiting_symbols = 0;        // in incomplete blocks, and in those not decoded yet
  uint64_t assembly_bytes = 0;         // of incomplete blocks
  uint64_t assembly_limit_bytes = 0;   // --memory
  uint64_t store_queue_bytes = 0;      // encodings handed to the store and not yet put
  uint64_t pace_bytes_per_second = 0;  // what hosts are told to keep to; 0: no limit
  uint64_t socket_buffer_bytes = 0;    // of each socket, as the kernel gave it
  uint64_t send_errors = 0;            // replies that could not be sent
  bool store_accepting = false;
  uint64_t damaged_blocks = 0;  // that the disk has changed, and no peer has given again
  uint64_t blocks_healed = 0;   // the same, given again by peers
  uint64_t dumps_receiving = 0, dumps_complete = 0, dumps_incomplete = 0, dumps_declined = 0;
  uint64_t hosts_armed = 0, hosts_disarmed = 0, hosts_lost = 0, hosts_dumping = 0;
};

std::vector<prometheus::MetricFamily> MetricFamilies(const RelayMetrics& metrics);
// The table of all series as a page of Markdown.
std::string MetricsPage();

// Thread safety: `metrics` is called from threads of the server's own.
class MetricsServer {
 public:
  virtual ~MetricsServer() = default;
  virtual int port() const = 0;
};

// Serves http://ADDRESS/metrics, ADDRESS as in "0.0.0.0:26212" or "[::]:26212"; port 0 takes a free
// one. FAILED_PRECONDITION naming the address that cannot be bound.
absl::StatusOr<std::unique_ptr<MetricsServer>> StartMetricsServer(
    const std::string& address, std::function<RelayMetrics()> metrics);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_METRICS_H_
