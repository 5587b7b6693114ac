// SPDX-License-Identifier: Apache-2.0
#include "relay/log.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/wrappers.pb.h>
#include <spdlog/formatter.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

constexpr char kTimePattern[] = "%Y-%m-%dT%H:%M:%S.%e%z";
// Between a message and its fields, already JSON, on their way to the formatter.
constexpr char kFields = '\x1f';
bool g_json = false;

// Quoted.
std::string JsonString(absl::string_view text) {
  google::protobuf::StringValue value;
  value.set_value(std::string(text));
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(value, &json).ok()) return "\"\"";
  return json;
}

class JsonFormatter final : public spdlog::formatter {
 public:
  JsonFormatter() : time_(kTimePattern, spdlog::pattern_time_type::local, "") {}
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    spdlog::memory_buf_t time;
    time_.format(line, time);
    const absl::string_view payload(line.payload.data(), line.payload.size());
    const size_t end = payload.find(kFields);
    const auto level = spdlog::level::to_string_view(line.level);
    const std::string json =
        absl::StrCat("{\"time\":\"", absl::string_view(time.data(), time.size()), "\",\"level\":\"",
                     absl::string_view(level.data(), level.size()),
                     "\",\"message\":", JsonString(payload.substr(0, end)),
                     end == payload.npos ? "" : payload.substr(end + 1), "}\n");
    out.append(json.data(), json.data() + json.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }

 private:
  spdlog::pattern_formatter time_;
};

struct EventWords {
  Event::Kind kind;
  const char* name;
  spdlog::level::level_enum level;
};
constexpr EventWords kEvents[] = {
    {Event::Kind::kHostArmed, "host_armed", spdlog::level::info},
    {Event::Kind::kHostRebooted, "host_rebooted", spdlog::level::info},
    {Event::Kind::kHostGoodbye, "host_goodbye", spdlog::level::info},
    {Event::Kind::kDumpBegun, "dump_begun", spdlog::level::info},
    {Event::Kind::kDumpResumed, "dump_resumed", spdlog::level::info},
    {Event::Kind::kClass0Held, "class0_held", spdlog::level::info},
    {Event::Kind::kSenderDone, "sender_done", spdlog::level::info},
    {Event::Kind::kSenderSilent, "sender_silent", spdlog::level::warn},
    {Event::Kind::kCommitted, "committed", spdlog::level::info},
    {Event::Kind::kAdmission, "admission", spdlog::level::info},
    {Event::Kind::kSealedComplete, "sealed_complete", spdlog::level::info},
    {Event::Kind::kSealedIncomplete, "sealed_incomplete", spdlog::level::warn},
    {Event::Kind::kDeclined, "declined", spdlog::level::warn},
    {Event::Kind::kDiskFull, "disk_full", spdlog::level::err},
    {Event::Kind::kDiskRoom, "disk_room", spdlog::level::info},
    {Event::Kind::kEndMismatch, "end_mismatch", spdlog::level::warn},
    {Event::Kind::kBadVersion, "bad_version", spdlog::level::err},
};

}  // namespace

void SetUpLog(const std::string& level, bool json) {
  g_json = json;
  auto logger = spdlog::stderr_color_mt("dumpcast-relay");
  if (json) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern(absl::StrCat(kTimePattern, " %^%l%$ %v"));
  }
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void LogAbout(spdlog::level::level_enum level, const DumpKey& about, const std::string& event,
              const std::string& message) {
  std::string line = message;
  const auto field = [&line](absl::string_view name, absl::string_view value) {
    if (g_json) {
      absl::StrAppend(&line, ",\"", name, "\":\"", value, "\"");
    } else {
      absl::StrAppend(&line, " ", name, "=", value);
    }
  };
  if (g_json) line.push_back(kFields);
  if (g_json && !event.empty()) field("event", event);
  if (about.dump_id != Id16{}) field("dump", ToHex(about.dump_id));
  if (about.host_id != Id16{}) field("host", ToHex(about.host_id));
  spdlog::log(level, "{}", line);
}

void LogEvent(const Event& event) {
  for (const EventWords& words : kEvents)
    if (words.kind == event.kind) return LogAbout(words.level, event.dump, words.name, event.text);
}

}  // namespace dumpcast
