// SPDX-License-Identifier: Apache-2.0
#include <charconv>

#include "store/vmcore/dump_meta.h"

namespace dumpcast {
namespace {

// A whole number with nothing after it.
template <typename Number>
std::optional<uint64_t> Whole(std::string_view text, int base) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::optional<uint64_t> ParseNumber(std::optional<std::string_view> text, bool hex) {
  if (!text) return std::nullopt;
  if (text->starts_with("0x")) {
    text->remove_prefix(2);
    hex = true;
  }
  if (hex) return Whole<uint64_t>(*text, 16);
  if (const std::optional<uint64_t> value = Whole<uint64_t>(*text, 10)) return value;
  // NUMBER() is printed as a signed long: phys_base is negative on some hosts.
  return Whole<int64_t>(*text, 10);
}

std::string Quoted(std::string_view kind, std::string_view name) {
  std::string key(kind);
  key.append("(").append(name).append(")");
  return key;
}

}  // namespace

Vmcoreinfo Vmcoreinfo::Parse(std::string_view text) {
  Vmcoreinfo info;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    const size_t equals = line.find('=');
    if (equals != std::string_view::npos && equals != 0) {
      info.values_.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return info;
}

std::optional<std::string_view> Vmcoreinfo::Get(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return std::nullopt;
  return it->second;
}

std::optional<uint64_t> Vmcoreinfo::Symbol(std::string_view name) const {
  return ParseNumber(Get(Quoted("SYMBOL", name)), /*hex=*/true);
}

std::optional<uint64_t> Vmcoreinfo::Size(std::string_view name) const {
  return ParseNumber(Get(Quoted("SIZE", name)), /*hex=*/false);
}

std::optional<uint64_t> Vmcoreinfo::Offset(std::string_view field) const {
  return ParseNumber(Get(Quoted("OFFSET", field)), /*hex=*/false);
}

std::optional<uint64_t> Vmcoreinfo::Number(std::string_view name) const {
  return ParseNumber(Get(Quoted("NUMBER", name)), /*hex=*/false);
}

}  // namespace dumpcast
