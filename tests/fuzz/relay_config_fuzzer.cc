// SPDX-License-Identifier: Apache-2.0
// relay.toml: whatever it says, it is taken or refused with a message and exit code 2.
#include <iostream>
#include <sstream>
#include <string>

#include "relay/options.h"
#include "relay/peer_names.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const dumpcast::MemoryFile file(data, size);
  const std::string path = file.path();
  const char* argv[] = {"dumpcast-relay", "--config", path.c_str()};
  std::ostringstream said;
  std::streambuf* const before = std::cerr.rdbuf(said.rdbuf());
  const auto parsed = dumpcast::ParseRelayOptions(3, argv, "");
  std::cerr.rdbuf(before);
  if (parsed.run == !said.str().empty()) __builtin_trap();
  if (!parsed.run && parsed.exit_code != 2) __builtin_trap();
  if (parsed.run) {
    const dumpcast::RelayOptions& o = parsed.options;
    if (o.port == 0 || o.lanes == 0 || o.lanes > 64 || o.memory_bytes < o.dump_memory_bytes ||
        o.silent_ns == 0 || o.seal_ns == 0)
      __builtin_trap();
    for (const std::string& peer : o.peers) (void)dumpcast::ParsePeer(peer, 1);
  }
  return 0;
}
