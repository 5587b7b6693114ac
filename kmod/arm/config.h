// SPDX-License-Identifier: Apache-2.0
// /etc/dumpcast/arm.toml: what to arm a host with. arm.toml beside this file explains every key.
#ifndef DUMPCAST_KMOD_ARM_CONFIG_H_
#define DUMPCAST_KMOD_ARM_CONFIG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "protos/keys/end_to_end.h"

namespace dumpcast {

// One path: a network card and where it sends to.
struct PathConfig {
  std::string name;                       // unique; the device's name by default
  std::string device;                     // never empty
  std::vector<std::string> destinations;  // addresses: one group, or unicast relays
  int port = 26210;
  // Further attributes of the module's paths/<name>/, as given: source, source_port,
  // next_hop_mac, ttl.
  std::map<std::string, std::string> attributes;
};

struct ArmConfig {
  std::string key_file;               // empty: unauthenticated, with a warning
  std::vector<Recipient> recipients;  // who may read the dump; empty: everybody who gets it
  std::string host_id;                // empty: /etc/machine-id
  std::string hostname;               // empty: the kernel's
  std::string module;                 // path of dumpcast.ko; empty: modprobe finds it
  bool fix_kernel = false;
  // Seconds until the kernel reboots after a dump, set by fix_kernel when it is 0.
  int reboot_after_s = 10;
  // Attributes of the module's top folder, as given: dump_level, mode, lanes, commits, ...
  std::map<std::string, std::string> attributes;
  std::vector<PathConfig> paths;  // never empty
};

// Parses and checks the text of a configuration. `name` is used in messages.
// Errors: kInvalidArgument with name, line, what was wanted and what came.
[[nodiscard]] absl::StatusOr<ArmConfig> ParseArmConfig(absl::string_view text,
                                                       absl::string_view name);

// Reads and parses a file. Errors: as ParseArmConfig(), and kNotFound when there is none.
[[nodiscard]] absl::StatusOr<ArmConfig> LoadArmConfig(const std::string& path);

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_CONFIG_H_
