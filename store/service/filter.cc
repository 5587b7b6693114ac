// SPDX-License-Identifier: Apache-2.0
#include "store/service/filter.h"

#include <array>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace dumpcast {
namespace {

constexpr size_t kMaxBytes = 4096;

std::string Shown(std::string_view text) {
  return absl::CEscape(absl::string_view(text.data(), text.size()));
}

absl::Status Wrong(size_t at, std::string_view wanted, std::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat("filter, at character ", at + 1, ": wanted ", Shown(wanted), ", got ",
                   got.empty() ? "the end" : "\"" + Shown(got) + "\""));
}

bool IsWordChar(char c) {
  return isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("_-.:*+~/").find(c) != std::string_view::npos;
}

bool CompareNumbers(int64_t have, int64_t want, bool less, bool greater, bool equal,
                    bool not_equal) {
  return (less && have < want) || (greater && have > want) || (equal && have == want) ||
         (not_equal && have != want);
}

}  // namespace

absl::Status DumpFilter::Compile(std::string_view field, std::string_view op, std::string value,
                                 size_t field_at, size_t at, Condition* condition) {
  static constexpr std::array<std::pair<std::string_view, Field>, 8> kFields = {{
      {"state", Field::kState},
      {"hostname", Field::kHostname},
      {"host_id", Field::kHostId},
      {"kernel_release", Field::kRelease},
      {"signature", Field::kSignature},
      {"live", Field::kLive},
      {"test", Field::kTest},
      {"crash_time", Field::kCrashTime},
  }};
  bool known = false;
  for (const auto& [name, id] : kFields) {
    if (name == field) {
      condition->field = id;
      known = true;
    }
  }
  if (!known) {
    return Wrong(field_at,
                 "a field (state, hostname, host_id, kernel_release, signature, live, test, "
                 "crash_time)",
                 field);
  }
  condition->op = op == "="    ? Op::kEqual
                  : op == "!=" ? Op::kNotEqual
                  : op == "<"  ? Op::kLess
                               : Op::kGreater;
  if ((condition->op == Op::kLess || condition->op == Op::kGreater) &&
      condition->field != Field::kCrashTime) {
    return Wrong(field_at,
                 absl::StrCat("= or != after ", std::string(field), " (< and > compare times)"),
                 op);
  }
  switch (condition->field) {
    case Field::kState:
      if (value == "receiving") {
        condition->number = v1::DUMP_STATE_RECEIVING;
      } else if (value == "complete") {
        condition->number = v1::DUMP_STATE_COMPLETE;
      } else if (value == "incomplete") {
        condition->number = v1::DUMP_STATE_INCOMPLETE;
      } else {
        return Wrong(at, "state receiving, complete or incomplete", value);
      }
      return absl::OkStatus();
    case Field::kLive:
    case Field::kTest:
      if (value != "true" && value != "false") return Wrong(at, "true or false", value);
      condition->number = value == "true" ? 1 : 0;
      return absl::OkStatus();
    case Field::kCrashTime: {
      absl::Time time;
      std::string error;
      if (!absl::ParseTime(absl::RFC3339_full, value, &time, &error)) {
        return Wrong(at, "a time like 2024-05-01T12:00:00Z (RFC 3339)", value);
      }
      condition->number = absl::ToUnixNanos(time);
      return absl::OkStatus();
    }
    case Field::kHostId:
    case Field::kSignature:
      value = absl::AsciiStrToLower(value);
      break;
    case Field::kHostname:
    case Field::kRelease:
      break;
  }
  condition->text = std::move(value);
  return absl::OkStatus();
}

absl::StatusOr<DumpFilter> DumpFilter::Parse(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: wanted at most ", kMaxBytes, " bytes, got ", text.size()));
  }
  DumpFilter filter;
  size_t at = 0;
  const auto skip_spaces = [&] {
    while (at < text.size() && isspace(static_cast<unsigned char>(text[at])) != 0) at++;
  };
  const auto word = [&] {
    const size_t start = at;
    while (at < text.size() && IsWordChar(text[at])) at++;
    return text.substr(start, at - start);
  };
  skip_spaces();
  if (at == text.size()) return filter;
  for (;;) {
    const size_t field_at = at;
    const std::string_view field = word();
    if (field.empty()) return Wrong(at, "a field name", text.substr(at, 1));
    skip_spaces();
    std::string_view op;
    for (std::string_view candidate : {"!=", "=", "<", ">"}) {
      if (op.empty() && text.substr(at).starts_with(candidate)) {
        op = text.substr(at, candidate.size());
      }
    }
    if (op.empty()) return Wrong(at, "=, !=, < or >", text.substr(at, 1));
    at += op.size();
    skip_spaces();
    const size_t value_at = at;
    std::string value;
    bool open_ended = false;
    const bool quoted = at < text.size() && (text[at] == '"' || text[at] == '\'');
    if (quoted) {
      const char quote = text[at++];
      for (; at < text.size() && text[at] != quote; at++) {
        if (text[at] == '\\' && at + 1 < text.size()) at++;
        value.push_back(text[at]);
      }
      if (at >= text.size()) return Wrong(at, "the closing quote", "");
      at++;
      // `"db 7"*` matches any rest, too; a star inside the quotes is itself.
      if (at < text.size() && text[at] == '*') {
        at++;
        open_ended = true;
      }
    } else {
      value = std::string(word());
      if (value.empty()) return Wrong(at, "a value", text.substr(at, 1));
      if (value.ends_with('*')) {
        value.pop_back();
        open_ended = true;
      }
    }
    Condition condition;
    absl::Status s = Compile(field, op, std::move(value), field_at, value_at, &condition);
    if (!s.ok()) return s;
    condition.prefix = open_ended;
    filter.conditions_.push_back(std::move(condition));
    skip_spaces();
    if (at == text.size()) return filter;
    const size_t and_at = at;
    const std::string_view conjunction = word();
    if (conjunction != "AND") return Wrong(and_at, "AND or the end", text.substr(and_at, 16));
    skip_spaces();
  }
}

bool DumpFilter::Matches(const v1::Dump& dump) const {
  for (const Condition& c : conditions_) {
    const auto number = [&](int64_t have) {
      return CompareNumbers(have, c.number, c.op == Op::kLess, c.op == Op::kGreater,
                            c.op == Op::kEqual, c.op == Op::kNotEqual);
    };
    const auto text = [&](const std::string& have) {
      const bool same = c.prefix ? std::string_view(have).starts_with(c.text) : have == c.text;
      return same == (c.op == Op::kEqual);
    };
    bool matches = false;
    switch (c.field) {
      case Field::kState:
        matches = number(dump.state());
        break;
      case Field::kHostname:
        matches = text(dump.hostname());
        break;
      case Field::kHostId:
        matches = text(dump.host_id());
        break;
      case Field::kRelease:
        matches = text(dump.kernel_release());
        break;
      case Field::kSignature:
        matches = text(dump.signature());
        break;
      case Field::kLive:
        matches = number(dump.live() ? 1 : 0);
        break;
      case Field::kTest:
        matches = number(dump.test() ? 1 : 0);
        break;
      case Field::kCrashTime:
        matches = dump.has_crash_time() &&
                  number(dump.crash_time().seconds() * 1'000'000'000 + dump.crash_time().nanos());
        break;
    }
    if (!matches) return false;
  }
  return true;
}

}  // namespace dumpcast
