// SPDX-License-Identifier: Apache-2.0
#ifndef DUMPCAST_CLIENT_COMPLETION_H_
#define DUMPCAST_CLIENT_COMPLETION_H_

#include <CLI/App.hpp>
#include <string>

namespace dumpcast {

// A bash completion script for the options and subcommands of `app`. Dump ids are completed by
// asking the relays through `dumpcast ls -q` with a short deadline.
std::string BashCompletion(const CLI::App& app);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_COMPLETION_H_
