#include "bench/cli.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench/memory.h"
#include "bench/profile.h"
#include "bench/resume.h"
#include "nearest.h"
#include "record/record.h"

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

Exit codes: 0 fine, 2 wrong usage or nothing to work on, 3 a variant failed
its check, 130 interrupted.)";

constexpr char kCompareExamples[] = R"(
Lists are separated by commas; -n also takes sweeps, 256:16k:x2 or 1k:4k:+1k.
What is not given comes from the profile.

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
  saccade compare --corpus a.txt b.txt --measure extrapolation)";

constexpr char kVerifyExamples[] = R"(
Each variant is compared with its float64 oracle. "worst" is the largest error
in units of the error budget u * size; it must not exceed kappa.

Examples:
  saccade verify
  saccade verify --only 'sparse.*' --target AVX2 --effort quick
  saccade verify --case 'softmax.window:size=3 pass=backward len=17/63')";

constexpr char kReportExamples[] = R"(
Example:
  saccade report my-run another-run -o both)";

void AddCompare(CLI::App& app, CompareOverrides* o) {
  CLI::App* c = app.add_subcommand(
      "compare",
      "Verify, time and weigh variants, train them, and write the report");
  std::string profiles;
  for (const BuiltInProfile& p : BuiltInProfiles())
    profiles += std::string(p.name) + ", ";
  c->add_option("--profile", o->profile, profiles + "or a JSON file")
      ->capture_default_str();
  c->add_option("--only", o->only,
                "Variants: globs and spec strings, 'softmax.*,linear.elu'");
  c->add_option("--measure", o->measures,
                "Of verify, speed, memory, lenses, extrapolation, probes");
  c->add_option("--probes", o->probes,
                "Probes to train and read: names, or all; see list --probes");
  c->add_option("--protocols", o->protocols,
                "How text is read at length: of nonoverlap, tail, same-target, "
                "sliding, position, or all");
  c->add_option("--peers", o->peers,
                "Others' implementations to time as well: all, or of openblas, "
                "torch, onnxruntime, ggml");
  c->add_option("-n,--length", o->lengths,
                "Lengths in tokens: 256:16k:x2 or 1k,4k");
  c->add_option("-d,--dim", o->dims, "Widths of a head");
  c->add_option("--batch", o->batch, "Sequences")->check(CLI::Range(1, 4096));
  c->add_option("--heads", o->heads, "Query heads")->check(CLI::Range(1, 4096));
  c->add_option("--kv-heads", o->kv_heads, "Key and value heads")
      ->check(CLI::Range(1, 4096));
  c->add_option("--dtype", o->dtypes, "Of f32, bf16");
  c->add_option("-t,--threads", o->threads, "Threads; 0 means all cores");
  c->add_option("--pass", o->passes, "Of forward, backward, decode");
  c->add_option("--mask", o->masks, "Of none, causal, causal_top_left");
  c->add_option("--corpus", o->corpus,
                "Text files; the last one is tested on, of one the last tenth");
  c->add_option("--budget", o->budget, "Time for all of it: 90s, 5m, 1h");
  c->add_option("--longest", o->longest,
                "Leave out passes that take longer: 0.5s, 10s");
  c->add_option("--out", o->out,
                "Folder for the record and the report, new or without a run");
  c->add_option("--resume", o->resume,
                "Folder of a run that was cut short: go on with it, as it was "
                "begun");
  c->add_option("--seed", o->seeds,
                "Of training, one or a list: 1,2,3; the first also of other "
                "data")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1'000'000'000));
  c->add_flag("--dry-run", o->dry_run, "Only say what would be measured");
  c->footer(kCompareExamples);
}

void AddVerify(CLI::App& app, VerifyOptions* o) {
  CLI::App* c = app.add_subcommand(
      "verify", "Check variants against their oracles on every SIMD target");
  c->add_option("--only", o->only, "Globs over variants' names");
  c->add_option("--target", o->target,
                "One SIMD target: SSE4, AVX2, AVX3, AVX3_BF16");
  c->add_option("--effort", o->effort, "quick or full")
      ->check(CLI::IsMember({"quick", "full"}))
      ->capture_default_str();
  c->add_option("--case", o->one_case, "One case, as a failure prints it");
  c->add_option("-t,--threads", o->threads, "Threads; 0 means all cores")
      ->check(CLI::Range(0, 1024));
  c->footer(kVerifyExamples);
}

void AddReport(CLI::App& app, ReportOptions* o) {
  CLI::App* c =
      app.add_subcommand("report", "Make the report of recorded runs again");
  c->add_option("RUN", o->runs, "Folders or run.jsonl files")->required();
  c->add_option("-o,--out", o->out, "Folder for the report");
  c->footer(kReportExamples);
}

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

// What a shell would take for the same arguments.
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
  const std::string path = options->resume + "/run.jsonl";
  const Result<record::Run> run = record::ReadRun(path);
  if (!run.ok()) return run.status();
  const std::string command = run->header.Text("command");
  std::vector<std::string> arguments = ArgumentsOf(command);
  std::reverse(arguments.begin(), arguments.end());
  CLI::App app("", "saccade");
  CompareOverrides begun;
  AddCompare(app, &begun);
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError&) {
    return Invalid(
        fmt::format("{}: cannot read how it began: {}", path, command));
  }
  begun.resume = options->resume;
  begun.dry_run = options->dry_run;
  begun.out.clear();
  begun.command = command;
  *options = std::move(begun);
  return {};
}

// Whether the command line says anything but which run to go on with.
bool ResumesOnly(const CLI::App& compare) {
  if (compare.count("--resume") == 0) return false;
  for (const CLI::Option* option : compare.get_options())
    if (option->count() > 0 && !option->check_lname("resume") &&
        !option->check_lname("dry-run"))
      return false;
  return true;
}

}  // namespace

int Complain(const Status& status, const Host& host) {
  fmt::print(host.err, "saccade: {}\n", status.message());
  return kExitUsage;
}

int RunCommand(std::span<const std::string> arguments, const Host& host) {
  if (!arguments.empty() && arguments[0] == kMemoryCommand)
    return MeasureMemory(arguments.subspan(1), host);
  CLI::App app(kAbout, "saccade");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", SACCADE_VERSION);
  ListOptions list;
  CompareOverrides compare;
  VerifyOptions verify;
  ReportOptions report;
  CLI::App* const list_command = app.add_subcommand(
      "list", "Show variants, what they can do, their knobs and cost");
  list_command->add_flag(
      "--probes", list.probes,
      "Probes instead: what each asks, and what is expected");
  list_command->add_flag("--json", list.json, "As JSON");
  list_command->add_flag("--positions", list.positions,
                         "What may follow a variant's +, and which take it");
  AddCompare(app, &compare);
  AddVerify(app, &verify);
  AddReport(app, &report);
  // CLI11 takes them from the back.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
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
    fmt::print(host.err, "saccade: {}; see saccade --help\n", what);
    return kExitUsage;
  }
  if (app.got_subcommand("list"))
    return list.probes ? ListProbes(list, host) : ListVariants(list, host);
  if (app.got_subcommand("verify")) return VerifyVariants(verify, host);
  if (app.got_subcommand("report")) return MakeReport(report, host);
  compare.command = CommandLine(arguments);
  if (ResumesOnly(*app.get_subcommand("compare"))) {
    const Status taken = TakeRecordedOptions(&compare);
    if (!taken.ok()) return Complain(taken, host);
  }
  const Result<CompareOptions> options = MakeCompareOptions(compare);
  return options.ok() ? Compare(*options, host)
                      : Complain(options.status(), host);
}

}  // namespace saccade::bench
