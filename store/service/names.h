// SPDX-License-Identifier: Apache-2.0
// Resource names: `hosts/{host_id}` and `hosts/{host_id}/dumps/{dump_id}`, ids as 32 hex digits.
#ifndef DUMPCAST_STORE_SERVICE_NAMES_H_
#define DUMPCAST_STORE_SERVICE_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/store.h"

namespace dumpcast {

// A parent: one host, or nullopt for all (`hosts/-` or empty).
// INVALID_ARGUMENT when it is neither.
absl::StatusOr<std::optional<Id16>> ParseParent(std::string_view parent);

// A full name. INVALID_ARGUMENT otherwise.
absl::StatusOr<DumpKey> ParseDumpName(std::string_view name);

// Finds the dump that a name means: a full name, or `hosts/-/dumps/{prefix}` (or with a host id)
// where exactly one dump that is not deleted has an id with this prefix. INVALID_ARGUMENT names the
// candidates of an ambiguous prefix; NOT_FOUND, also of a deleted dump.
absl::StatusOr<v1::DumpRecord> ResolveDump(const Store& store, std::string_view name);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_NAMES_H_
