// saccade completion: scripts by which shells complete our command lines. All
// is taken from the declared options, so that nothing is said twice.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "bench/choices.h"
#include "bench/cli.h"
#include "bench/command.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Examples:
  source <(saccade completion bash)
  saccade completion zsh >~/.zfunc/_saccade      with ~/.zfunc in fpath
  saccade completion fish >~/.config/fish/completions/saccade.fish)";

using Kind = Completion::Kind;

// In single quotes, as all three shells take it.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// With dashes: "-n", "--length".
std::vector<std::string> FlagsOf(const CLI::Option& option) {
  std::vector<std::string> flags;
  for (const std::string& s : option.get_snames()) flags.push_back("-" + s);
  for (const std::string& l : option.get_lnames()) flags.push_back("--" + l);
  return flags;
}

struct Shown {
  std::vector<std::string> flags;  // empty: what is no option
  std::string about;
  bool valued = false;
  Completion completion;
};

std::vector<Shown> OptionsOf(const CLI::App& command) {
  std::vector<Shown> options;
  for (const CLI::Option* o : command.get_options())
    if (!o->get_group().empty())  // else --help has it not either
      options.push_back({FlagsOf(*o), o->get_description(),
                         o->get_expected_max() > 0, CompletionOf(*o)});
  return options;
}

std::vector<const CLI::App*> CommandsOf(const CLI::App& app) {
  const auto all = app.get_subcommands([](const CLI::App*) { return true; });
  return {all.begin(), all.end()};
}

// What completes words that no option takes.
Completion PlainWords(const CLI::App& command) {
  for (const Shown& option : OptionsOf(command))
    if (option.flags.empty()) return option.completion;
  return {};
}

std::string BashAction(const Completion& completion) {
  switch (completion.kind) {
    case Kind::kFile:
      return "compgen_words -f";
    case Kind::kFolder:
      return "compgen_words -d";
    case Kind::kNames:
      return fmt::format(
          "{} -W {}", completion.list ? "compgen_list" : "compgen_words",
          Quoted(fmt::format("{}", fmt::join(completion.names, " "))));
    case Kind::kNothing:
      break;
  }
  return ":";
}

void PrintBash(const CLI::App& app, std::ostream& out) {
  // Names with a colon are never completed, so that bash may break words there.
  fmt::print(out, "{}",
             R"(# bash completion of saccade; made by `saccade completion bash`.
_saccade() {
  local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local command= word
  COMPREPLY=()
  if [[ $before == '=' ]]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  elif [[ $cur == '=' ]]; then
    cur=
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || { command=$word; break; }
  done
  compgen_words() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }
  # The last of a list; what stands before it stays.
  compgen_list() {
    local last=${cur##*,} head=
    [[ $cur == *,* ]] && head=${cur%,*},
    mapfile -t COMPREPLY < <(compgen "$@" -P "$head" -- "$last")
  }
  case "$command $before" in
)");
  for (const CLI::App* command : CommandsOf(app))
    for (const Shown& option : OptionsOf(*command)) {
      if (!option.valued || option.flags.empty()) continue;
      std::string pattern;
      for (const std::string& flag : option.flags)
        pattern += fmt::format("{}'{} {}'", pattern.empty() ? "" : "|",
                               command->get_name(), flag);
      fmt::print(out, "    {}) {}; return ;;\n", pattern,
                 BashAction(option.completion));
    }
  fmt::print(out, "  esac\n  case \"$command\" in\n");
  std::vector<std::string> names;
  for (const CLI::App* command : CommandsOf(app)) {
    names.push_back(command->get_name());
    std::vector<std::string> flags;
    for (const Shown& option : OptionsOf(*command))
      flags.insert(flags.end(), option.flags.begin(), option.flags.end());
    fmt::print(out,
               "    {}) if [[ $cur == -* ]]; then compgen_words -W '{}'; else "
               "{}; fi ;;\n",
               command->get_name(), fmt::join(flags, " "),
               BashAction(PlainWords(*command)));
  }
  fmt::print(out,
             "    '') compgen_words -W '{} --help --version' ;;\n  esac\n}}\n"
             "complete -F _saccade saccade\n",
             fmt::join(names, " "));
}

// For brackets and colons of _arguments, which mean something there.
std::string ZshText(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string ZshAction(const Completion& completion) {
  switch (completion.kind) {
    case Kind::kFile:
      return "_files";
    case Kind::kFolder:
      return "_files -/";
    case Kind::kNames:
      return fmt::format("{}compadd - {}", completion.list ? "_sequence " : "",
                         fmt::join(completion.names, " "));
    case Kind::kNothing:
      break;
  }
  return " ";
}

void PrintZsh(const CLI::App& app, std::ostream& out) {
  fmt::print(out, "{}", R"(#compdef saccade
# zsh completion of saccade; made by `saccade completion zsh`.
_saccade() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
)");
  for (const CLI::App* command : CommandsOf(app))
    fmt::print(out, "    {}\n",
               Quoted(command->get_name() + ":" + command->get_description()));
  fmt::print(out, "{}", R"(  )
  _arguments -C '--help[Print help]' '--version[Print the version]' \
    '1: :->command' '*:: :->arguments'
  case $state in
    command) _describe command commands ;;
    arguments)
      case $words[1] in
)");
  for (const CLI::App* command : CommandsOf(app)) {
    fmt::print(out, "        {})\n          _arguments -s",
               command->get_name());
    for (const Shown& option : OptionsOf(*command)) {
      const std::string takes =
          option.valued ? ":value:" + ZshAction(option.completion) : "";
      for (const std::string& flag : option.flags)
        fmt::print(out, " \\\n            {}",
                   Quoted(fmt::format(
                       "{}{}[{}]{}", flag,
                       option.valued && flag.starts_with("--") ? "=" : "",
                       ZshText(option.about), takes)));
      if (option.flags.empty())
        fmt::print(out, " \\\n            {}", Quoted("*" + takes));
    }
    fmt::print(out, "\n          ;;\n");
  }
  // Read from fpath it is the function's body, sourced it is not.
  fmt::print(out, "{}", R"(      esac
      ;;
  esac
}
if [[ $funcstack[1] == _saccade ]]; then
  _saccade "$@"
else
  compdef _saccade saccade
fi
)");
}

std::string FishAction(const Completion& completion) {
  switch (completion.kind) {
    case Kind::kFile:
      return " -r -F";
    case Kind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case Kind::kNames:
      return fmt::format(
          " -x -a {}",
          completion.list
              ? fmt::format("'(__fish_append , {})'",
                            fmt::join(completion.names, " "))
              : Quoted(fmt::format("{}", fmt::join(completion.names, " "))));
    case Kind::kNothing:
      break;
  }
  return " -x";
}

void PrintFish(const CLI::App& app, std::ostream& out) {
  fmt::print(out,
             "# fish completion of saccade; made by `saccade completion "
             "fish`.\ncomplete -c saccade -f\n");
  for (const CLI::App* command : CommandsOf(app))
    fmt::print(out,
               "complete -c saccade -n __fish_use_subcommand -a {} -d {}\n",
               command->get_name(), Quoted(command->get_description()));
  for (const CLI::App* command : CommandsOf(app)) {
    const std::string when =
        fmt::format("complete -c saccade -n '__fish_seen_subcommand_from {}'",
                    command->get_name());
    for (const Shown& option : OptionsOf(*command)) {
      std::string flags;
      for (const std::string& flag : option.flags)
        flags += flag.starts_with("--") ? " -l " + flag.substr(2)
                                        : " -s " + flag.substr(1);
      if (flags.empty() && option.completion.kind == Kind::kNothing) continue;
      fmt::print(out, "{}{}{} -d {}\n", when, flags,
                 option.valued ? FishAction(option.completion) : "",
                 Quoted(option.about));
    }
  }
}

Action Declare(CLI::App& app) {
  const auto shell = std::make_shared<std::string>();
  TakesOneOf(app.add_option("SHELL", *shell, "For which shell"),
             {"bash", "zsh", "fish"})
      ->required();
  return [shell](const Invocation& call) {
    const CommandLineParser parser = MakeParser();
    if (*shell == "bash") PrintBash(*parser.app, call.host.out);
    if (*shell == "zsh") PrintZsh(*parser.app, call.host.out);
    if (*shell == "fish") PrintFish(*parser.app, call.host.out);
    return kExitOk;
  };
}

}  // namespace

namespace commands {
const Command completion = {"completion",
                            "Print a script by which a shell completes",
                            kExamples, Declare};
}

}  // namespace saccade::bench
