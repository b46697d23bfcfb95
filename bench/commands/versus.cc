// saccade versus: two programs timed in turn, and compared.
#include "bench/versus.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "bench/choices.h"
#include "bench/cli.h"
#include "bench/command.h"
#include "bench/commands/compare.h"
#include "bench/diff_limits.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
OLD and NEW are `saccade` programs, e.g. of two builds. Each cell is timed in
turns: both are started anew, set up, and sampled one beside the other. What
moves from run to run then moves both, or shows as scatter from turn to turn, so
that a few per cent are seen where two runs one after the other see nothing.

Without NEW this program is timed. The runs are kept in FOLDER/old and
FOLDER/new; `saccade diff` shows them again.

Examples:
  saccade versus ../before/build/release/saccade
  saccade versus old-saccade new-saccade --only 'softmax.*' -n 1k,4k -t 1
  saccade versus old-saccade --fail-on 'slower>3%'       for CI: exit 1
  saccade versus $(command -v saccade) --handicap 5%     what is found here?)";

struct Options {
  std::string old_program, new_program, handicap;
  std::vector<std::string> shown;  // as `saccade diff` takes them
  CompareOverrides cells;
};

// A path that a child process can be started from.
Result<std::string> Program(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::canonical(path, error);
  if (error || !std::filesystem::is_regular_file(absolute, error))
    return NotFound(fmt::format("{}: there is no such program", path));
  return absolute.string();
}

Result<VersusOptions> Read(const Options& o, const Host& host) {
  VersusOptions options;
  const std::string mine = o.new_program.empty() ? host.program : o.new_program;
  for (size_t i = 0; i < 2; ++i) {
    Result<std::string> program = Program(i == 0 ? o.old_program : mine);
    if (!program.ok()) return program.status();
    options.programs[i] = *program;
  }
  if (!o.handicap.empty()) {
    const Result<double> share = ParsePercent(o.handicap);
    if (!share.ok()) return Invalid("--handicap: " + share.status().message());
    options.handicap = *share;
  }
  Result<CompareOptions> cells = MakeCompareOptions(o.cells);
  if (!cells.ok()) return cells.status();
  options.cells = std::move(*cells);
  options.seed = o.cells.seed();
  return options;
}

int RunVersus(Options* o, const Invocation& call) {
  o->cells.command = CommandLine(call.arguments);
  o->cells.measures = "speed";
  if (o->cells.budget.empty()) o->cells.budget = "5m";
  if (!o->handicap.empty())
    o->cells.note +=
        fmt::format("{}every timed pass of B is held back by {}",
                    o->cells.note.empty() ? "" : "; ", o->handicap);
  const Result<VersusOptions> options = Read(*o, call.host);
  if (!options.ok()) return Complain(options.status(), call.host);
  const int code = Versus(*options, call.host);
  if (code != kExitOk) return code;
  std::vector<std::string> diff = {"diff"};
  for (const char* folder : kVersusFolders)
    diff.push_back(options->cells.out + "/" + folder);
  diff.insert(diff.end(), o->shown.begin(), o->shown.end());
  return RunCommand(diff, call.host);
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("OLD", o->old_program, "The program that is A")
      ->type_name(kFile)
      ->required();
  app.add_option("NEW", o->new_program, "The program that is B; this one")
      ->type_name(kFile);
  DeclareCellOptions(&app, &o->cells);
  app.add_option("--out", o->cells.out,
                 "Folder for both runs, new or without a run")
      ->type_name(kFolder);
  app.add_option("--handicap", o->handicap,
                 "Make each timed pass of B so much longer, 5%: to see what is "
                 "found here");
  const auto show = [&](const char* name, const char* about) {
    return app.add_option_function<std::string>(
        name,
        [o, name](const std::string& value) {
          o->shown.push_back(fmt::format("{}={}", name, value));
        },
        about);
  };
  show("--fail-on", "Limits that set the exit code, as of `saccade diff`");
  show("--same", "How near to 1 a whole interval must lie: 3%");
  TakesOneOf(show("--format", "How it is shown"), {"text", "markdown", "json"});
  app.add_flag_function(
      "--all", [o](int64_t) { o->shown.push_back("--all"); },
      "Show what is the same too");
  return [o](const Invocation& call) { return RunVersus(o.get(), call); };
}

}  // namespace

namespace commands {
const Command versus = {"versus", "Time two builds in turn and compare them",
                        kExamples, Declare};
}

}  // namespace saccade::bench
