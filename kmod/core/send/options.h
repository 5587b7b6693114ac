// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The command line of dumpcast-send: flags, DUMPCAST_ environment and a TOML file.
#ifndef DUMPCAST_KMOD_CORE_SEND_OPTIONS_H_
#define DUMPCAST_KMOD_CORE_SEND_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "kmod/core/send/memory_source.h"
#include "kmod/core/send/replay.h"
#include "kmod/core/send/udp_path.h"
#include "protos/keys/keys.h"

namespace dumpcast {

struct SendOptions {
  std::string file;
  std::string log_file;
  MemorySource::Format format = MemorySource::Format::kAuto;
  std::vector<UdpPathOptions> paths;
  ReplayOptions replay;
  bool unauthenticated = false;
  // Another host's vmcore (import.h); what is empty here is taken from the file.
  bool import = false;
  std::string host_id, dump_id, hostname;  // of an import, as they were given
  // Second sender: ids, keys of the host, level and, unless given, paths are in the vmcore.
  bool kdump = false;
  ClusterKeys keys;
  std::string key_boxes;  // stream KEYS, of those who may read the dump; empty: everybody
};

// What ParseSendOptions() made of the command line: options to run with, or an exit code
// when everything has been said (--help, --version: 0; a mistake: 2, told on stderr).
struct ParsedSendOptions {
  bool run = false;
  int exit_code = 0;
  SendOptions options;
};
ParsedSendOptions ParseSendOptions(int argc, const char* const* argv);

// The wire keys of the host that the configuration names, of the newest epoch of `keys`.
void UseHostKey(SendOptions* options);
// 32 hex digits, with or without dashes, to 16 bytes. Errors: kInvalidArgument.
[[nodiscard]] absl::Status ParseId(const std::string& hex, const std::string& what,
                                   uint8_t id[DCAST_ID_BYTES]);
// Payload bytes per symbol of an MTU: less IP, UDP and dumpcast headers, in eights.
uint16_t SymbolSizeForMtu(unsigned mtu, bool v6);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_OPTIONS_H_
