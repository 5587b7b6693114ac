// SPDX-License-Identifier: Apache-2.0
#include "store/service/names.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace dumpcast {
namespace {

constexpr std::string_view kHosts = "hosts/";
constexpr std::string_view kDumps = "/dumps/";

std::string Shown(std::string_view text) {
  return absl::CEscape(absl::string_view(text.data(), std::min<size_t>(text.size(), 128)));
}

struct Parts {
  std::string_view host;
  std::string_view dump;
};

absl::StatusOr<Parts> Split(std::string_view name) {
  const size_t dumps = name.find(kDumps);
  if (!name.starts_with(kHosts) || dumps == std::string_view::npos || dumps < kHosts.size() ||
      name.find('/', dumps + kDumps.size()) != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name: wanted \"hosts/{host_id}/dumps/{dump_id}\", got \"", Shown(name), "\""));
  }
  return Parts{name.substr(kHosts.size(), dumps - kHosts.size()),
               name.substr(dumps + kDumps.size())};
}

absl::StatusOr<v1::DumpRecord> Alive(absl::StatusOr<v1::DumpRecord> record) {
  if (record.ok() && record->deleted()) {
    return absl::NotFoundError(absl::StrCat(
        KeyOf(*record).ResourceName(), " was deleted at ",
        absl::FormatTime(absl::FromUnixNanos(record->delete_unix_ns()), absl::UTCTimeZone())));
  }
  return record;
}

}  // namespace

absl::StatusOr<std::optional<Id16>> ParseParent(std::string_view parent) {
  if (parent.empty() || parent == "hosts/-") return std::nullopt;
  if (parent.starts_with(kHosts)) {
    absl::StatusOr<Id16> id = Id16FromHex(parent.substr(kHosts.size()));
    if (id.ok()) return *id;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("parent: wanted \"hosts/{host_id}\" with 32 hex digits, \"hosts/-\" or nothing, "
                   "got \"",
                   Shown(parent), "\""));
}

absl::StatusOr<DumpKey> ParseDumpName(std::string_view name) {
  const absl::StatusOr<Parts> parts = Split(name);
  if (!parts.ok()) return parts.status();
  const absl::StatusOr<Id16> host = Id16FromHex(parts->host);
  const absl::StatusOr<Id16> dump = Id16FromHex(parts->dump);
  if (!host.ok() || !dump.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name: wanted the full name with ids of 32 hex digits, got \"", Shown(name), "\""));
  }
  return DumpKey{*host, *dump};
}

absl::StatusOr<v1::DumpRecord> ResolveDump(const Store& store, std::string_view name) {
  if (const absl::StatusOr<DumpKey> key = ParseDumpName(name); key.ok()) {
    return Alive(store.GetDump(*key));
  }
  const absl::StatusOr<Parts> parts = Split(name);
  if (!parts.ok()) return parts.status();
  std::optional<Id16> host;
  if (parts->host != "-") {
    const absl::StatusOr<Id16> id = Id16FromHex(parts->host);
    if (!id.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "name: wanted a host id of 32 hex digits or \"-\", got \"", Shown(parts->host), "\""));
    }
    host = *id;
  }
  const std::string prefix =
      absl::AsciiStrToLower(absl::string_view(parts->dump.data(), parts->dump.size()));
  if (prefix.empty() || prefix.size() > 32 ||
      !std::all_of(prefix.begin(), prefix.end(), absl::ascii_isxdigit)) {
    return absl::InvalidArgumentError(
        absl::StrCat("name: wanted a dump id or the beginning of one, 1 to 32 hex digits, got \"",
                     Shown(parts->dump), "\""));
  }
  std::vector<v1::DumpRecord> found;
  for (v1::DumpRecord& record : store.ListDumps()) {
    const DumpKey key = KeyOf(record);
    if ((host && key.host_id != *host) || !ToHex(key.dump_id).starts_with(prefix)) continue;
    found.push_back(std::move(record));
  }
  std::vector<std::string> alive;
  for (const v1::DumpRecord& record : found) {
    if (!record.deleted()) alive.push_back(KeyOf(record).ResourceName());
  }
  if (alive.size() > 1) {
    alive.resize(std::min<size_t>(alive.size(), 5));
    return absl::InvalidArgumentError(absl::StrCat("name: \"", prefix,
                                                   "\" is the beginning of several dump ids, give "
                                                   "more digits: ",
                                                   absl::StrJoin(alive, ", ")));
  }
  for (v1::DumpRecord& record : found) {
    if (!record.deleted()) return std::move(record);
  }
  if (found.size() == 1) return Alive(std::move(found[0]));
  return absl::NotFoundError(
      absl::StrCat("no dump with an id that begins with \"", prefix, "\" is known here"));
}

}  // namespace dumpcast
