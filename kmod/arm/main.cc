// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <iostream>
#include <string>

#include "kmod/arm/cli.h"
#include "kmod/arm/loading.h"

namespace {

volatile std::sig_atomic_t g_asked_to_end = 0;

// Sleeps with the signals unblocked for just that long, so that none is missed in between.
bool SleepUnlessAsked(double seconds) {
  timespec wait{};
  wait.tv_sec = static_cast<time_t>(seconds);
  wait.tv_nsec = static_cast<long>((seconds - static_cast<double>(wait.tv_sec)) * 1e9);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  if (g_asked_to_end == 0 && sigtimedwait(&ends, nullptr, &wait) > 0) g_asked_to_end = 1;
  return g_asked_to_end == 0;
}

// A signal ends the write that it interrupts, not the process. Without SA_RESTART.
void InterruptWritesOnly() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_asked_to_end = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  // Of all commands `arm --wait` alone sleeps for long; `dump` gets a live dump ended cleanly.
  for (int i = 1; i < argc; i++) {
    if (std::string(argv[i]) == "dump") InterruptWritesOnly();
    if (std::string(argv[i]) != "--wait") continue;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, nullptr);
  }
  dumpcast::ArmEnvironment env;
  env.out = &std::cout;
  env.err = &std::cerr;
  env.ensure_module = dumpcast::EnsureModule;
  env.sleep = SleepUnlessAsked;
  env.terminal = isatty(STDERR_FILENO) != 0;
  return dumpcast::RunArm(argc, argv, env);
}
