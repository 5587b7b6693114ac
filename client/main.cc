// SPDX-License-Identifier: Apache-2.0
#include <sys/ioctl.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/time/clock.h"
#include "client/cli.h"

namespace {

int TerminalColumns() {
  for (const int fd : {STDERR_FILENO, STDOUT_FILENO}) {
    struct winsize size {};
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  }
  return 80;
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  // gRPC logs failed connections by itself; our errors name them already.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  dumpcast::Environment env;
  env.in = &std::cin;
  env.out = &std::cout;
  env.err = &std::cerr;
  env.in_is_tty = isatty(STDIN_FILENO) == 1;
  env.out_is_tty = isatty(STDOUT_FILENO) == 1;
  env.err_is_tty = isatty(STDERR_FILENO) == 1;
  env.columns = TerminalColumns;
  env.getenv = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
  env.now = absl::Now;
  env.sleep = absl::SleepFor;
  return dumpcast::RunCli({argv + 1, argv + argc}, env);
}
