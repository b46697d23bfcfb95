// saccade compare: the main job.
#include "bench/compare.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "bench/choices.h"
#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/commands/compare.h"
#include "bench/learn/protocols.h"
#include "bench/probes/probe.h"
#include "bench/profile.h"
#include "bench/resume.h"
#include "record/record.h"

namespace saccade::bench {
namespace {

std::vector<std::string_view> WithAll(std::vector<std::string_view> names) {
  names.push_back("all");
  return names;
}

}  // namespace

void DeclareCellOptions(CLI::App* c, CompareOverrides* o) {
  std::vector<std::string_view> profiles = NamesIn(BuiltInProfiles());
  profiles.push_back("PATH.json");
  c->add_option("--profile", o->profile, "What is measured, or a file of yours")
      ->type_name(fmt::format("{}", fmt::join(profiles, "|")))
      ->capture_default_str();
  c->add_option("--only", o->only,
                "Globs and spec strings, 'softmax.*,linear.elu'")
      ->type_name(kVariants);
  c->add_option("-n,--length", o->lengths,
                "Lengths in tokens: 256:16k:x2 or 1k,4k");
  c->add_option("-d,--dim", o->dims, "Widths of a head");
  c->add_option("--batch", o->batch, "Sequences")->check(CLI::Range(1, 4096));
  c->add_option("--heads", o->heads, "Query heads")->check(CLI::Range(1, 4096));
  c->add_option("--kv-heads", o->kv_heads, "Key and value heads")
      ->check(CLI::Range(1, 4096));
  TakesListOf(c->add_option("--dtype", o->dtypes, "How tensors are stored"),
              NamesOfAll(kDTypes));
  c->add_option("-t,--threads", o->threads, "Threads; 0 means all cores");
  TakesListOf(c->add_option("--pass", o->passes, "What is run"),
              NamesOfAll(kPasses));
  TakesListOf(c->add_option("--mask", o->masks, "Which keys a query may see"),
              NamesOfAll(kMasks));
  c->add_option("--budget", o->budget, "Time for all of it: 90s, 5m, 1h");
  c->add_option("--longest", o->longest,
                "Leave out passes that take longer: 0.5s, 10s");
  c->add_option("--save-models", o->save_models,
                "Folder for the models of text that are trained: `saccade "
                "generate` reads them")
      ->type_name(kFolder);
  c->add_option("--note", o->note,
                "A remark to show on the first page of its report");
  c->add_flag("--strict", o->strict,
              "Do not begin in noise; exit 4 when some came");
}

void DeclareCompareOptions(CLI::App* c, CompareOverrides* o) {
  DeclareCellOptions(c, o);
  TakesListOf(
      c->add_option("--measure", o->measures, "What is measured of them"),
      {std::begin(kMeasures), std::end(kMeasures)});
  TakesListOf(c->add_option("--probes", o->probes,
                            "Probes to train and read; see list --probes"),
              WithAll(NamesIn(Probes())));
  TakesListOf(
      c->add_option("--protocols", o->protocols, "How text is read at length"),
      WithAll(NamesIn(Protocols())));
  TakesListOf(c->add_option("--peers", o->peers,
                            "Others' implementations to time as well"),
              WithAll(PeerNames()));
  TakesListOf(c->add_option("--cache", o->cache,
                            "cold empties the caches before each sample"),
              {"warm", "cold"});
  c->add_option("--corpus", o->corpus,
                "Text files; the last one is tested on, of one the last tenth")
      ->type_name(kFile);
  c->add_option("--out", o->out,
                "Folder for the record and the report, new or without a run")
      ->type_name(kFolder);
  c->add_option("--resume", o->resume,
                "Folder of a run that was cut short: go on with it, as it was "
                "begun")
      ->type_name(kFolder);
  c->add_option("--seed", o->seeds,
                "Of training, one or a list: 1,2,3; the first also of other "
                "data")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1'000'000'000));
  c->add_option("--shard", o->shard,
                "Measure one part of all, 1/2 or 2/2: `saccade merge` puts "
                "them together");
  c->add_flag("--dry-run", o->dry_run, "Only say what would be measured");
}

std::string CommandLine(std::span<const std::string> arguments) {
  std::string line = "saccade";
  for (const std::string& a : arguments) {
    const bool plain =
        !a.empty() && a.find_first_not_of(
                          "abcdefghijklmnopqrstuvwxyz"
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "0123456789-_=.,:/+") == std::string::npos;
    line += plain ? " " : " '";
    for (const char c : a) line += c == '\'' ? "'\\''" : std::string(1, c);
    line += plain ? "" : "'";
  }
  return line;
}

namespace {

constexpr char kExamples[] = R"(
Lists are separated by commas. What is not given comes from the profile.

Examples:
  saccade compare                                  the quick profile
  saccade compare --dry-run                        what it would measure
  saccade compare --profile standard --budget 45m --out my-run
  saccade compare --resume my-run                  go on with it after a kill
  saccade compare --measure speed --only 'softmax.*' -n 512:8k:x2 -t 1,2
  saccade compare --only 'softmax.window:size=512,sinks=4' --pass decode
  saccade compare --measure speed --only 'softmax.*' --peers all
  saccade compare --measure probes --probes mqar,induction
  saccade compare --measure extrapolation --seed 1,2,3 --protocols same-target
  saccade compare --measure lenses --only 'linear.*,softmax.flash+rope'
  saccade compare --measure speed -n 32k,64k --longest 30s
  saccade compare --profile standard --shard 1/4 --out part-1
  saccade compare --measure speed --cache warm,cold --strict
  saccade compare --corpus a.txt b.txt --measure extrapolation
  saccade compare --measure extrapolation --save-models models
  saccade compare --config sweep.toml --threads 2)";

// The arguments of such a line, the program's name left out.
std::vector<std::string> ArgumentsOf(std::string_view line) {
  std::vector<std::string> arguments;
  bool quoted = false, open = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == ' ' && !quoted) {
      open = false;
      continue;
    }
    if (!open) arguments.emplace_back();
    open = true;
    if (c == '\'') {
      quoted = !quoted;
    } else if (c == '\\' && !quoted && i + 1 < line.size()) {
      arguments.back() += line[++i];
    } else {
      arguments.back() += c;
    }
  }
  if (!arguments.empty()) arguments.erase(arguments.begin());
  return arguments;
}

// A resumed run needs no other options: it takes those that it began with.
Status TakeRecordedOptions(CompareOverrides* options) {
  if (NothingBegun(options->resume)) return {};
  const Result<record::Run> run =
      record::ReadRun(options->resume + "/run.jsonl");
  if (!run.ok()) return run.status();
  Result<CompareOverrides> begun = RecordedOverrides(*run);
  if (!begun.ok()) return begun.status();
  begun->resume = options->resume;
  begun->dry_run = options->dry_run;
  begun->command = run->header.Text("command");
  *options = std::move(*begun);
  return {};
}

// Whether the command line says nothing but which run to go on with.
bool ResumesOnly(const CLI::App& app) {
  if (app.count("--resume") == 0) return false;
  for (const CLI::Option* option : app.get_options())
    if (option->count() > 0 && option->get_group() != kEverywhere &&
        !option->check_lname("resume") && !option->check_lname("dry-run"))
      return false;
  return true;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<CompareOverrides>();
  DeclareCompareOptions(&app, o.get());
  app.footer(fmt::format("{}\n{}", kExamples, kSweepHelp));
  return [o](const Invocation& call) {
    o->command = CommandLine(call.arguments);
    if (ResumesOnly(call.app)) {
      const Status taken = TakeRecordedOptions(o.get());
      if (!taken.ok()) return Complain(taken, call.host);
    }
    const Result<CompareOptions> options = MakeCompareOptions(*o);
    return options.ok() ? Compare(*options, call.host)
                        : Complain(options.status(), call.host);
  };
}

}  // namespace

Result<CompareOverrides> RecordedOverrides(const record::Run& run) {
  const std::string command = run.header.Text("command");
  std::vector<std::string> arguments = ArgumentsOf(command);
  std::reverse(arguments.begin(), arguments.end());
  CLI::App app("", "saccade");
  CompareOverrides begun;
  CLI::App* const compare = app.add_subcommand("compare");
  DeclareCompareOptions(compare, &begun);
  DeclareEverywhere(compare);
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError&) {
    return Invalid(
        fmt::format("{}: cannot read how it began: {}", run.path, command));
  }
  begun.out.clear();
  return begun;
}

std::string WholeCommand(std::string_view command) {
  std::vector<std::string> kept;
  const std::vector<std::string> arguments = ArgumentsOf(command);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    const bool dropped = a.starts_with("--shard") || a.starts_with("--out");
    if (!dropped) kept.push_back(a);
    if (dropped && a.find('=') == std::string::npos) ++i;
  }
  return CommandLine(kept);
}

namespace commands {
const Command compare = {
    "compare",
    "Verify, time and weigh variants, train them, and write the report",
    kExamples, Declare};
}

}  // namespace saccade::bench
