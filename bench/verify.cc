#include "bench/verify.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "bench/verify_reference.h"
#include "bench/verify_run.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

VerifySummary Start(const Variant& v, Pass pass, DType dtype,
                    const std::string& target) {
  VerifySummary s;
  s.variant = v.name;
  s.pass = pass;
  s.dtype = dtype;
  s.target = target;
  s.kappa = v.kappa;
  return s;
}

void Count(const CheckCase& c, const CheckResult& r, VerifySummary& s) {
  if (r.kind == CheckResult::Kind::kRefused) {
    if (s.refused++ == 0) s.refusal = r.what;
    return;
  }
  ++s.cases;
  if (r.ratio > s.worst_ratio) {
    s.worst_ratio = r.ratio;
    s.worst = ToString(c);
  }
  if (r.kind == CheckResult::Kind::kFail && s.failed++ == 0) {
    s.failure = r.what;
    s.repeat = ToString(c);
  }
}

}  // namespace

std::vector<VerifySummary> Verify(const Variant& variant, Pass pass,
                                  DType dtype, Effort effort,
                                  std::span<const std::string> targets,
                                  Exec& exec) {
  std::vector<std::string> names(targets.begin(), targets.end());
  if (names.empty()) names.emplace_back(ChosenTarget());
  std::vector<VerifySummary> summaries;
  for (const std::string& name : names)
    summaries.push_back(Start(variant, pass, dtype, name));

  const std::vector<CheckCase> cases = CasesFor(variant, pass, dtype, effort);
  // A few at a time, so that references need little memory. They serve all
  // targets.
  constexpr size_t kAtOnce = 32;
  for (size_t first = 0; first < cases.size(); first += kAtOnce) {
    const size_t n = std::min(kAtOnce, cases.size() - first);
    std::vector<std::optional<Result<Reference>>> references(n);
    exec.For(static_cast<int64_t>(n), [&](int64_t at, int) {
      references[at] = MakeReference(cases[first + at]);
    });
    for (VerifySummary& summary : summaries) {
      const ScopedTarget scope(summary.target);
      std::vector<CheckResult> results(n);
      exec.For(static_cast<int64_t>(n), [&](int64_t at, int) {
        const Result<Reference>& r = *references[at];
        results[at] = r.ok() ? RunCase(cases[first + at], *r)
                             : CheckResult{CheckResult::Kind::kRefused, 0,
                                           r.status().message()};
      });
      for (size_t at = 0; at < n; ++at)
        Count(cases[first + at], results[at], summary);
    }
  }
  return summaries;
}

std::vector<VerifySummary> VerifyAll(
    const Variant& variant, Effort effort, std::span<const std::string> targets,
    Exec& exec, const std::function<void(const VerifySummary&)>& done) {
  std::vector<VerifySummary> all;
  for (const Pass pass : kPasses)
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      if (!Offers(variant, pass, dtype)) continue;
      for (VerifySummary& s :
           Verify(variant, pass, dtype, effort, targets, exec)) {
        if (done) done(s);
        all.push_back(std::move(s));
      }
    }
  return all;
}

}  // namespace saccade::bench
