// SPDX-License-Identifier: Apache-2.0
// Tells a person how far a live dump is.
#ifndef DUMPCAST_KMOD_ARM_PROGRESS_H_
#define DUMPCAST_KMOD_ARM_PROGRESS_H_

#include <iosfwd>
#include <thread>

#include "absl/synchronization/notification.h"
#include "kmod/arm/files.h"

namespace dumpcast {

// From construction to destruction a thread reads the module's status and writes a line of
// progress to out: every second over the last one on a terminal, else every 5 s. Signals are left
// to the other threads. out is not owned, and is the thread's alone meanwhile.
class Progress {
 public:
  Progress(const Files& files, std::ostream* out, bool terminal);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void Run();

  const Files files_;
  std::ostream* const out_;
  const bool terminal_;
  absl::Notification done_;
  std::thread thread_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_ARM_PROGRESS_H_
