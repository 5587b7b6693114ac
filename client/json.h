// SPDX-License-Identifier: Apache-2.0
// `-o json`: proto3 JSON of the messages in protos/dumpcast/v1 with the field names of the .proto
// files. Fields are always present; 64-bit integers are strings, as proto3 JSON has them;
// times are RFC 3339 and absent when unset.
#ifndef DUMPCAST_CLIENT_JSON_H_
#define DUMPCAST_CLIENT_JSON_H_

#include <google/protobuf/message.h>
#include <string>

namespace dumpcast {

// One object without a newline at its end; over several lines when `pretty`.
std::string ToJson(const google::protobuf::Message& message, bool pretty = false);

// An array with one element per line, newline at the end.
template <typename Messages>
std::string ToJsonArray(const Messages& messages) {
  std::string out = "[";
  for (const auto& message : messages) {
    out += out.size() > 1 ? ",\n " : "\n ";
    out += ToJson(message);
  }
  out += out.size() > 1 ? "\n]\n" : "]\n";
  return out;
}

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_JSON_H_
