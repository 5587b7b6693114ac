// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kmod/arm/status.h"

namespace dumpcast {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// The device that the path names, and the card that it leaves by when that is another.
std::string Device(const PathStatus& path) {
  if (path.card.empty() || path.card == "-" || path.card == path.device) return path.device;
  return absl::StrCat(path.device, " by ", path.card);
}

// Columns padded to their widest cell, two spaces apart.
std::string Table(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); i++) {
      absl::StrAppendFormat(&line, "%-*s  ", static_cast<int>(widths[i]), row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string Age(const RelayStatus& relay, uint64_t path) {
  const auto it = relay.heard_ms.find(path);
  if (it == relay.heard_ms.end()) return "never";
  return absl::StrFormat("%d.%d s ago", it->second / 1000, it->second % 1000 / 100);
}

std::string Pace(uint64_t kib_s) {
  if (kib_s == 0) return "any";
  return absl::StrFormat("%.1f MiB/s", static_cast<double>(kib_s) / 1024);
}

std::string State(const PathStatus& path) {
  if (!path.error.empty()) return path.error;
  return path.up ? "ready" : "not ready";
}

uint64_t Heard(const ArmStatus& status, uint64_t path) {
  uint64_t n = 0;
  for (const RelayStatus& relay : status.relays) n += relay.heard_ms.count(path);
  return n;
}

void AppendResult(absl::string_view what, const std::optional<LiveResult>& result,
                  std::string* out) {
  if (!result) return;
  absl::StrAppendFormat(out, "\nlast %s dump: %s, %d relays committed it, %d.%d s\n", what,
                        result->ok ? "good" : "failed", result->relays, result->ms / 1000,
                        result->ms % 1000 / 100);
}

nlohmann::json ResultJson(const LiveResult& result) {
  return {
      {"ok", result.ok}, {"relays", result.relays}, {"packets", result.packets}, {"ms", result.ms}};
}

}  // namespace

std::string Share(const RunningStatus& running) {
  if (running.total_blocks == 0) return absl::StrCat(running.done_blocks, " blocks");
  return absl::StrCat(running.done_blocks * 100 / running.total_blocks, " %");
}

std::string StatusTable(const ArmStatus& status) {
  if (!status.armed) return "disarmed: a crash would send nothing; `dumpcast-arm arm` arms\n";
  std::string out = absl::StrFormat(
      "armed: the next dump is %s; %.1f MiB held for it, %d MiB of memory to dump from\n\n",
      status.dump_id, static_cast<double>(status.held_bytes) / (1 << 20),
      status.memory_bytes >> 20);
  Rows paths = {{"PATH", "DEVICE", "FROM", "TO", "RELAYS", "STATE"}};
  for (const PathStatus& path : status.paths) {
    paths.push_back({path.name, Device(path), path.source, path.destination,
                     absl::StrCat(Heard(status, path.index)), State(path)});
  }
  absl::StrAppend(&out, Table(paths), "\n");
  if (status.relays.empty()) {
    absl::StrAppend(&out,
                    "no relay has answered yet: are relays up, with the same key file, and "
                    "does the network carry the group?\n");
  } else {
    Rows relays = {{"RELAY", "ID", "PACE"}};
    for (const PathStatus& path : status.paths) {
      relays[0].push_back(absl::StrCat("ANSWERED ON ", path.name));
    }
    for (const RelayStatus& relay : status.relays) {
      relays.push_back({relay.name, relay.id, Pace(relay.pace_kib_s)});
      for (const PathStatus& path : status.paths) {
        relays.back().push_back(Age(relay, path.index));
      }
    }
    absl::StrAppend(&out, Table(relays));
  }
  if (status.bad_mac != 0) {
    absl::StrAppend(&out, "\n", status.bad_mac,
                    " answers had a wrong MAC: relays and host have different keys\n");
  }
  if (status.running) {
    absl::StrAppendFormat(&out, "\na %s dump is under way: %s, %s, %d.%d s\n",
                          status.running->test ? "test" : "live", status.running->dump_id,
                          Share(*status.running), status.running->ms / 1000,
                          status.running->ms % 1000 / 100);
  }
  AppendResult("test", status.test, &out);
  AppendResult("live", status.live, &out);
  return out;
}

std::string StatusJson(const ArmStatus& status) {
  nlohmann::json json = {{"state", status.armed ? "armed" : "disarmed"}};
  if (status.armed) {
    json["dump_id"] = status.dump_id;
    json["held_bytes"] = status.held_bytes;
    json["memory_bytes"] = status.memory_bytes;
    json["symbol_bytes"] = status.symbol_bytes;
    json["bad_mac"] = status.bad_mac;
    json["bad_format"] = status.bad_format;
    json["paths"] = nlohmann::json::array();
    for (const PathStatus& path : status.paths) {
      json["paths"].push_back({{"name", path.name},
                               {"device", path.device},
                               {"card", path.card},
                               {"source", path.source},
                               {"destination", path.destination},
                               {"up", path.up},
                               {"next_hops", path.resolved},
                               {"ring_packets", path.ring_packets},
                               {"sent_packets", path.sent_packets},
                               {"send_errors", path.send_errors},
                               {"error", path.error}});
    }
    json["relays"] = nlohmann::json::array();
    for (const RelayStatus& relay : status.relays) {
      nlohmann::json ages = nlohmann::json::object();
      for (const PathStatus& path : status.paths) {
        const auto it = relay.heard_ms.find(path.index);
        if (it != relay.heard_ms.end()) ages[path.name] = it->second;
      }
      json["relays"].push_back({{"id", relay.id},
                                {"name", relay.name},
                                {"lane_mask", relay.lane_mask},
                                {"pace_kib_s", relay.pace_kib_s},
                                {"answered_ms_ago", ages}});
    }
    if (status.running) {
      json["running"] = {{"test", status.running->test},
                         {"dump_id", status.running->dump_id},
                         {"done_blocks", status.running->done_blocks},
                         {"total_blocks", status.running->total_blocks},
                         {"packets", status.running->packets},
                         {"relays", status.running->relays},
                         {"ms", status.running->ms}};
    }
    if (status.test) json["test"] = ResultJson(*status.test);
    if (status.live) json["live"] = ResultJson(*status.live);
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace dumpcast
