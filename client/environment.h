// SPDX-License-Identifier: Apache-2.0
// Everything the client takes from its process: streams, terminal, variables, clock.
// main.cc fills it from the real process, tests from strings.
#ifndef DUMPCAST_CLIENT_ENVIRONMENT_H_
#define DUMPCAST_CLIENT_ENVIRONMENT_H_

#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "absl/time/time.h"

namespace dumpcast {

// Used by the thread that runs the command only. The streams must outlive it.
struct Environment {
  std::istream* in = nullptr;
  std::ostream* out = nullptr;
  std::ostream* err = nullptr;
  bool in_is_tty = false;
  bool out_is_tty = false;
  bool err_is_tty = false;
  // Width of the terminal in characters at this moment.
  std::function<int()> columns;
  // The variable's value; nullopt when it is not set.
  std::function<std::optional<std::string>(const std::string& name)> getenv;
  std::function<absl::Time()> now;
  std::function<void(absl::Duration)> sleep;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_ENVIRONMENT_H_
