// What states that are corrected, or fade as tokens say, are known to be got
// wrong by. Variants are named here.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench {
namespace {

// A spec on one problem, forward or token by token.
struct Case {
  Case(const std::string& spec, int64_t length, int64_t heads = 2) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    check.variant = parsed->variant;
    check.problem = {.q_heads = heads,
                     .kv_heads = heads,
                     .q_len = length,
                     .kv_len = length,
                     .qk_dim = 20,
                     .v_dim = 12,
                     .mask = Mask::kCausal};
    check.problem.knobs = parsed->knobs;
    problem = *Resolve(*check.variant, check.problem);
    data = MakeData(check, problem);
  }

  std::vector<double> Out(int64_t piece = 0) const {
    CheckCase c = check;
    if (piece > 0) {
      c.pass = Pass::kDecode;
      c.problem.q_len = piece;
    }
    const auto plan = MakePlan(*c.variant, c.problem);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    const Written w = RunPass(c, **plan, problem, data, Serial());
    REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);
    return w.out;
  }

  CheckCase check;
  Problem problem;
  Data data;
};

bool Near(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
           return std::abs(x - y) <= 2e-5 * (1 + std::abs(x) + std::abs(y));
         });
}

// Trap 8.
TEST_CASE("chunks, steps and the recurrence agree at any length") {
  for (const char* spec :
       {"recurrent.gla", "recurrent.delta", "recurrent.gated_delta"})
    for (const int64_t length : {1, 15, 16, 17, 31, 32, 33, 65, 100}) {
      INFO(spec << ", " << length << " tokens");
      const Case run(spec, length);
      const std::vector<double> whole = run.Out();
      CHECK(Near(whole, run.Out(1)));
      CHECK(Near(whole, run.Out(7)));
      std::vector<double> want(whole.size()), size(whole.size());
      RunOracle(*run.check.variant, run.problem, run.data.inputs(),
                {want.data(), size.data(), nullptr});
      CHECK(Near(whole, want));
    }
}

// Trap 6: a state that faded after it was corrected would say a v_1.
TEST_CASE("a state fades before it is corrected") {
  Case run("recurrent.gated_delta", 2, 1);
  Data& data = run.data;
  const int64_t d = run.problem.qk_dim, e = run.problem.v_dim;
  for (int64_t f = 0; f < d; ++f) {
    data.k[f] = data.k[d + f] = f == 0 ? 3 : 0;
    data.q[d + f] = f == 0 ? 1 : 0;
  }
  data.extra[0] = {1, 1};    // beta: all of what is known is replaced
  data.extra[1] = {-3, -3};  // and fades by e^(-3/16)
  const std::vector<double> out = run.Out();
  for (int64_t c = 0; c < e; ++c)
    CHECK(out[e + c] ==
          doctest::Approx(run.problem.scale * data.v[e + c]).epsilon(1e-5));
  // Of half of it, half of what was there stays, faded.
  data.extra[0] = {1, 0.5};
  const double fade = std::exp(-3.0 / 16);
  const std::vector<double> half = run.Out();
  for (int64_t c = 0; c < e; ++c)
    CHECK(half[e + c] ==
          doctest::Approx(run.problem.scale *
                          (0.5 * fade * data.v[c] + 0.5 * data.v[e + c]))
              .epsilon(1e-5));
}

TEST_CASE("a corrected state holds one value a key, however often it is told") {
  Case run("recurrent.delta", 90, 1);
  Data& data = run.data;
  const int64_t d = run.problem.qk_dim, e = run.problem.v_dim;
  std::fill(data.extra[0].begin(), data.extra[0].end(), 1.0);
  // Keys of two directions by turns; queries are the keys.
  for (int64_t t = 0; t < 90; ++t)
    for (int64_t f = 0; f < d; ++f)
      data.k[t * d + f] = data.q[t * d + f] = f == t % 2 ? 0.5 : 0;
  std::vector<double> want(data.v);
  for (double& x : want) x *= run.problem.scale;
  CHECK(Near(run.Out(), want));
  CHECK(std::ssize(want) == 90 * e);
}

TEST_CASE("factors near nothing forget, and nothing is divided by them") {
  // e^(-100) a token and element: each token sees itself alone.
  Case run("recurrent.gla:tau=1", 50);
  std::fill(run.data.extra[0].begin(), run.data.extra[0].end(), -100.0);
  const std::vector<double> alone = run.Out();
  for (const double x : alone) REQUIRE(std::isfinite(x));
  Case other("recurrent.gla:tau=1", 50);
  other.data = run.data;
  const int64_t d = run.problem.qk_dim;
  // Keys before the last of each head do not matter to it.
  for (int64_t h = 0; h < 2; ++h)
    std::fill_n(other.data.k.begin() + h * 50 * d, 49 * d, 2.0);
  const std::vector<double> out = other.Out();
  const int64_t e = run.problem.v_dim;
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t c = 0; c < e; ++c)
      CHECK(out[(h * 50 + 49) * e + c] ==
            doctest::Approx(alone[(h * 50 + 49) * e + c]).epsilon(1e-4));
}

TEST_CASE("a forget gate is one more factor of all keys before it") {
  Case run("softmax.fox", 60), plain("softmax.flash", 60);
  plain.data.q = run.data.q;
  plain.data.k = run.data.k;
  plain.data.v = run.data.v;
  // Open gates are none.
  std::fill(run.data.extra[0].begin(), run.data.extra[0].end(), 0.0);
  CHECK(Near(run.Out(), plain.Out()));
  // A closed one hides what was before, and the running sum is large behind it.
  for (int64_t h = 0; h < 2; ++h) run.data.extra[0][h * 60 + 20] = -3e6;
  const std::vector<double> out = run.Out();
  const int64_t e = run.problem.v_dim;
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t c = 0; c < e; ++c)
      CHECK(out[(h * 60 + 20) * e + c] ==
            doctest::Approx(run.data.v[(h * 60 + 20) * e + c]));
}

TEST_CASE("Taylor weights are softmax's while scores are small") {
  Case run("linear.based:elements=20", 60), plain("softmax.flash", 60);
  for (double& x : run.data.q) x *= 0.05;
  plain.data.q = run.data.q;
  plain.data.k = run.data.k;
  plain.data.v = run.data.v;
  const std::vector<double> a = run.Out(), b = plain.Out();
  for (size_t n = 0; n < a.size(); ++n)
    CHECK(std::abs(a[n] - b[n]) < 1e-3 * (1 + std::abs(b[n])));
}

}  // namespace
}  // namespace saccade::bench
