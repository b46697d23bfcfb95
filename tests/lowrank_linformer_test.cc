// Attention to learned mixtures of keys at its limits.
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
  Case(const std::string &spec, int64_t queries, int64_t keys) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    check.variant = parsed->variant;
    check.problem = {.q_heads = 2,
                     .kv_heads = 2,
                     .q_len = queries,
                     .kv_len = keys,
                     .qk_dim = 20,
                     .v_dim = 12};
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

double Worst(const std::vector<double> &a, const std::vector<double> &b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t n = 0; n < a.size(); ++n)
    worst = std::max(worst, std::abs(a[n] - b[n]));
  return worst;
}

TEST_CASE("mixtures of one key each are softmax attention") {
  constexpr int64_t kKeys = 40, kLength = 256;
  Case run("lowrank.linformer:rank=40,length=256", 70, kKeys);
  Case exact("softmax.flash", 70, kKeys);
  exact.data = run.data;
  exact.data.bias.clear();
  std::fill(run.data.bias.begin(), run.data.bias.end(), 0.0);
  // E and F of both heads: mixture r is key r.
  REQUIRE(std::ssize(run.data.bias) == 4 * kKeys * kLength);
  for (int64_t matrix = 0; matrix < 4; ++matrix)
    for (int64_t r = 0; r < kKeys; ++r)
      run.data.bias[(matrix * kKeys + r) * kLength + r] = 1;
  CHECK(Worst(run.Out(), exact.Out()) < 1e-5);
}

TEST_CASE("one mixture is the same for every query") {
  Case run("lowrank.linformer:rank=1", 30, 50);
  const std::vector<double> out = run.Out();
  for (int64_t n = 0; n < std::ssize(out); ++n)
    CHECK(out[n] == doctest::Approx(out[n / 360 * 360 + n % 12]));
}

TEST_CASE("mixtures are for whole sequences, as long as is learned") {
  const Variant &v = *Find("lowrank.linformer");
  Problem p = {.q_len = 900, .kv_len = 300, .qk_dim = 4, .v_dim = 4};
  p.knobs.SetText("length", "300");
  CHECK(MakePlan(v, p).ok());
  p.kv_len = 301;
  CHECK(MakePlan(v, p).status().message().find("knob length") !=
        std::string::npos);
  p.kv_len = 300;
  p.knobs.SetText("length", "1000000");
  p.q_heads = p.kv_heads = 8;
  CHECK(MakePlan(v, p).status().code() == Code::kUnsupported);
  p.mask = Mask::kCausal;
  CHECK(MakePlan(v, p).status().code() == Code::kUnsupported);
}

}  // namespace
}  // namespace saccade::bench
