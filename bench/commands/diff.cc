// saccade diff: two builds, commits or machines, by the records of their runs.
#include "reports/diff.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>

#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/diff_limits.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
B is compared with A: 1.05 is 5 % slower. An interval has in it what times of
one program move by from run to run. "same" lies within --same of 1; "unclear"
may be either.

Examples:
  saccade diff runs/old runs/new
  saccade diff old-1 old-2 --vs new-1 new-2       runs made in turn: sure of more
  saccade diff runs/old runs/new --fail-on 'slower>3%,bigger>1%,worse>0.02'
  saccade diff runs/old runs/new --only 'softmax.*' --pass decode --all
  saccade diff runs/old runs/new --format markdown

With --fail-on the exit code is 1 when anything goes beyond a limit, or fails
its check in B alone; slower and bigger are shares, worse is in bits a byte or
in accuracy. With --strict it is 4 when noise was found in a run, and 2 when
the machines, compilers or settings differ.)";

const std::map<std::string, reports::DiffFormat> kFormats = {
    {"text", reports::DiffFormat::kText},
    {"markdown", reports::DiffFormat::kMarkdown},
    {"json", reports::DiffFormat::kJson}};

struct DiffOptions {
  std::vector<std::string> runs, versus, passes;
  std::string only, fail_on, same, format = "text";
  bool all = false, strict = false;
};

Result<std::vector<record::Run>> ReadRuns(const std::vector<std::string>& names,
                                          const Host& host) {
  std::vector<record::Run> runs;
  for (const std::string& name : names) {
    Result<record::Run> run = record::ReadRun(record::RunFile(name));
    if (!run.ok()) return run.status();
    run->path = name;
    for (const std::string& warning : run->warnings) Say(host, warning);
    runs.push_back(std::move(*run));
  }
  return runs;
}

// Leaves what the options ask for. What is of no variant or pass stays.
void Filter(const DiffOptions& o, std::vector<record::Run>* runs) {
  const std::vector<std::string> globs = SplitSpecs(o.only);
  const auto unwanted = [&](const record::Record& r) {
    const std::string variant = r.Text("variant"), peer = r.Text("peer"),
                      pass = r.Text("pass");
    const bool named = globs.empty() || (variant + peer).empty() ||
                       AnyMatches(globs, variant) || AnyMatches(globs, peer);
    const bool passes =
        o.passes.empty() || pass.empty() ||
        std::find(o.passes.begin(), o.passes.end(), pass) != o.passes.end();
    return !named || !passes;
  };
  for (record::Run& run : *runs) std::erase_if(run.records, unwanted);
}

// What is checked for beyond some limit cannot be called the same below it.
double SameWithin(const std::vector<reports::DiffLimit>& limits) {
  double within = 0.03;
  for (const reports::DiffLimit& limit : limits)
    if (limit.change == reports::Change::kSlower && limit.beyond > 0)
      within = std::min(within, limit.beyond);
  return within;
}

int Refuse(const reports::Diff& diff, const Host& host) {
  using Kind = reports::DiffRemark::Kind;
  for (const reports::DiffRemark& remark : diff.remarks)
    if (remark.kind == Kind::kUnlike || remark.kind == Kind::kNoise)
      Say(host, "--strict: " + remark.text);
  if (diff.Has(Kind::kUnlike)) return kExitUsage;
  return diff.Has(Kind::kNoise) ? kExitNoisy : kExitOk;
}

int RunDiff(const DiffOptions& o, const Host& host) {
  std::vector<std::string> a = o.runs, b = o.versus;
  if (b.empty() && a.size() == 2) {
    b = {a.back()};
    a.pop_back();
  }
  if (a.empty() || b.empty())
    return Complain(Invalid("two runs are compared: saccade diff A B; or "
                            "several: saccade diff A1 A2 --vs B1 B2"),
                    host);
  std::vector<reports::DiffLimit> limits;
  if (!o.fail_on.empty()) {
    const Result<std::vector<reports::DiffLimit>> parsed =
        ParseLimits(o.fail_on);
    if (!parsed.ok())
      return Complain(Invalid("--fail-on: " + parsed.status().message()), host);
    limits = *parsed;
  }
  const Result<double> same = o.same.empty()
                                  ? Result<double>(SameWithin(limits))
                                  : ParsePercent(o.same);
  if (!same.ok())
    return Complain(Invalid("--same: " + same.status().message()), host);
  Result<std::vector<record::Run>> runs_a = ReadRuns(a, host);
  if (!runs_a.ok()) return Complain(runs_a.status(), host);
  Result<std::vector<record::Run>> runs_b = ReadRuns(b, host);
  if (!runs_b.ok()) return Complain(runs_b.status(), host);
  Filter(o, &*runs_a);
  Filter(o, &*runs_b);
  const reports::Diff diff = reports::MakeDiff(*runs_a, *runs_b, *same);
  if (o.strict) {
    const int refused = Refuse(diff, host);
    if (refused != kExitOk) return refused;
  }
  if (diff.times.empty() && diff.bytes.empty() && diff.readings.empty() &&
      diff.checks.empty())
    return Complain(
        Invalid(diff.gaps.empty() ? "nothing of these runs is compared"
                                  : "these runs have no measurement in common"),
        host);
  fmt::print(host.out, "{}",
             reports::ShowDiff(diff, kFormats.at(o.format), o.all));
  if (o.fail_on.empty()) return kExitOk;
  const auto beyond = reports::Beyond(diff, limits);
  for (const reports::DiffRow* row : beyond) Say(host, reports::Describe(*row));
  return beyond.empty() ? kExitOk : kExitRegression;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<DiffOptions>();
  app.add_option("RUN", o->runs,
                 "Folders or run.jsonl files: A and B; with --vs those of A")
      ->required();
  app.add_option("--vs", o->versus, "Runs of B, when there are more than one");
  app.add_option("--only", o->only,
                 "Variants and peers: globs over spec strings and names");
  app.add_option("--pass", o->passes, "Of forward, backward, decode")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"forward", "backward", "decode"}));
  app.add_option("--fail-on", o->fail_on,
                 "Limits that set the exit code: slower>3%,bigger>1%,"
                 "worse>0.02,broken");
  app.add_option("--same", o->same,
                 "How near to 1 a whole interval must lie: 3%, or the limit of "
                 "slower if that is less");
  app.add_option("--format", o->format, "text, markdown or json")
      ->check(CLI::IsMember({"text", "markdown", "json"}))
      ->capture_default_str();
  app.add_flag("--all", o->all, "Show what is the same too");
  app.add_flag(
      "--strict", o->strict,
      "Refuse runs of other machines, compilers or settings, and noisy "
      "ones");
  return [o](const Invocation& call) { return RunDiff(*o, call.host); };
}

}  // namespace

namespace commands {
const Command diff = {"diff",
                      "Compare two builds, commits or machines by their runs",
                      kExamples, Declare};
}

}  // namespace saccade::bench
