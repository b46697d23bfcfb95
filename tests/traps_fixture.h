// What the tests of exact limits and known mistakes have in common: variants by
// name, run forward, and what their weights see.
#ifndef SACCADE_TESTS_TRAPS_FIXTURE_H_
#define SACCADE_TESTS_TRAPS_FIXTURE_H_

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench::traps {
// A spec run forward on one problem, in [B, H, T, D] order.
class Run {
 public:
  Run(const std::string& spec, const Problem& problem) : spec_(spec) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), spec, ": ", parsed.status().message());
    case_.variant = parsed->variant;
    case_.problem = problem;
    case_.problem.knobs = parsed->knobs;
    case_.problem.positions = parsed->positions;
    const Result<Problem> p = Resolve(*case_.variant, case_.problem);
    REQUIRE_MESSAGE(p.ok(), spec, ": ", p.status().message());
    problem_ = *p;
    data = MakeData(case_, problem_);
  }

  std::vector<double> Out() const {
    const auto plan = MakePlan(*case_.variant, case_.problem);
    REQUIRE_MESSAGE(plan.ok(), spec_, ": ", plan.status().message());
    const Written w = RunPass(case_, **plan, problem_, data, Serial());
    REQUIRE_MESSAGE(w.trouble.empty(), spec_, ": ", w.trouble);
    return w.out;
  }

  Data data;

 private:
  std::string spec_;
  CheckCase case_;
  Problem problem_;
};

inline Problem Square(int64_t length, Mask mask, int64_t heads = 2) {
  return {.q_heads = heads,
          .kv_heads = heads,
          .q_len = length,
          .kv_len = length,
          .qk_dim = 20,
          .v_dim = 12,
          .mask = mask};
}

// Weights of every pair, [H, T, T]: the outputs for values that are the
// identity. Queries and keys as they are drawn, or zero.
inline std::vector<double> Weights(const std::string& spec, Problem p,
                                   bool zero_scores = false) {
  p.v_dim = p.kv_len;
  Run run(spec, p);
  for (int64_t n = 0; n < std::ssize(run.data.v); ++n)
    run.data.v[n] = n % p.kv_len == n / p.kv_len % p.kv_len;
  if (zero_scores) {
    std::fill(run.data.q.begin(), run.data.q.end(), 0.0);
    std::fill(run.data.k.begin(), run.data.k.end(), 0.0);
  }
  return run.Out();
}

inline bool Near(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
        return std::abs(x - y) <= 4e-6 * (1 + std::abs(x) + std::abs(y));
      });
}

// Two specs compute the same on the same inputs.
inline void CheckSame(const std::string& a, const std::string& b,
                      const Problem& p) {
  INFO(a << " and " << b << ", " << p.kv_len << " keys, mask "
         << std::string(NameOf(p.mask)));
  CHECK(Near(Run(a, p).Out(), Run(b, p).Out()));
}

// visible(i, j) is exactly where the weights are not zero.
template <class F>
void CheckVisible(const std::string& spec, const Problem& p, F visible) {
  const std::vector<double> w = Weights(spec, p);
  int64_t wrong = 0;
  for (int64_t n = 0; n < std::ssize(w); ++n) {
    const int64_t j = n % p.kv_len, i = n / p.kv_len % p.q_len;
    wrong += (w[n] != 0) != visible(i, j);
  }
  INFO(spec << ", mask " << std::string(NameOf(p.mask)));
  CHECK(wrong == 0);
}

}  // namespace saccade::bench::traps

#endif  // SACCADE_TESTS_TRAPS_FIXTURE_H_
