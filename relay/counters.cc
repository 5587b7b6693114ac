// SPDX-License-Identifier: Apache-2.0
#include "relay/counters.h"

#include <iterator>

#include "absl/strings/str_cat.h"

namespace dumpcast {
namespace {

struct Row {
  std::string_view name, text;
};
constexpr Row kRows[] = {
#define DUMPCAST_COUNTER_ROW(id, name, text) {name, text},
    DUMPCAST_COUNTERS(DUMPCAST_COUNTER_ROW)
#undef DUMPCAST_COUNTER_ROW
};
static_assert(std::size(kRows) == kCounterCount);

uint64_t SumOf(const Counters& counters, Counter first, Counter last) {
  uint64_t sum = 0;
  for (size_t i = static_cast<size_t>(first); i <= static_cast<size_t>(last); ++i)
    sum += counters[static_cast<Counter>(i)];
  return sum;
}

std::string Compare(const char* what, uint64_t whole, uint64_t parts) {
  if (whole == parts) return "";
  return absl::StrCat(what, ": ", whole, ", but its parts sum to ", parts);
}

}  // namespace

std::string_view CounterName(Counter counter) {
  return kRows[static_cast<size_t>(counter)].name;
}
std::string_view CounterText(Counter counter) {
  return kRows[static_cast<size_t>(counter)].text;
}

std::string Counters::Check(uint64_t waiting_symbols) const {
  const Counters& c = *this;
  std::string bad = Compare("received", c[Counter::kReceived],
                            SumOf(c, Counter::kTruncated, Counter::kPeerPacket));
  if (bad.empty())
    bad = Compare("symbols and symbols_peer", c[Counter::kSymbol] + c[Counter::kSymbolsPeer],
                  SumOf(c, Counter::kStored, Counter::kMismatch));
  if (bad.empty())
    bad = Compare("symbols_stored", c[Counter::kStored],
                  SumOf(c, Counter::kInBlocks, Counter::kForgotten) + waiting_symbols);
  return bad;
}

std::string Counters::ToString() const {
  std::string out;
  for (size_t i = 0; i < kCounterCount; ++i) {
    if (values_[i] == 0) continue;
    if (!out.empty()) out += ' ';
    out.append(kRows[i].name).append("=").append(std::to_string(values_[i]));
  }
  return out;
}

}  // namespace dumpcast
