// What the second tier of variants comes to at its limits. Variants are named
// here.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench {
namespace {

struct Case {
  Case(const std::string &spec, int64_t length, Mask mask = Mask::kCausal) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    check.variant = parsed->variant;
    check.problem = {.q_heads = 2,
                     .kv_heads = 2,
                     .q_len = length,
                     .kv_len = length,
                     .qk_dim = 20,
                     .v_dim = 12,
                     .mask = mask};
    check.problem.knobs = parsed->knobs;
    problem = *Resolve(*check.variant, check.problem);
    data = MakeData(check, problem);
  }
  std::vector<double> Out() const {
    const auto plan = MakePlan(*check.variant, check.problem);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    const Written w = RunPass(check, **plan, problem, data, Serial());
    REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);
    return w.out;
  }

  CheckCase check;
  Problem problem;
  Data data;
};

bool Near(const std::vector<double> &a, const std::vector<double> &b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
           return std::abs(x - y) <= 4e-6 * (1 + std::abs(x) + std::abs(y));
         });
}

TEST_CASE("synthesizers read no keys, the factorized one no queries either") {
  for (const std::string spec : {"synth.dense", "synth.factorized"}) {
    INFO(spec);
    Case run(spec, 60);
    const std::vector<double> out = run.Out();
    for (double &x : run.data.k) x = -3 * x + 1;
    CHECK(run.Out() == out);
    for (double &x : run.data.q) x = -3 * x + 1;
    CHECK((run.Out() == out) == (spec == "synth.factorized"));
    std::fill(run.data.bias.begin(), run.data.bias.end(), 0.0);
    Case mean("softmax.flash", 60);
    mean.data.v = run.data.v;
    std::fill(mean.data.q.begin(), mean.data.q.end(), 0.0);
    CHECK(Near(run.Out(), mean.Out()));
    const auto plan = [&](int64_t length) {
      Problem p = run.check.problem;
      p.q_len = p.kv_len = length;
      return MakePlan(*run.check.variant, p);
    };
    CHECK(plan(1024).ok());
    CHECK(plan(1025).status().code() == Code::kUnsupported);
  }
}

TEST_CASE("FLASH is squared ReLU within a group, linear before it") {
  Case run("gated.flash:blocks=32", 100), unit("gated.gau:n=1", 100);
  const int64_t d = run.problem.qk_dim, half = d / 2;
  for (int64_t n = 0; n < std::ssize(run.data.q); ++n)
    if (n % d >= half) run.data.q[n] = 0;
  unit.check.problem.scale = unit.problem.scale = 1.0f / 1024;
  unit.data = run.data;
  CHECK(Near(run.Out(), unit.Out()));
  // In groups of 32, of which each is alike: what the linear half adds grows
  // by as much from group to group, and the squared half stays.
  Case steps("gated.flash:blocks=1", 128);
  const auto repeat = [&](std::vector<double> &x) {
    const int64_t head = std::ssize(x) / 2;
    for (int64_t n = 0; n < std::ssize(x); ++n)
      x[n] = x[n / head * head + n % head % (head / 4)];
  };
  for (auto *x :
       {&steps.data.q, &steps.data.k, &steps.data.v, &steps.data.extra[0]})
    repeat(*x);
  const std::vector<double> out = steps.Out();
  const int64_t group = 32 * steps.problem.v_dim;
  std::vector<double> first, second;
  for (int64_t n = 0; n < group; ++n) {
    first.push_back(out[group + n] - out[n]);
    second.push_back(out[3 * group + n] - out[2 * group + n]);
  }
  CHECK(Near(first, second));
}

}  // namespace
}  // namespace saccade::bench
