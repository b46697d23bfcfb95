// saccade verify: every variant against its oracle on every target.
#include "bench/verify.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "bench/choices.h"
#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/compare.h"
#include "bench/compare_records.h"
#include "bench/machine.h"
#include "bench/progress.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Each variant is compared with its float64 oracle. "worst" is the largest error
in units of the error budget u * size; it must not exceed kappa.

Examples:
  saccade verify
  saccade verify --only 'sparse.*' --target AVX2 --effort quick
  saccade verify --case 'softmax.window:size=3 pass=backward len=17/63')";

struct VerifyOptions {
  std::string only;    // globs; empty: all
  std::string target;  // empty: all that this machine runs
  std::string effort = "full";
  std::string one_case;  // not empty: this case alone
  int threads = 0;       // 0: all cores
};

// A row per variant and target: the worst of its passes and dtypes.
struct Row {
  int cases = 0, failed = 0;
  double worst = 0;
  std::vector<std::string> failures, repeats;
};

Result<std::vector<const Variant*>> Select(const std::string& only) {
  std::vector<const Variant*> chosen;
  const std::vector<std::string> globs = Split(only.empty() ? "*" : only, ',');
  for (const std::string& glob : globs) {
    bool matched = false;
    for (const Variant* v : Variants()) {
      if (!GlobMatches(glob, v->name)) continue;
      matched = true;
      if (std::find(chosen.begin(), chosen.end(), v) == chosen.end())
        chosen.push_back(v);
    }
    if (!matched)
      return Status(Code::kNotFound, "--only: " + NoMatch(glob).message());
  }
  if (chosen.empty()) return Invalid("--only: an empty list of variants");
  return chosen;
}

int VerifyCase(const VerifyOptions& options, const Host& host) {
  const Result<CheckCase> one = ParseCase(options.one_case);
  if (!one.ok())
    return Complain(Invalid("--case: " + one.status().message()), host);
  bool failed = false;
  for (const std::string_view target : TargetNames()) {
    if (!options.target.empty() && options.target != target) continue;
    const ScopedTarget scope(target);
    const CheckResult result = RunCase(*one);
    const bool ok = result.kind == CheckResult::Kind::kOk;
    if (result.kind == CheckResult::Kind::kRefused)
      return Complain(Unsupported("the case is refused: " + result.what), host);
    failed |= !ok;
    fmt::print(host.out, "{:<5} worst {:.3g} of {:g}  {}\n", target,
               result.ratio, one->variant->kappa,
               ok ? "ok" : "FAIL  " + result.what);
  }
  return failed ? kExitFailedCheck : kExitOk;
}

void PrintRow(const Variant& v, const std::string& target, const Row& row,
              std::ostream& out) {
  fmt::print(out, "{:<20} {:<6} {:>6} {:>8.3g} {:>6g}  {}\n", v.name, target,
             row.cases, row.worst, v.kappa,
             row.failed  ? "FAIL"
             : row.cases ? "ok"
                         : "no case ran");
  for (size_t i = 0; i < row.failures.size(); ++i)
    fmt::print(out, "    {}\n    {}\n", row.failures[i], row.repeats[i]);
  out.flush();
}

int VerifyVariants(const VerifyOptions& options, const Host& host) {
  const std::vector<std::string_view> known = TargetNames();
  if (!options.one_case.empty()) return VerifyCase(options, host);
  const Result<std::vector<const Variant*>> chosen = Select(options.only);
  if (!chosen.ok()) return Complain(chosen.status(), host);
  std::vector<std::string> targets(known.begin(), known.end());
  if (!options.target.empty()) targets = {options.target};
  const Effort effort =
      options.effort == "quick" ? Effort::kQuick : Effort::kFull;
  const std::unique_ptr<Exec> exec =
      MakeTbbExec(options.threads > 0 ? options.threads : UsableCores());
  Progress progress(host.err, host.terminal, host.talk == Talk::kQuiet);
  for (const Variant* v : *chosen) progress.AddPhase(v->name, 1);
  const auto stopped = [&] { return host.stop && host.stop->load(); };

  fmt::print(host.out, "{:<20} {:<6} {:>6} {:>8} {:>6}\n", "variant", "target",
             "cases", "worst", "kappa");
  bool failed = false;
  for (const Variant* v : *chosen) {
    if (host.terminal) progress.Begin(v->name);
    std::vector<Row> rows(targets.size());
    int done = 0;
    for (const Pass pass : kPasses)
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        progress.Update(done++ / 6.0, fmt::format("{} {} {}", v->name,
                                                  NameOf(pass), NameOf(dtype)));
        if (stopped() || !Offers(*v, pass, dtype)) continue;
        const std::vector<VerifySummary> summaries =
            Verify(*v, pass, dtype, effort, targets, *exec);
        for (size_t i = 0; i < summaries.size(); ++i) {
          const VerifySummary& s = summaries[i];
          rows[i].cases += s.cases;
          rows[i].failed += s.failed;
          rows[i].worst = std::max(rows[i].worst, s.worst_ratio);
          if (s.failed == 0) continue;
          failed = true;
          rows[i].failures.push_back(s.failure);
          rows[i].repeats.push_back(RepeatCheck(s));
        }
      }
    if (stopped()) {
      progress.Finish();
      Say(host, "interrupted");
      return kExitInterrupted;
    }
    progress.Clear();
    for (size_t i = 0; i < targets.size(); ++i)
      PrintRow(*v, targets[i], rows[i], host.out);
  }
  progress.Finish();
  return failed ? kExitFailedCheck : kExitOk;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<VerifyOptions>();
  app.add_option("--only", o->only, "Globs over variants' names")
      ->type_name(kVariants);
  TakesOneOf(app.add_option("--target", o->target,
                            "One SIMD target of those that this machine runs"),
             TargetNames());
  TakesOneOf(app.add_option("--effort", o->effort, "How many cases"),
             {"quick", "full"})
      ->capture_default_str();
  app.add_option("--case", o->one_case, "One case, as a failure prints it");
  app.add_option("-t,--threads", o->threads, "Threads; 0 means all cores")
      ->check(CLI::Range(0, 1024));
  return [o](const Invocation& call) { return VerifyVariants(*o, call.host); };
}

}  // namespace

namespace commands {
const Command verify = {
    "verify", "Check variants against their oracles on every SIMD target",
    kExamples, Declare};
}

}  // namespace saccade::bench
