// recurrent.retention: a sum of keys and values that fades by a fixed factor a
// token, normalised head by head and gated.
//
//   S_i = g_h S_(i-1) + k_i v_i^T,   r_i = scale q_i S_i
//   o_i = u_i (.) (r_i - mean(r_i)) / sqrt(var(r_i) + 1e-6)
//
// with g_h = 1 - 2^(-5-h) of key head h, mean and variance over the e elements
// of a head, and scale d^(-1/2). In a layer u is silu(x W), e wide.
//
// Source: Sun et al. 2023, arXiv:2307.08621, equations 5-8.
//
// Ours differs: the paper turns q and k by xPos, which is a position here
// (recurrent.retention+xpos or +rope). The paper divides scores by row sums
// that the norm takes out again; ours does not. It is causal only, as the
// paper's.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], gate u
// [B, Hq, Tq, e], S [d, e] a key head. Cost a token and head: 4 d e flops
// forward, 12 d e backward, 4 d e for a decoding step of any context, whose
// state is 2 d e floats.
#include <algorithm>
#include <cmath>

#include "engine/scan.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kEpsilon = 1e-6;

double Decay(int64_t head) {
  return 1 - std::exp2(-5 - static_cast<double>(head));
}

ScanSpec RetentionSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  for (int64_t h = 0; h < p.kv_heads; ++h)
    spec.decay.push_back(static_cast<float>(Decay(h)));
  spec.norm = static_cast<float>(kEpsilon);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeRetention(const Problem& p) {
  if (p.v_dim == 1)
    return Unsupported(
        "recurrent.retention needs values wider than 1: of a single number a "
        "norm leaves nothing");
  return MakeScanPlan(p, RetentionSpec(p));
}

Cost RetentionCost(const Problem& p) { return ScanCost(p, RetentionSpec(p)); }

// The explicit form: weights scale g^(i-j) q_i.k_j; powers and products round
// once each.
void RetentionOracle(const Problem& p, const OracleInputs& in,
                     const OracleOutputs& out) {
  const int64_t group = p.q_heads / p.kv_heads;
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    const double g = static_cast<float>(Decay(x.head / group));
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!oracle::MaskSees(p, x.i, j)) continue;
      const oracle::Score s = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
      const double fade = std::pow(g, static_cast<double>(x.i - j));
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = fade * x.v[j * p.v_dim + c];
        x.out[c] += s.value * v;
        x.size[c] += 2 * s.size * std::abs(v);
      }
    }
    oracle::NormAndGate(in.extra[0] + (x.out - out.out), p.v_dim, kEpsilon, x);
  });
}

}  // namespace

const Variant& recurrent_retention() {
  static const Variant variant = {
      .name = "recurrent.retention",
      .title =
          "retention: a sum that fades by a fixed factor a head, normed "
          "and gated",
      .source = "Sun et al. 2023, arXiv:2307.08621, equations 5-8",
      .traits = {.bidirectional = false},
      .inputs = {{.name = "gate",
                  .doc = "u, multiplies the normalised output",
                  .activation = Activation::kSilu}},
      .cost = RetentionCost,
      .plan = MakeRetention,
      .oracle = RetentionOracle,
  };
  return variant;
}

}  // namespace saccade::variants
