// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/cli.h"

#include <CLI/CLI.hpp>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "kmod/arm/arming.h"
#include "kmod/arm/checks.h"
#include "kmod/arm/config.h"
#include "kmod/arm/progress.h"
#include "kmod/arm/status.h"

namespace dumpcast {
namespace {

constexpr char kDescription[] =
    "Prepares this host to send its memory to relays when it crashes.\n\n"
    "`dumpcast-arm arm` loads the module and arms it from one TOML file; `status` shows the\n"
    "relays that answer; `test` proves the road with a small live dump.";
constexpr char kFooter[] =
    "Exit status: 0 done, 1 failed, 2 bad flags or configuration, 3 not armed,\n"
    "4 too few relays committed the test or live dump, 5 something keeps a dump from happening.";
// Heartbeats are seconds apart; the first goes out at once.
constexpr double kFirstAnswerSeconds = 0.2;
constexpr int kFirstAnswerTries = 15;
constexpr double kWatchSeconds = 5;

struct Options {
  std::string config_path = "/etc/dumpcast/arm.toml";
  std::string module;
  std::string output = "table";
  bool wait = false;
  bool fix = false;
  unsigned dump_level = 31;
  double rate_mib_s = 20;
};

int Fail(const ArmEnvironment& env, const absl::Status& status, int code = kArmFailed) {
  *env.err << "dumpcast-arm: " << status.message() << "\n";
  return code;
}

// The configuration with what the flags add; *code is the exit status when it is bad.
absl::StatusOr<ArmConfig> Configuration(const ArmEnvironment& env, const Options& options) {
  absl::StatusOr<ArmConfig> config = LoadArmConfig(env.files.Path(options.config_path));
  if (!config.ok()) return config;
  if (!options.module.empty()) config->module = options.module;
  if (options.fix) config->fix_kernel = true;
  return config;
}

const char* WeightName(Finding::Weight weight) {
  switch (weight) {
    case Finding::Weight::kBlocks:
      return "PROBLEM";
    case Finding::Weight::kWeaker:
      return "warning";
    default:
      return "advice";
  }
}

// Prints what is left after fixing; true when nothing keeps a dump from happening.
bool CheckKernel(const ArmEnvironment& env, const ArmConfig& config, bool advice) {
  std::vector<Finding> findings = FindProblems(env.files, config);
  if (config.fix_kernel) {
    for (const Finding& finding : findings) {
      if (!finding.path.empty())
        *env.err << "setting " << finding.path << " to " << finding.value << "\n";
    }
    const absl::Status status = ApplyFixes(env.files, findings);
    if (!status.ok()) *env.err << "dumpcast-arm: " << status.message() << "\n";
    findings = FindProblems(env.files, config);
  }
  bool good = true;
  for (const Finding& finding : findings) {
    if (finding.weight == Finding::Weight::kAdvice && !advice) continue;
    good &= finding.weight != Finding::Weight::kBlocks;
    *env.err << WeightName(finding.weight) << ": " << finding.what << "\n  fix: " << finding.fix
             << (finding.path.empty() ? "" : ", or dumpcast-arm arm --fix") << "\n";
  }
  return good;
}

absl::Status LoadAndArm(const ArmEnvironment& env, const ArmConfig& config) {
  absl::Status status = env.ensure_module(env.files, config.module);
  if (!status.ok()) return status;
  return Arm(env.files, config);
}

// Gives relays a moment to answer the first heartbeat, so that status has news.
ArmStatus FirstAnswers(const ArmEnvironment& env) {
  ArmStatus status;
  for (int i = 0; i < kFirstAnswerTries; i++) {
    if (!env.sleep(kFirstAnswerSeconds)) break;
    status = ReadStatus(env.files).value_or(ArmStatus());
    if (!status.relays.empty()) break;
  }
  return status;
}

// Keeps the host armed until the process is asked to end.
int Watch(const ArmEnvironment& env, const ArmConfig& config) {
  size_t relays = ~size_t{0};
  while (env.sleep(kWatchSeconds)) {
    const absl::StatusOr<ArmStatus> status = ReadStatus(env.files);
    if (!status.ok() || !status->armed) {
      const absl::Status armed = LoadAndArm(env, config);
      *env.err << (armed.ok() ? "armed again" : std::string(armed.message())) << "\n";
      continue;
    }
    if (status->relays.size() != relays) {
      relays = status->relays.size();
      *env.err << relays << " relays answer\n";
    }
  }
  return kArmOk;
}

int CommandArm(const ArmEnvironment& env, const Options& options) {
  const absl::StatusOr<ArmConfig> config = Configuration(env, options);
  if (!config.ok()) return Fail(env, config.status(), kArmUsage);
  CheckKernel(env, *config, /*advice=*/false);
  absl::Status status = LoadAndArm(env, *config);
  if (!status.ok() && !options.wait) return Fail(env, status);
  if (!status.ok()) *env.err << "dumpcast-arm: " << status.message() << "; trying again\n";
  if (status.ok()) *env.out << StatusTable(FirstAnswers(env)) << std::flush;
  return options.wait ? Watch(env, *config) : kArmOk;
}

int CommandCheck(const ArmEnvironment& env, const Options& options) {
  const absl::StatusOr<ArmConfig> config = Configuration(env, options);
  if (!config.ok()) return Fail(env, config.status(), kArmUsage);
  if (!config->key_file.empty()) {
    const auto keys = LoadKeyFile(env.files.Path(config->key_file));
    if (!keys.ok()) return Fail(env, keys.status(), kArmProblems);
  }
  if (const auto id = FindHostId(env.files, *config); !id.ok()) {
    return Fail(env, id.status(), kArmProblems);
  }
  if (!CheckKernel(env, *config, /*advice=*/true)) return kArmProblems;
  *env.out << "nothing keeps a dump from happening\n";
  return kArmOk;
}

int CommandStatus(const ArmEnvironment& env, const Options& options) {
  const absl::StatusOr<ArmStatus> status = ReadStatus(env.files);
  if (!status.ok()) return Fail(env, status.status());
  *env.out << (options.output == "json" ? StatusJson(*status) : StatusTable(*status));
  return status->armed ? kArmOk : kArmNotArmed;
}

int CommandDisarm(const ArmEnvironment& env) {
  const absl::Status status = Disarm(env.files);
  return status.ok() ? kArmOk : Fail(env, status);
}

// Says how a test or live dump (what) ended; sent is what asking for it returned.
int ReportSent(const ArmEnvironment& env, const char* what, const absl::Status& sent,
               std::optional<LiveResult> ArmStatus::*member) {
  if (absl::IsFailedPrecondition(sent)) return Fail(env, sent, kArmNotArmed);
  const absl::StatusOr<ArmStatus> status = ReadStatus(env.files);
  std::optional<LiveResult> result;
  if (status.ok()) result = *status.*member;
  if (sent.ok() && result) {
    *env.out << "the " << what << " dump is committed by " << result->relays
             << " relays: " << result->packets << " packets a path, " << result->ms << " ms\n";
    return kArmOk;
  }
  if (absl::IsDeadlineExceeded(sent)) {
    return Fail(env,
                absl::DeadlineExceededError(absl::StrCat(
                    "too few relays committed the ", what, " dump: ", result ? result->relays : 0,
                    "; `dumpcast-arm status` shows which of them answer")),
                kArmNoRelay);
  }
  if (absl::IsCancelled(sent)) {
    return Fail(env, absl::CancelledError(absl::StrCat(
                         "the ", what, " dump was ended early; relays keep what they have of it")));
  }
  return Fail(env, sent.ok() ? absl::InternalError("the module has no result of the dump") : sent);
}

int CommandTest(const ArmEnvironment& env) {
  return ReportSent(env, "test", SendTestDump(env.files), &ArmStatus::test);
}

int CommandDump(const ArmEnvironment& env, const Options& options) {
  absl::Status sent;
  {
    const Progress progress(env.files, env.err, env.terminal);
    sent = SendLiveDump(env.files, options.dump_level,
                        static_cast<uint64_t>(options.rate_mib_s * 1024));
  }
  return ReportSent(env, "live", sent, &ArmStatus::live);
}

}  // namespace

int RunArm(int argc, const char* const* argv, const ArmEnvironment& env) {
  Options options;
  CLI::App app(kDescription, "dumpcast-arm");
  app.footer(kFooter);
  app.set_help_all_flag("--help-all", "Print the help of every subcommand and exit");
  app.set_version_flag("--version", std::string("dumpcast-arm " DUMPCAST_VERSION));
  app.require_subcommand(1);
  app.add_option("--config", options.config_path, "the TOML file; arm.toml explains its keys")
      ->envname("DUMPCAST_ARM_CONFIG")
      ->capture_default_str();
  app.add_option("--module", options.module, "path of dumpcast.ko; by default modprobe finds it")
      ->envname("DUMPCAST_MODULE");

  CLI::App* arm = app.add_subcommand("arm", "load the module and arm; armed already: arm afresh");
  arm->add_flag("--wait", options.wait, "stay, and keep the host armed until SIGTERM");
  CLI::App* check = app.add_subcommand("check", "say what would keep a dump from happening");
  for (CLI::App* command : {arm, check}) {
    command->add_flag("--fix", options.fix,
                      "set panic_on_oops, panic_timeout and crash_kexec_post_notifiers");
    // Flags of the whole program are understood behind the command, too.
    command->fallthrough();
  }
  CLI::App* status = app.add_subcommand("status", "show paths, and the relays that answer on each");
  status->add_option("-o,--output", options.output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  CLI::App* disarm = app.add_subcommand("disarm", "say goodbye to the relays and let go");
  CLI::App* test = app.add_subcommand("test", "send a small live dump and wait for the commits");
  CLI::App* dump = app.add_subcommand(
      "dump", "send a live dump: the whole memory of the running host; Ctrl-C ends it");
  dump->add_option("--level", options.dump_level,
                   "pages to leave out, as dump_level in arm.toml: 1 zero, 2 cache, 4 private "
                   "cache, 8 user, 16 free")
      ->check(CLI::Range(0u, 31u))
      ->capture_default_str();
  dump->add_option("--rate", options.rate_mib_s,
                   "MiB/s on a path at most; 0: as fast as host, network and relays can")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  for (CLI::App* command : {status, disarm, test, dump}) command->fallthrough();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, *env.out, *env.err) == 0 ? kArmOk : kArmUsage;
  }
  if (arm->parsed()) return CommandArm(env, options);
  if (check->parsed()) return CommandCheck(env, options);
  if (status->parsed()) return CommandStatus(env, options);
  if (disarm->parsed()) return CommandDisarm(env);
  if (dump->parsed()) return CommandDump(env, options);
  return CommandTest(env);
}

}  // namespace dumpcast
