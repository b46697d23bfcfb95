// linear.cosformer: linear attention of positive parts, which weighs near keys
// more by the cosine of their distance.
//
//   o_i = sum_j w_ij v_j / max(sum_j w_ij, 1e-6)   over visible j
//   w_ij = relu(q_i).relu(k_j) cos(pi (i - j) / 2 M)
//
// which is a product of features twice as wide, relu(x) cos(pi i / 2 M) and
// relu(x) sin(pi i / 2 M), and so a sum that every query reads.
//
// Knob: M, in tokens. Beyond a distance of M weights are negative, and where
// they outweigh the others the denominator is 1e-6: choose M no less than the
// longest sequence.
//
// Source: Qin et al. 2022, arXiv:2202.08791, equations 9-12; the 1e-6 is the
// authors' code's.
//
// Ours differs: M is a knob, where the paper's is the length, so that a prefix
// gives the prefix of the result. Positions count from the sequence's first
// key, which only their differences show. A scale, which must be positive,
// cancels but for the 1e-6.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], S [2 d, e] a
// key head. Cost a token and head: 8 d e flops forward, 24 d e backward, 8 d e
// for a decoding step of any context, whose state is 4 (d e + d) floats; d
// counts in steps of 16.
#include <numbers>

#include "engine/scan.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kLeast = 1e-6;

double Turn(const Problem& p) {
  return std::numbers::pi / 2 / p.knobs.Number("m");
}

ScanSpec CosformerSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  SetTurn(Turn(p), &spec);
  spec.read_out = ReadOut::kClamped;
  spec.epsilon = static_cast<float>(kLeast);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeCosformer(const Problem& p) {
  if (p.scale < 0)
    return Unsupported(
        "linear.cosformer needs a scale above 0: weights of its own sign");
  return MakeScanPlan(p, CosformerSpec(p));
}

Cost CosformerCost(const Problem& p) { return ScanCost(p, CosformerSpec(p)); }

// size: a weight is a sum of two terms, each in error by 1 u for itself and by
// 1 u for each of its cosines or sines; an angle of thousands of radians is in
// error by 1e-12, which is all that is left where both terms vanish.
void CosformerOracle(const Problem& p, const OracleInputs& in,
                     const OracleOutputs& out) {
  const double turn = Turn(p);
  oracle::Linear(p, in, out, kLeast, 0, [&](const oracle::Row& x, int64_t j) {
    const oracle::Score dot = oracle::ReluScore(p, x.q, x.k + j * p.qk_dim);
    const double a = turn * static_cast<double>(x.i);
    const double b = turn * static_cast<double>(j);
    const double terms = std::abs(std::cos(a) * std::cos(b)) +
                         std::abs(std::sin(a) * std::sin(b));
    return oracle::Score{dot.value * std::cos(a - b),
                         dot.size * (3 * terms + 1e-6)};
  });
}

}  // namespace

const Variant& linear_cosformer() {
  static const Variant variant = {
      .name = "linear.cosformer",
      .title =
          "linear attention, features relu, turned so that near keys weigh "
          "more",
      .source = "Qin et al. 2022, arXiv:2202.08791, equations 9-12",
      // Weights are products of features: no score is there to multiply.
      .traits = {.scores = false},
      .knobs = {{"m", "the distance, in tokens, at which weights reach 0", 8192,
                 1, 1e9}},
      .scaled = false,
      .cost = CosformerCost,
      .plan = MakeCosformer,
      .oracle = CosformerOracle,
  };
  return variant;
}

}  // namespace saccade::variants
