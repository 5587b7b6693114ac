// SPDX-License-Identifier: Apache-2.0
#include "client/json.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/ascii.h"

namespace dumpcast {

std::string ToJson(const google::protobuf::Message& message, bool pretty) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = pretty;
  std::string out;
  // Fails only for google.protobuf.Any and times out of range; the latter are cut by the parser.
  if (!google::protobuf::util::MessageToJsonString(message, &out, options).ok()) return "{}";
  absl::StripTrailingAsciiWhitespace(&out);
  return out;
}

}  // namespace dumpcast
