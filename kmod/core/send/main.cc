// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// dumpcast-send: replays a memory image as a dump over real sockets.
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <vector>

#include "kmod/core/send/options.h"
#include "protos/keys/keys.h"

namespace {

constexpr int kExitCommitted = 0;
constexpr int kExitNotCommitted = 1;
constexpr int kExitUsage = 2;

int Fail(const absl::Status& status) {
  std::cerr << "dumpcast-send: " << status.message() << "\n";
  return kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  dumpcast::ParsedSendOptions parsed = dumpcast::ParseSendOptions(argc, argv);
  if (!parsed.run) return parsed.exit_code;
  dumpcast::SendOptions& options = parsed.options;

  auto source = dumpcast::MemorySource::Open(options.file, options.format);
  if (!source.ok()) return Fail(source.status());
  if (!options.log_file.empty()) {
    std::ifstream log(options.log_file, std::ios::binary);
    if (!log) return Fail(absl::NotFoundError("cannot read " + options.log_file));
    (*source)->SetLog({std::istreambuf_iterator<char>(log), {}});
  }
  std::vector<std::unique_ptr<dumpcast::UdpPath>> paths;
  for (dumpcast::UdpPathOptions& path_options : options.paths) {
    auto path = dumpcast::UdpPath::Open(std::move(path_options));
    if (!path.ok()) return Fail(path.status());
    paths.push_back(*std::move(path));
  }
  auto replay = dumpcast::Replay::Create(options.replay, source->get(), &paths);
  if (!replay.ok()) return Fail(replay.status());
  if (options.unauthenticated) {
    std::cerr << "dumpcast-send: WARNING: " << dumpcast::kUnauthenticatedWarning << "\n";
  }
  if ((*replay)->Run()) return kExitCommitted;
  std::cerr << "dumpcast-send: sent, but too few relays committed; look at the relays' logs, "
               "and whether UDP packets come back to this host\n";
  return kExitNotCommitted;
}
