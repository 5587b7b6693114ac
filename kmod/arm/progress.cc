// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/progress.h"

#include <csignal>
#include <ostream>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "kmod/arm/arming.h"

namespace dumpcast {

Progress::Progress(const Files& files, std::ostream* out, bool terminal)
    : files_(files), out_(out), terminal_(terminal) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Progress::~Progress() {
  done_.Notify();
  thread_.join();
}

void Progress::Run() {
  bool told = false;
  while (!done_.WaitForNotificationWithTimeout(absl::Seconds(terminal_ ? 1 : 5))) {
    const absl::StatusOr<ArmStatus> status = ReadStatus(files_);
    if (!status.ok() || !status->running || status->running->test) continue;
    const RunningStatus& running = *status->running;
    const double mib = static_cast<double>(running.packets * status->symbol_bytes) / (1 << 20);
    const double seconds = static_cast<double>(running.ms) / 1000;
    *out_ << (terminal_ ? "\r" : "")
          << absl::StrFormat("%s: %s, %.0f s, %.1f MiB/s a path, %d relays have it all",
                             running.dump_id, Share(running), seconds,
                             seconds > 0 ? mib / seconds : 0, running.relays)
          << (terminal_ ? "  " : "\n") << std::flush;
    told = true;
  }
  if (told && terminal_) *out_ << "\n" << std::flush;
}

}  // namespace dumpcast
