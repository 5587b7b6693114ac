// SPDX-License-Identifier: Apache-2.0
// Text for people: sizes, ages, tables. What a crashed host sent is cleaned of control characters
// before it reaches a terminal.
#ifndef DUMPCAST_CLIENT_TEXT_H_
#define DUMPCAST_CLIENT_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace dumpcast {

// `text` with control characters, DEL and C1 controls (as UTF-8) replaced by '?', so that a host
// name or panic message cannot steer a terminal. Newlines and tabs stay when `keep_lines`.
std::string Printable(absl::string_view text, bool keep_lines = false);

// "0 B", "812 B", "1.4 MiB": three digits at most before the unit.
std::string HumanBytes(uint64_t bytes);

// "now", "12 s ago", "3 min ago", "5 h ago", "2 d ago"; "-" for InfinitePast().
std::string HumanAge(absl::Time then, absl::Time now);

// "0:07", "12:40", "1:02:03"; "-" for more than 99 hours.
std::string HumanDuration(absl::Duration duration);

// Characters that `text` takes on a terminal, counting one per UTF-8 code point.
size_t DisplayWidth(absl::string_view text);

// The first `width` characters, the last of them '~' when something was cut off.
std::string Truncate(absl::string_view text, size_t width);

// Left-aligned columns, two spaces apart, no trailing blanks.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  // As many cells as the header has. Cells are made Printable().
  void Add(std::vector<std::string> cells);
  // Lines end in '\n'. The last column is cut so that lines have at most `width` characters;
  // 0 means no limit.
  std::string Render(size_t width) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_TEXT_H_
