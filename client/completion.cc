// SPDX-License-Identifier: Apache-2.0
#include "client/completion.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace dumpcast {
namespace {

std::string OptionWords(const CLI::App& app) {
  std::vector<std::string> words;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    for (const std::string& name : option->get_snames()) words.push_back("-" + name);
  }
  return absl::StrJoin(words, " ");
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  std::vector<std::string> commands;
  std::string cases;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(command->get_name());
    absl::StrAppend(&cases, "    ", command->get_name(), ") words=\"", OptionWords(*command),
                    " $global\" ;;\n");
  }
  constexpr absl::string_view kScript = R"bash(# bash completion for dumpcast
_dumpcast() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  local command="" words i global="@GLOBAL@"
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " @COMMANDS@ " in
      *" ${COMP_WORDS[i]} "*) command="${COMP_WORDS[i]}"; break ;;
    esac
  done
  case "$before" in
    -o|--output) COMPREPLY=($(compgen -W "table json" -- "$word")); return ;;
    -f|--format) COMPREPLY=($(compgen -W "elf kdump" -- "$word")); return ;;
    --until) COMPREPLY=($(compgen -W "sealed complete" -- "$word")); return ;;
    -O|--output-file|--ca|--cert|--key|--config|--identity|--key-file|--log-file)
      COMPREPLY=($(compgen -f -- "$word")); return ;;
    --server|--host|--filter|--timeout|--deadline|--retries|--limit|-n|--lines|--tls-name|--epoch|--hostname|--host-id|--recipient|--port)
      return ;;
  esac
  case "$command" in
    "") words="@COMMANDS@ $global" ;;
@CASES@  esac
  case "$command:$word" in
    *:-*) ;;
    show:*|log:*|get:*|watch:*|rm:*)
      words="$(dumpcast ls -q --deadline 2 2>/dev/null)" ;;
    completion:*) words="bash" ;;
    import:*) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _dumpcast dumpcast
)bash";
  return absl::StrReplaceAll(kScript, {{"@GLOBAL@", OptionWords(app)},
                                       {"@COMMANDS@", absl::StrJoin(commands, " ")},
                                       {"@CASES@", cases}});
}

}  // namespace dumpcast
