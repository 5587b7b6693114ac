// SPDX-License-Identifier: Apache-2.0
// The relay's log on stderr: lines of text, or JSON objects with the same words and fields.
#ifndef DUMPCAST_RELAY_LOG_H_
#define DUMPCAST_RELAY_LOG_H_

#include <spdlog/common.h>

#include <string>

#include "relay/packets.h"
#include "store/ids.h"

namespace dumpcast {

// From now on spdlog's default logger. Once, before any thread.
//   text:  2026-11-29T20:31:34.123+00:00 info MESSAGE dump=HEX host=HEX
//   json:  {"time":"…","level":"info","message":"MESSAGE","event":"…","dump":"HEX","host":"HEX"}
void SetUpLog(const std::string& level, bool json);

// With the ids of what it is about, those that are not zero. `event` is a field of JSON alone;
// empty: none. Thread safety: any.
void LogAbout(spdlog::level::level_enum level, const DumpKey& about, const std::string& event,
              const std::string& message);
void LogEvent(const Event& event);

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_LOG_H_
