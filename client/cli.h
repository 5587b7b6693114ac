// SPDX-License-Identifier: Apache-2.0
// The command line of `dumpcast`: what main() calls, and tests.
#ifndef DUMPCAST_CLIENT_CLI_H_
#define DUMPCAST_CLIENT_CLI_H_

#include <string>
#include <vector>

#include "client/environment.h"
#include "client/exit_code.h"

namespace dumpcast {

// Parses `args` (without the program's name), runs the subcommand and prints errors to env.err.
// Throws nothing.
ExitCode RunCli(const std::vector<std::string>& args, const Environment& env);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_CLI_H_
