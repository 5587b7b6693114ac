// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/status.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace dumpcast {
namespace {

using Words = std::map<std::string, std::string>;

// Splits `kind key=value key="value with spaces"`. False when a quote is not closed.
bool SplitLine(absl::string_view line, std::string* kind, Words* words) {
  const size_t space = line.find(' ');
  *kind = std::string(line.substr(0, space));
  line = space == absl::string_view::npos ? "" : line.substr(space + 1);
  while (!line.empty()) {
    const size_t equals = line.find('=');
    if (equals == absl::string_view::npos) return true;
    const std::string key(line.substr(0, equals));
    line.remove_prefix(equals + 1);
    size_t end = 0;
    if (absl::ConsumePrefix(&line, "\"")) {
      end = line.find('"');
      if (end == absl::string_view::npos) return false;
      (*words)[key] = std::string(line.substr(0, end));
      line.remove_prefix(end + 1);
    } else {
      end = line.find(' ');
      (*words)[key] = std::string(line.substr(0, end));
      line = end == absl::string_view::npos ? "" : line.substr(end);
    }
    while (absl::ConsumePrefix(&line, " ")) {
    }
  }
  return true;
}

uint64_t Number(const Words& words, const std::string& key, int base = 10) {
  uint64_t value = 0;
  const auto it = words.find(key);
  if (it == words.end()) return 0;
  if (base == 16) return absl::SimpleHexAtoi(it->second, &value) ? value : 0;
  return absl::SimpleAtoi(it->second, &value) ? value : 0;
}

std::string Text(const Words& words, const std::string& key) {
  const auto it = words.find(key);
  return it == words.end() ? "" : it->second;
}

void TakeHost(const Words& words, ArmStatus* status) {
  status->armed = Text(words, "state") == "armed";
  status->dump_id = Text(words, "dump_id");
  status->held_bytes = Number(words, "held_bytes");
  status->memory_bytes = Number(words, "memory_bytes");
  status->symbol_bytes = Number(words, "symbol_size");
  status->bad_mac = Number(words, "bad_mac");
  status->bad_format = Number(words, "bad_format");
}

PathStatus TakePath(const Words& words) {
  PathStatus path;
  path.index = Number(words, "index");
  path.name = Text(words, "name");
  path.device = Text(words, "device");
  path.card = Text(words, "card");
  path.source = Text(words, "source");
  path.destination = Text(words, "destination");
  path.up = Text(words, "up") == "1";
  path.resolved = Text(words, "resolved");
  path.ring_packets = Number(words, "ring");
  path.sent_packets = Number(words, "sent");
  path.send_errors = Number(words, "errors");
  path.error = Text(words, "error");
  return path;
}

RelayStatus TakeRelay(const Words& words) {
  RelayStatus relay;
  relay.id = Text(words, "id");
  relay.name = Text(words, "name");
  relay.lane_mask = Number(words, "lanes", 16);
  relay.pace_kib_s = Number(words, "pace_kib_s");
  for (const auto& [key, value] : words) {
    absl::string_view rest = key;
    uint64_t path = 0;
    if (absl::ConsumePrefix(&rest, "heard_ms.") && absl::SimpleAtoi(rest, &path)) {
      relay.heard_ms[path] = Number(words, key);
    }
  }
  return relay;
}

LiveResult TakeResult(const Words& words) {
  LiveResult result;
  result.ok = Text(words, "ok") == "1";
  if (!absl::SimpleAtoi(Text(words, "error"), &result.error)) result.error = 0;
  result.relays = Number(words, "relays");
  result.packets = Number(words, "packets");
  result.ms = Number(words, "ms");
  return result;
}

RunningStatus TakeRunning(const Words& words) {
  RunningStatus running;
  running.test = Text(words, "test") == "1";
  running.dump_id = Text(words, "dump_id");
  running.done_blocks = Number(words, "done");
  running.total_blocks = Number(words, "total");
  running.packets = Number(words, "packets");
  running.relays = Number(words, "relays");
  running.ms = Number(words, "ms");
  return running;
}

}  // namespace

absl::StatusOr<ArmStatus> ParseStatus(absl::string_view text) {
  ArmStatus status;
  bool host = false;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    std::string kind;
    Words words;
    if (!SplitLine(line, &kind, &words)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the module's status has a quote that is not closed: ", line));
    }
    if (kind == "host") {
      host = true;
      TakeHost(words, &status);
    } else if (kind == "path") {
      status.paths.push_back(TakePath(words));
    } else if (kind == "relay") {
      status.relays.push_back(TakeRelay(words));
    } else if (kind == "test") {
      status.test = TakeResult(words);
    } else if (kind == "live") {
      status.live = TakeResult(words);
    } else if (kind == "running") {
      status.running = TakeRunning(words);
    }
  }
  if (!host) {
    return absl::InvalidArgumentError(
        "the module's status has no line on the host: module and dumpcast-arm do not fit together");
  }
  return status;
}

}  // namespace dumpcast
