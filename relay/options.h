// SPDX-License-Identifier: Apache-2.0
// How a relay is told what to do: flags over environment over configuration file over defaults.
#ifndef DUMPCAST_RELAY_OPTIONS_H_
#define DUMPCAST_RELAY_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "relay/engine_config.h"

namespace dumpcast {

struct RelayOptions {
  std::string name;        // default: the machine's host name
  std::string store_path;  // default: see DefaultStorePath()
  uint64_t min_free_bytes = 1ull << 30;
  uint32_t scrub_mib_s = 4;  // 0: none
  std::string key_file;      // empty: unauthenticated

  std::string group = "239.192.68.67";  // lane 0; lane i is i higher. "none": no multicast
  std::string group6 = "ff08::4443";
  uint16_t port = 26210;
  uint32_t lanes = 4;                   // that hosts use
  uint64_t own_lanes = 0xf;             // mask of those that this relay joins; has lane 0
  std::vector<std::string> interfaces;  // empty: every one that can multicast
  uint64_t socket_buffer_bytes = 64ull << 20;

  std::vector<std::string> listen;  // gRPC; default: 0.0.0.0:26211
  std::string tls_cert, tls_key, tls_ca;
  std::vector<std::string> peers;  // host[:port]

  uint64_t memory_bytes = 256ull << 20;
  uint64_t dump_memory_bytes = 64ull << 20;
  uint32_t max_dumps = 256;
  AdmissionConfig admission;
  TimeNs silent_ns = 15 * kSecond;
  TimeNs seal_ns = 30 * kSecond;

  std::string log_level = "info";
  bool json_log = false;
  std::string metrics = "0.0.0.0:26212";  // "none": not served
  bool check_config = false;
  bool describe_metrics = false;
  bool configured = false;  // anything was given at all
};

// What ParseRelayOptions() made of the command line: options to run with, or an exit code when
// everything has been said (--help, --version: 0; a mistake: 2, told on stderr).
struct ParsedRelayOptions {
  bool run = false;
  int exit_code = 0;
  RelayOptions options;
};

// The configuration file is --config, else $DUMPCAST_CONFIG, else `default_config` when it exists.
ParsedRelayOptions ParseRelayOptions(int argc, const char* const* argv,
                                     const std::string& default_config);

// $XDG_STATE_HOME/dumpcast, else ~/.local/state/dumpcast; empty without a home.
std::string DefaultStorePath();

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_OPTIONS_H_
