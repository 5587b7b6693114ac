// SPDX-License-Identifier: Apache-2.0
// `dumpcast import`: a vmcore that exists already goes to the relays as a host's dump would, by
// dumpcast-send, so that all that relays do for a dump they do for this one.
#include <arpa/inet.h>
#include <netdb.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands.h"

extern char** environ;

namespace dumpcast {
namespace {

constexpr char kProgram[] = "dumpcast-send";

// The host of HOST:PORT, [V6]:PORT or HOST.
std::string HostOf(absl::string_view server) {
  const size_t colon = server.rfind(':');
  const bool v6 = !server.empty() && server[0] == '[';
  if (v6) return std::string(server.substr(1, server.find(']') - 1));
  return std::string(colon == absl::string_view::npos ? server : server.substr(0, colon));
}

// The address that packets go to: nobody looks names up while a dump is sent.
absl::StatusOr<std::string> RelayAddress(const std::string& server, uint32_t port) {
  const std::string host = HostOf(server);
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0)
    return absl::UnavailableError(absl::StrCat("cannot look up ", host, ": ", gai_strerror(error)));
  std::array<char, NI_MAXHOST> text{};
  const int error = getnameinfo(list->ai_addr, list->ai_addrlen, text.data(), text.size(), nullptr,
                                0, NI_NUMERICHOST);
  const bool v6 = list->ai_family == AF_INET6;
  freeaddrinfo(list);
  if (error != 0)
    return absl::UnavailableError(absl::StrCat("cannot use ", host, ": ", gai_strerror(error)));
  return absl::StrCat(v6 ? "[" : "", text.data(), v6 ? "]:" : ":", port);
}

// Beside this program, or else wherever PATH has it.
std::string Program() {
  std::array<char, PATH_MAX> self{};
  if (readlink("/proc/self/exe", self.data(), self.size() - 1) > 0) {
    std::string path(self.data());
    path.replace(path.rfind('/') + 1, std::string::npos, kProgram);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return kProgram;
}

absl::StatusOr<int> RunProgram(const std::string& program, std::vector<std::string> args) {
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  pid_t pid;
  if (const int error = posix_spawnp(&pid, program.c_str(), nullptr, nullptr, argv.data(), environ);
      error != 0)
    return absl::FailedPreconditionError(
        absl::StrCat("cannot run ", program, ", which import needs: ", std::strerror(error)));
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "waitpid");
  if (WIFSIGNALED(status))
    return absl::UnavailableError(
        absl::StrCat(program, " was ended by signal ", WTERMSIG(status),
                     "; run it again, what relays have is not sent twice"));
  return WEXITSTATUS(status);
}

}  // namespace

absl::StatusOr<ExitCode> RunImport(const std::vector<std::string>& servers,
                                   const ImportOptions& options) {
  if (access(options.file.c_str(), R_OK) != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read ", options.file, ": ", std::strerror(errno)));
  std::vector<std::string> args = {kProgram, "--import", "--file", options.file};
  for (const std::string& server : servers) {
    const auto relay = RelayAddress(server, options.port);
    if (!relay.ok()) return relay.status();
    args.insert(args.end(), {"--relay", *relay});
  }
  const auto add = [&args](const char* flag, const std::string& value) {
    if (!value.empty()) args.insert(args.end(), {flag, value});
  };
  add("--key-file", options.key_file);
  add("--hostname", options.hostname);
  add("--host-id", options.host_id);
  add("--log-file", options.log_file);
  for (const std::string& recipient : options.recipients) add("--recipient", recipient);
  if (options.quiet) args.emplace_back("--quiet");
  const auto code = RunProgram(options.program.empty() ? Program() : options.program, args);
  if (!code.ok()) return code.status();
  return *code == 0 ? kExitOk : *code == 2 ? kExitUsage : kExitFailure;
}

}  // namespace dumpcast
