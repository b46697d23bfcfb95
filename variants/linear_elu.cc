// linear.elu: attention whose weights are products of features, so that keys
// and values are summed once and every query reads the sum.
//
//   o_i = phi(q_i) S_i / (phi(q_i).z_i + 1e-6),   phi(x) = elu(x) + 1
//   S_i = sum_j phi(k_j) v_j^T,   z_i = sum_j phi(k_j)   over visible j
//
// Source: Katharopoulos et al. 2020, arXiv:2006.16236, equations 4-7 (the
// feature map) and 9-12 (the causal form); 1e-6 is the authors' code's.
//
// Ours differs in nothing but the order of sums: the state is read once for a
// few tokens, which see each other by their scores (engine/scan_tile-inl.h).
// A scale, when one is given, multiplies phi(q).phi(k); it cancels but for the
// 1e-6.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], S [d, e] a
// key head. Cost a token and head: 4 d e flops forward, 12 d e backward, 4 d e
// for a decoding step of any context, whose state is 2 (d e + d) floats.
#include "engine/scan.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kEpsilon = 1e-6;

ScanSpec EluSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  spec.feature = FeatureMap::kEluPlusOne;
  spec.read_out = ReadOut::kNormalised;
  spec.epsilon = static_cast<float>(kEpsilon);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeElu(const Problem& p) {
  return MakeScanPlan(p, EluSpec(p));
}

Cost EluCost(const Problem& p) { return ScanCost(p, EluSpec(p)); }

double Feature(double x) { return x > 0 ? x + 1 : std::exp(x); }

oracle::Score Weight(const Problem& p, const double* q, const double* k) {
  oracle::Score w{0, 0};
  for (int64_t c = 0; c < p.qk_dim; ++c) {
    const double product = p.scale * Feature(q[c]) * Feature(k[c]);
    w.value += product;
    w.size += std::abs(product) * (3 + std::abs(q[c]) + std::abs(k[c]));
  }
  return w;
}

// The explicit form: weights w_ij = scale phi(q_i).phi(k_j) over their sum.
//
// size: a product of a weight is in error by 1 u for itself, by 1 u for each of
// its features, and by |x| u for the rounding of each feature's argument x, as
// that of an exponential is.
void EluOracle(const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  oracle::Linear(p, in, out, oracle::kNoLeast, kEpsilon,
                 [&](const oracle::Row& x, int64_t j) {
                   return Weight(p, x.q, x.k + j * p.qk_dim);
                 });
}

}  // namespace

const Variant& linear_elu() {
  static const Variant variant = {
      .name = "linear.elu",
      .title = "linear attention, features elu + 1: a sum that queries read",
      .source = "Katharopoulos et al. 2020, arXiv:2006.16236, equations 4-12",
      // Weights are products of features: no score is there to multiply.
      .traits = {.scores = false},
      .scaled = false,
      .cost = EluCost,
      .plan = MakeElu,
      .oracle = EluOracle,
  };
  return variant;
}

}  // namespace saccade::variants
