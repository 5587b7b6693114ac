// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// dumpcast-send: replays a memory image as a dump over real sockets.
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "kmod/core/send/handover.h"
#include "kmod/core/send/import.h"
#include "kmod/core/send/options.h"
#include "kmod/core/send/page_filter.h"
#include "protos/keys/keys.h"

namespace {

constexpr int kExitCommitted = 0;
constexpr int kExitNotCommitted = 1;
constexpr int kExitUsage = 2;
constexpr int kExitNotArmed = 3;
constexpr unsigned kEverything = 31;  // dump level that leaves out the most

using dumpcast::Handover;
using dumpcast::MemorySource;
using dumpcast::PageFilter;
using dumpcast::SendOptions;

int Fail(const absl::Status& status) {
  std::cerr << "dumpcast-send: " << status.message() << "\n";
  return kExitUsage;
}

// Makes the source and the options those of the first sender.
absl::StatusOr<Handover> TakeOver(MemorySource* source, SendOptions* options) {
  auto filter =
      PageFilter::Create([source](uint64_t address, void* dst,
                                  size_t len) { return source->ReadPhysical(address, dst, len); },
                         source->stream(DCAST_STREAM_VMCOREINFO));
  if (!filter.ok()) return filter.status();
  source->SetFilter(*std::move(filter), kEverything);
  auto handover = dumpcast::FindHandover(*source, options->keys);
  if (!handover.ok()) return handover.status();
  source->SetDumpLevel(handover->record.dump_level);
  if (handover->begun()) {
    const absl::Status status = source->TakeStreams(handover->record.meta, handover->streams);
    if (!status.ok()) return status;
  } else {
    dcast_meta meta = handover->record.meta;
    meta.crash_unix_ns = source->meta().crash_unix_ns;
    meta.cpus = source->meta().cpus;
    source->SetMeta(meta);
  }
  if (handover->secrets.encrypted) {
    source->SetKeyBoxes(handover->streams[DCAST_STREAM_KEYS]);
    options->replay.secrets = handover->secrets;
  }
  options->replay.secrets.wire = handover->secrets.wire;
  source->LeaveOut(dcast_le64(handover->record.secrets_paddr) >> handover->record.page_shift);
  dcast_config& config = options->replay.config;
  dumpcast::ApplyHandover(*handover, &config, &options->paths);
  for (auto& path : options->paths) path.packet_bytes = sizeof(dcast_hdr) + config.symbol_size;
  // Relays that answered before and are silent now are not there; one that was never heard may
  // have no way back.
  if (handover->record.relays != 0) config.blind_passes = 0;
  return handover;
}

}  // namespace

int main(int argc, char** argv) {
  dumpcast::ParsedSendOptions parsed = dumpcast::ParseSendOptions(argc, argv);
  if (!parsed.run) return parsed.exit_code;
  SendOptions& options = parsed.options;

  auto source = MemorySource::Open(options.file, options.format);
  if (!source.ok()) return Fail(source.status());
  if (!options.log_file.empty()) {
    std::ifstream log(options.log_file, std::ios::binary);
    if (!log) return Fail(absl::NotFoundError("cannot read " + options.log_file));
    (*source)->SetLog({std::istreambuf_iterator<char>(log), {}});
  }
  (*source)->SetKeyBoxes(options.key_boxes);
  if (options.import) {
    const absl::Status status = dumpcast::ApplyImport(**source, &options);
    if (!status.ok()) return Fail(status);
    if ((*source)->incomplete())
      std::cerr << "dumpcast-send: " << options.file
                << " says that pages are missing: whoever wrote it had no room\n";
  }
  if (options.kdump) {
    const auto handover = TakeOver(source->get(), &options);
    if (!handover.ok()) {
      Fail(handover.status());
      return absl::IsNotFound(handover.status()) ? kExitNotArmed : kExitUsage;
    }
    if (!options.replay.quiet)
      std::cerr << "dumpcast-send: " << dumpcast::Describe(*handover) << "\n";
    if (handover->record.state == DCAST_HANDOVER_COMMITTED) return kExitCommitted;
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
