// Approximation: how far the output is from that of softmax attention, on the
// same queries, keys and values.
//
//   |o - softmax(q k^T / sqrt(d)) v| / |softmax(q k^T / sqrt(d)) v|
//
// over unit normal inputs, whose scores have variance 1, and again with queries
// and keys half as long; causal, or both ways for who is that only. It is no
// fault of who computes another function; of who approximates softmax
// (Choromanski et al. 2020, arXiv:2009.14794, figure 4) it falls with what it
// spends: 1/sqrt(m) in random features, once these are many for the variance of
// e^(q.k) that long rows have.
#include <cmath>

#include "bench/learn/random.h"
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kLen = 512, kFirst = 32;
constexpr float kFaint = 0.5f;

// The error of rows from kFirst on.
double Distance(const Problem& p, const std::vector<float>& got,
                const std::vector<float>& want) {
  double error = 0, sum = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / p.v_dim % p.q_len;
    if (row < kFirst) continue;
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    sum += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / sum);
}

Result<double> DistanceOf(const Spec& spec, const Drawn& drawn,
                          const std::vector<float>& v, Exec& exec) {
  const Variant& softmax = *Variants().front();
  const auto got =
      RunOn(*spec.variant, drawn.problem, drawn.inputs(*spec.variant), v, exec);
  if (!got.ok()) return got.status();
  Problem problem = drawn.problem;
  problem.knobs = {};
  const auto want = RunOn(softmax, problem, drawn.inputs(softmax), v, exec);
  if (!want.ok()) return want.status();
  return Distance(problem, *got, *want);
}

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  Spec spec = s.spec;
  spec.positions = {};
  Drawn drawn = DrawInputs(spec, kLen, 0, s.seed);
  if (!spec.variant->traits.causal) drawn.problem.mask = Mask::kNone;
  const Problem& p = drawn.problem;
  std::vector<float> v(p.batch * p.kv_heads * kLen * p.v_dim);
  Random random(s.seed, "v");
  for (float& x : v) x = static_cast<float>(random.Normal());
  const Result<double> plain = DistanceOf(spec, drawn, v, exec);
  if (!plain.ok()) return plain.status();
  for (auto* rows : {&drawn.q, &drawn.k})
    for (float& x : *rows) x *= kFaint;
  const Result<double> faint = DistanceOf(spec, drawn, v, exec);
  if (!faint.ok()) return faint.status();
  return std::vector<Reading>{{"softmax error", *plain},
                              {"softmax error, faint scores", *faint}};
}

}  // namespace

const Lens& approximation() {
  static const Lens lens = {
      .name = "approximation",
      .source = "Choromanski et al. 2020, arXiv:2009.14794, figure 4",
      .sees = Sees::kInputs,
      .quantities =
          {{"softmax error",
            "distance of the output from that of softmax attention without "
            "positions, over the latter's length, scores of variance 1, rows "
            "33 to 512",
            "0 for exact ones; of approximations less the more they spend"},
           {"softmax error, faint scores",
            "the same where queries and keys are half as long", ""}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
