#include "bench/cli.h"

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench/cell_server.h"
#include "bench/choices.h"
#include "bench/config_file.h"
#include "bench/memory.h"
#include "bench/plugins.h"
#include "nearest.h"
#include "saccade/version.h"

namespace saccade::bench {
namespace {

constexpr char kAbout[] =
    "Compares attention variants on this machine: speed, memory, length "
    "extrapolation.";

constexpr char kExamples[] = R"(
Examples:
  saccade list
  saccade list --probes
  saccade compare --profile quick --out my-run
  saccade compare --only 'softmax.*,linear.elu' --measure speed,memory
  saccade verify --only 'softmax.window'
  saccade report my-run -o my-report

Exit codes: 0 fine, 1 a regression found, 2 wrong usage or what cannot be read
or written, 3 a variant failed its check, 4 too noisy with --strict, 130
interrupted.)";

// ", did you mean --only?" for the first argument that nothing took.
std::string UnknownArgument(const CLI::App& app,
                            std::span<const std::string> arguments) {
  const CLI::App* command = &app;
  for (const CLI::App* sub : app.get_subcommands({}))
    if (!arguments.empty() && sub->get_name() == arguments[0]) command = sub;
  if (command == &app && !arguments.empty() && arguments[0][0] != '-') {
    std::vector<std::string_view> names;
    for (const CLI::App* sub : app.get_subcommands({}))
      names.push_back(sub->get_name());
    std::erase(names, std::string_view());
    return fmt::format("there is no command '{}'{}", arguments[0],
                       DidYouMean(arguments[0], names));
  }
  std::vector<std::string> names;
  for (const CLI::Option* option : command->get_options())
    for (const std::string& l : option->get_lnames()) names.push_back("--" + l);
  const std::vector<std::string_view> views(names.begin(), names.end());
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (!name.starts_with("--")) continue;
    if (std::find(names.begin(), names.end(), name) == names.end())
      return fmt::format("there is no option '{}'{}", name,
                         DidYouMean(name, views));
  }
  return {};
}

// What a child process of `compare` is asked for; see memory.h.
int MeasureMemory(std::span<const std::string> arguments, const Host& host) {
  // A run that is killed leaves nothing behind that works on.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  nlohmann::json answer;
  const Result<CellSpec> cell =
      CellFromJson(arguments.empty() ? "" : arguments[0]);
  const Result<int64_t> growth =
      cell.ok() ? MeasureGrowth(*cell, 1) : Result<int64_t>(cell.status());
  if (growth.ok()) {
    answer["rss_growth_bytes"] = *growth;
  } else {
    answer["error"] = growth.status().message();
  }
  fmt::print(host.out, "{}\n", answer.dump());
  host.out.flush();
  return growth.ok() ? kExitOk : kExitUsage;
}

}  // namespace

std::span<const Command* const> Commands() {
  static constexpr const Command* kCommands[] = {
#define SACCADE_COMMAND(name) &commands::name,
#include "bench/commands/commands.def"
#undef SACCADE_COMMAND
  };
  return kCommands;
}

int Complain(const Status& status, const Host& host) {
  Say(host, status.message());
  return kExitUsage;
}

void DeclareEverywhere(CLI::App* command) {
  command
      ->add_option("--config",
                   "Options from a TOML or INI file; what is typed wins")
      ->type_name(kFile)
      ->group(kEverywhere);
  command->add_flag("-q,--quiet")
      ->description("Say nothing but results and errors")
      ->group(kEverywhere);
  command->add_flag("-v,--verbose")
      ->description("Say each measurement as it is made")
      ->group(kEverywhere)
      ->excludes("--quiet");
}

CommandLineParser MakeParser() {
  CommandLineParser parser{std::make_unique<CLI::App>(kAbout, "saccade"), {}};
  CLI::App& app = *parser.app;
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", SACCADE_VERSION_TEXT);
  app.add_option("--plugin",
                 "Variants of your own: shared objects, see "
                 "tests/examples/plugin")
      ->delimiter(':')
      ->envname(kPluginVariable);
  for (const Command* command : Commands()) {
    CLI::App* const sub = app.add_subcommand(command->name, command->about);
    sub->footer(command->examples);
    parser.actions[command->name] = command->declare(*sub);
    DeclareEverywhere(sub);
  }
  return parser;
}

int RunCommand(std::span<const std::string> arguments, const Host& host) {
  if (!arguments.empty() && arguments[0] == kMemoryCommand) {
    const Status loaded = LoadPlugins(PluginsOfParent());
    return loaded.ok() ? MeasureMemory(arguments.subspan(1), host)
                       : Complain(loaded, host);
  }
  if (!arguments.empty() && arguments[0] == kServeCommand) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Status loaded = LoadPlugins(PluginsOfParent());
    if (!loaded.ok()) return Complain(loaded, host);
    ServeCells(std::cin, host.out, host.stop);
    return kExitOk;
  }
  const CommandLineParser parser = MakeParser();
  CLI::App& app = *parser.app;
  const Result<std::vector<std::string>> all = TakeConfig(app, arguments);
  if (!all.ok()) return Complain(all.status(), host);
  // CLI11 takes them from the back.
  std::vector<std::string> reversed(all->rbegin(), all->rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // --help, --version
      app.exit(e, host.out, host.err);
      return kExitOk;
    }
    const std::string unknown = UnknownArgument(app, arguments);
    std::string what = unknown.empty() ? e.what() : unknown;
    if (arguments.empty()) what = "say what to do";
    Say(host, what + "; see saccade --help");
    return kExitUsage;
  }
  const Status loaded = LoadPlugins(app.get_option("--plugin")->results());
  if (!loaded.ok()) return Complain(loaded, host);
  const CLI::App& chosen = *app.get_subcommands().front();
  Host mine = host;
  if (chosen.count("--quiet") > 0) mine.talk = Talk::kQuiet;
  if (chosen.count("--verbose") > 0) mine.talk = Talk::kVerbose;
  return parser.actions.at(chosen.get_name())({mine, *all, chosen});
}

}  // namespace saccade::bench
