// SPDX-License-Identifier: Apache-2.0
#include "client/cli.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/completion.h"
#include "client/config.h"
#include "client/servers.h"
#include "client/text.h"

namespace dumpcast {
namespace {

constexpr char kFooter[] = R"(Examples:
  dumpcast ls                                  the newest dumps
  dumpcast ls --host 'web*' --filter state=incomplete
  dumpcast log 3fa9 -n 40                      the last lines before the panic
  dumpcast get 3fa9                            fetch it as ELF, for crash and drgn
  dumpcast --server relay-0,relay-1 watch      live progress, from whichever answers

A dump is named by a prefix of its id, as git names commits. Servers come from --server, else
DUMPCAST_SERVER, else ~/.config/dumpcast/client.toml, else localhost:26211; the next is asked when
one is unreachable or does not know the dump.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 incomplete (--require-complete).)";

constexpr char kLsFooter[] = R"(Examples:
  dumpcast ls --filter 'state=incomplete AND kernel_release=6.1*'
  dumpcast ls --by-signature            one bad roll-out is one line
  dumpcast ls --filter 'crash_time>2026-01-31T00:00:00Z' -o json | jq -r '.[].dump_id'

Fields for --filter: state (receiving, complete, incomplete), hostname, host_id, kernel_release,
signature, live, test with = and !=, a * at the end matches any rest; crash_time also with < and >. AND joins.)";

constexpr char kImportFooter[] = R"(Examples:
  dumpcast import /var/crash/202611291204/dump.202611291204 --key-file cluster.key
  makedumpfile -F -l -d 31 /proc/vmcore | ssh keeper 'cat >x.flat && dumpcast import x.flat'

The same file is always the same dump: an import that was broken off is run again.)";

constexpr char kGetFooter[] = R"(Examples:
  dumpcast get 3fa9                     writes vmcore-HOST-ID.elf here
  dumpcast get 3fa9 -f kdump -O /var/crash/web1.kdump
  dumpcast get 3fa9 -O - | zstd > web1.elf.zst
  dumpcast get 3fa9 --identity ~/keys/dumps    an encrypted dump

Bytes go to FILE.part; a get that was broken off goes on at the same byte when it is run again.
Every chunk's checksum is verified. The file appears under its name only when it is whole and
on disk.)";

constexpr char kKeygenFooter[] = R"(Examples:
  dumpcast keygen                       writes ~/.config/dumpcast/identity, which get and log use
  dumpcast keygen -O /media/safe/dumps.identity

Standard output is the line for arm.toml of hosts whose dumps the identity shall open. It is not
secret; the file is. Without the file, or a copy of it, nobody can read those dumps.)";

constexpr char kWatchFooter[] = R"(Examples:
  dumpcast watch                                      everything, until interrupted
  dumpcast watch 3fa9 --until sealed --timeout 600    for scripts
  dumpcast watch --host web1 --until complete --timeout 600

--until ends with 0 once every dump that matches, and at least one, is sealed (or sealed complete).)";

// Everything that the parser fills.
struct CommandLine {
  ClientConfig flags;
  std::string config_path;
  std::string output = "table";
  double deadline_seconds = 10;
  double timeout_seconds = 0;
  std::string shell;
  LsOptions ls;
  ShowOptions show;
  LogOptions log;
  GetOptions get;
  KeygenOptions keygen;
  ImportOptions import;
  HostkeyOptions hostkey;
  WatchOptions watch;
  RmOptions rm;
};

// The choices are in the type's name already; the parser would print them twice.
CLI::Validator OneOf(const std::vector<std::string>& words) {
  return CLI::IsMember(words).description("");
}

void AddGlobals(CLI::App& app, CommandLine* line) {
  app.add_option("-s,--server", line->flags.servers,
                 "Relay to ask; several, separated by commas, are tried in order "
                 "[env DUMPCAST_SERVER; default localhost:26211]")
      ->delimiter(',')
      ->take_all()
      ->expected(1)
      ->type_name("HOST[:PORT]");
  app.add_option("-o,--output", line->output, "How to print")
      ->check(OneOf({"table", "json"}))
      ->type_name("table|json");
  app.add_flag("--tls", line->flags.tls.enabled, "Use TLS, with the system's CAs unless --ca");
  app.add_option("--ca", line->flags.tls.ca_path, "PEM file of the CAs that sign relays")
      ->type_name("FILE");
  app.add_option("--cert", line->flags.tls.cert_path, "PEM certificate of this client")
      ->type_name("FILE");
  app.add_option("--key", line->flags.tls.key_path, "PEM key of --cert")->type_name("FILE");
  app.add_option("--tls-name", line->flags.tls.server_name,
                 "Name that a relay's certificate must carry, instead of its address")
      ->type_name("NAME");
  app.add_option("--config", line->config_path,
                 "Configuration file [env DUMPCAST_CONFIG; default ~/.config/dumpcast/client.toml]")
      ->type_name("FILE");
  app.add_option("--deadline", line->deadline_seconds,
                 "Seconds that one relay has to answer before the next is asked [10]")
      ->check(CLI::Range(0.1, 3600.0).description(""))
      ->type_name("SECONDS");
}

void AddId(CLI::App* command, std::string* id) {
  command->add_option("ID", *id, "Dump id, or the beginning of one")->required()->type_name("");
}

void AddHostAndFilter(CLI::App* command, std::string* host, std::string* filter) {
  command->add_option("--host", *host, "Dumps of this host: name, name*, or host id")
      ->type_name("HOST");
  command->add_option("--filter", *filter, "Conditions, joined by AND")->type_name("EXPR");
}

void AddRequireComplete(CLI::App* command, bool* flag) {
  command->add_flag("--require-complete", *flag, "Exit with 4 when the dump is not complete");
}

void AddIdentity(CLI::App* command, std::string* path) {
  command
      ->add_option("--identity", *path,
                   "Identity file that opens encrypted dumps [env DUMPCAST_IDENTITY; default "
                   "~/.config/dumpcast/identity]")
      ->type_name("FILE");
}

void AddCommands(CLI::App& app, CommandLine* line) {
  CLI::App* ls = app.add_subcommand("ls", "List dumps, newest first");
  AddHostAndFilter(ls, &line->ls.host, &line->ls.filter);
  ls->add_flag("-a,--all", line->ls.all, "All of them, not the newest 50");
  ls->add_option("-n,--limit", line->ls.limit, "At most so many")
      ->check(CLI::Range(1, 1000000).description(""))
      ->type_name("N")
      ->excludes("--all");
  ls->add_flag("--full-ids", line->ls.full_ids, "Whole dump ids");
  ls->add_flag("-q,--quiet", line->ls.quiet, "Dump ids only, one a line");
  ls->add_flag("--by-signature", line->ls.by_signature,
               "One line for all dumps of one crash signature, with counts")
      ->excludes("--quiet");
  ls->footer(kLsFooter);

  CLI::App* show = app.add_subcommand("show", "Show all that is known of a dump");
  AddId(show, &line->show.id);
  AddRequireComplete(show, &line->show.require_complete);

  CLI::App* log = app.add_subcommand("log", "Print the kernel log of a dump");
  AddId(log, &line->log.id);
  log->add_option("-n,--lines", line->log.lines, "Only the last N lines")
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->type_name("N");
  AddIdentity(log, &line->flags.identity);

  CLI::App* get = app.add_subcommand("get", "Fetch a dump as a vmcore file");
  AddId(get, &line->get.id);
  get->add_option("-f,--format", line->get.format, "elf, or kdump: kdump-compressed [elf]")
      ->check(OneOf({"elf", "kdump"}))
      ->type_name("elf|kdump");
  get->add_option("-O,--output-file", line->get.path,
                  "File or folder to write, - for standard output [vmcore-HOST-ID.FORMAT]")
      ->type_name("FILE");
  get->add_flag("--force", line->get.force, "Replace FILE when it exists");
  get->add_flag("-q,--quiet", line->get.quiet, "No progress");
  get->add_option("--retries", line->get.retries,
                  "Rounds over all servers without progress before giving up [5]")
      ->check(CLI::Range(0, 1000000).description(""))
      ->type_name("N");
  AddRequireComplete(get, &line->get.require_complete);
  AddIdentity(get, &line->flags.identity);
  get->footer(kGetFooter);

  CLI::App* watch = app.add_subcommand("watch", "Follow dumps as they arrive");
  watch->add_option("ID", line->watch.id, "Dump id, or the beginning of one")->type_name("");
  AddHostAndFilter(watch, &line->watch.host, &line->watch.filter);
  watch->add_option("--until", line->watch.until, "End when sealed, or when sealed complete")
      ->check(OneOf({"sealed", "complete"}))
      ->type_name("sealed|complete");
  watch->add_option("--timeout", line->timeout_seconds, "End after so long; failure with --until")
      ->check(CLI::Range(0.001, 1e9).description(""))
      ->type_name("SECONDS");
  AddRequireComplete(watch, &line->watch.require_complete);
  watch->footer(kWatchFooter);

  app.add_subcommand("hosts", "List hosts: armed, disarmed, lost, dumping");

  CLI::App* rm = app.add_subcommand("rm", "Delete dumps on every relay, for ever");
  rm->add_option("ID", line->rm.ids, "Dump ids, or their beginnings")->required()->type_name("");
  rm->add_flag("-y,--yes", line->rm.yes, "Do not ask");
  rm->add_flag("--force", line->rm.force, "Also dumps that are being received");

  CLI::App* import =
      app.add_subcommand("import", "Send a vmcore file to the relays as a dump of its host");
  import
      ->add_option("FILE", line->import.file,
                   "ELF or kdump-compressed, also flattened: from kdump, makedumpfile, virsh dump")
      ->required()
      ->type_name("");
  import
      ->add_option("--key-file", line->import.key_file,
                   "Cluster key, or that of the host [env DUMPCAST_KEY_FILE]")
      ->type_name("FILE");
  import->add_option("--hostname", line->import.hostname, "The host's name [as the file has it]")
      ->type_name("NAME");
  import->add_option("--host-id", line->import.host_id, "32 hex digits [made of the name]")
      ->type_name("ID");
  import
      ->add_option("--log-file", line->import.log_file,
                   "The kernel log as text, so that relays see it at once")
      ->type_name("FILE");
  import
      ->add_option("--recipient", line->import.recipients,
                   "Encrypt it for this identity; may be repeated")
      ->type_name("KEY");
  import->add_option("--port", line->import.port, "UDP port of the relays [26210]")
      ->check(CLI::Range(1, 65535).description(""))
      ->type_name("N");
  import->add_flag("-q,--quiet", line->import.quiet, "Print errors only");
  import->footer(kImportFooter);

  CLI::App* keygen = app.add_subcommand("keygen", "Make an identity that opens encrypted dumps");
  keygen
      ->add_option("-O,--output-file", line->keygen.path,
                   "File to write [~/.config/dumpcast/identity]")
      ->type_name("FILE");
  keygen->add_flag("--force", line->keygen.force,
                   "Replace FILE when it exists: its dumps cannot be read any more");
  keygen->footer(kKeygenFooter);

  CLI::App* hostkey = app.add_subcommand("hostkey", "Derive a host's own key of a cluster key");
  hostkey->add_option("HOST_ID", line->hostkey.host_id, "The host's /etc/machine-id")
      ->required()
      ->type_name("");
  hostkey->add_option("--key-file", line->hostkey.key_file, "File with the cluster key")
      ->required()
      ->type_name("FILE");
  hostkey->add_option("--epoch", line->hostkey.epoch, "Of this epoch's key [the highest]")
      ->check(CLI::Range(1, 65535).description(""))
      ->type_name("N");

  CLI::App* completion = app.add_subcommand("completion", "Print shell completion");
  completion->add_option("SHELL", line->shell, "bash")
      ->required()
      ->check(OneOf({"bash"}))
      ->type_name("");
  completion->footer("Example:\n  source <(dumpcast completion bash)");
}

// Names the line's subcommand; exactly one was required.
absl::StatusOr<ExitCode> Dispatch(const CLI::App& app, const CommandLine& line,
                                  const Context& context) {
  if (app.got_subcommand("ls")) return RunLs(context, line.ls);
  if (app.got_subcommand("show")) return RunShow(context, line.show);
  if (app.got_subcommand("log")) return RunLog(context, line.log);
  if (app.got_subcommand("get")) return RunGet(context, line.get);
  if (app.got_subcommand("watch")) return RunWatch(context, line.watch);
  if (app.got_subcommand("rm")) return RunRm(context, line.rm);
  return RunHosts(context);
}

ExitCode Fail(const absl::Status& status, const Environment& env) {
  const std::string text(status.message());
  *env.err << "dumpcast: " << Printable(text, /*keep_lines=*/true) << "\n";
  return static_cast<ExitCode>(ExitCodeFor(status));
}

// Of a command that asks no server: a file that is missing is no dump that was not found.
ExitCode Local(const absl::StatusOr<ExitCode>& code, const Environment& env) {
  if (absl::IsNotFound(code.status())) {
    return Fail(absl::InvalidArgumentError(code.status().message()), env);
  }
  return code.ok() ? *code : Fail(code.status(), env);
}

ExitCode Run(const CLI::App& app, CommandLine* line, const Environment& env) {
  if (app.got_subcommand("completion")) {
    *env.out << BashCompletion(app);
    return kExitOk;
  }
  const bool json = line->output == "json";
  if (app.got_subcommand("keygen")) return Local(RunKeygen(env, json, line->keygen), env);
  if (app.got_subcommand("hostkey")) return Local(RunHostkey(env, line->hostkey), env);
  line->flags.deadline = absl::Seconds(line->deadline_seconds);
  if (line->timeout_seconds > 0) line->watch.timeout = absl::Seconds(line->timeout_seconds);
  auto config = LoadConfig(line->flags, line->config_path, env);
  if (!config.ok()) return Fail(config.status(), env);
  if (app.got_subcommand("import")) {
    return Local(RunImport(config->servers, line->import), env);
  }
  auto servers = Servers::Create(*config);
  if (!servers.ok()) return Fail(servers.status(), env);
  const Context context{
      .env = env, .servers = *servers, .json = json, .identity = config->identity};
  auto code = Dispatch(app, *line, context);
  if (!code.ok()) return Fail(code.status(), env);
  return *code;
}

// A list that was cut off by a full disk is no success.
ExitCode Flush(ExitCode code, const Environment& env) {
  env.out->flush();
  if (*env.out || code != kExitOk) return code;
  return Fail(absl::DataLossError("standard output did not take everything: full, or closed"), env);
}

}  // namespace

ExitCode RunCli(const std::vector<std::string>& args, const Environment& env) {
  CommandLine line;
  CLI::App app("Lists, shows and fetches memory dumps of crashed hosts from dumpcast relays.",
               "dumpcast");
  app.set_version_flag("--version", absl::StrCat("dumpcast ", DUMPCAST_VERSION));
  app.require_subcommand(1);
  app.fallthrough();  // global options are welcome behind the subcommand, too
  app.get_formatter()->column_width(34);
  app.footer(kFooter);
  AddGlobals(app, &line);
  AddCommands(app, &line);
  // The parser takes its arguments from the back.
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::Success& e) {
    app.exit(e, *env.out, *env.err);  // --help, --version
    return Flush(kExitOk, env);
  } catch (const CLI::ParseError& e) {
    *env.err << "dumpcast: " << e.what() << "\n"
             << "dumpcast: try `dumpcast";
    for (const CLI::App* command : app.get_subcommands()) *env.err << " " << command->get_name();
    *env.err << " --help`\n";
    return kExitUsage;
  }
  return Flush(Run(app, &line, env), env);
}

}  // namespace dumpcast
