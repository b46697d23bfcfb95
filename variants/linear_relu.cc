// linear.relu: linear attention whose features are the positive parts.
//
//   o_i = relu(q_i) S_i / max(relu(q_i).z_i, 1e-6)
//   S_i = sum_j relu(k_j) v_j^T,   z_i = sum_j relu(k_j)   over visible j
//
// Source: Qin et al. 2022, arXiv:2202.08791, equations 6-8, before its
// weights are turned (linear.cosformer); the 1e-6 is the authors' code's. A
// query that no key answers, for their positive parts do not meet, gives 0.
//
// Ours differs in nothing but the order of sums. A scale, which must be
// positive, multiplies relu(q).relu(k); it cancels but for the 1e-6.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], S [d, e] a
// key head. Cost a token and head: 4 d e flops forward, 12 d e backward, 4 d e
// for a decoding step of any context, whose state is 2 (d e + d) floats.
#include "engine/scan.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kLeast = 1e-6;

ScanSpec ReluSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  spec.feature = FeatureMap::kRelu;
  spec.read_out = ReadOut::kClamped;
  spec.epsilon = static_cast<float>(kLeast);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeRelu(const Problem& p) {
  if (p.scale < 0)
    return Unsupported("linear.relu needs a scale above 0: weights of no sign");
  return MakeScanPlan(p, ReluSpec(p));
}

Cost ReluCost(const Problem& p) { return ScanCost(p, ReluSpec(p)); }

// Weights scale relu(q_i).relu(k_j) over their sum.
void ReluOracle(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out) {
  oracle::Linear(p, in, out, kLeast, 0, [&](const oracle::Row& x, int64_t j) {
    return oracle::ReluScore(p, x.q, x.k + j * p.qk_dim);
  });
}

}  // namespace

const Variant& linear_relu() {
  static const Variant variant = {
      .name = "linear.relu",
      .title = "linear attention, features relu: a sum of positive parts",
      .source = "Qin et al. 2022, arXiv:2202.08791, equations 6-8",
      // Weights are products of features: no score is there to multiply.
      .traits = {.scores = false},
      .scaled = false,
      .cost = ReluCost,
      .plan = MakeRelu,
      .oracle = ReluOracle,
  };
  return variant;
}

}  // namespace saccade::variants
