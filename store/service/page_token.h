// SPDX-License-Identifier: Apache-2.0
// Page tokens: where the next page begins, bound to the query that they came from.
#ifndef DUMPCAST_STORE_SERVICE_PAGE_TOKEN_H_
#define DUMPCAST_STORE_SERVICE_PAGE_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dumpcast {

// `position` is the sort key of the last element shown; `query` is whatever must be the same in the
// next call (parent, filter). Tokens are opaque to callers and valid on every relay.
std::string MakePageToken(std::string_view position, std::string_view query);

// The position in a token; "" for no token. INVALID_ARGUMENT when it is damaged or of another
// query.
absl::StatusOr<std::string> ParsePageToken(std::string_view token, std::string_view query);

// The page size to use: 0 means 50, at most 1000. INVALID_ARGUMENT when negative.
absl::StatusOr<size_t> CheckPageSize(int wanted);

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_PAGE_TOKEN_H_
