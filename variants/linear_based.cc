// linear.based: weights that are the Taylor series of softmax's, to the second
// order.
//
//   o_i = sum_j w_ij v_j / sum_j w_ij over visible j,  w_ij = 1 + s + s^2 / 2
//   s = scale q_i.k_j of the first elements of q_i and k_j, scale d^(-1/2)
//
// which are products of 1 + d + d (d + 1) / 2 features, d the number of these
// elements: 153 of 16. Weights are at least 1/2.
//
// Knob: elements, at most as many as q and k have.
//
// Source: Arora et al. 2024, arXiv:2402.18668, section 4.1.
//
// Ours differs: the paper projects q and k to 16 elements, ours reads the first
// of wider ones; its scale is of that width, ours by default of the whole. The
// short windows that its model has in other layers are softmax.window.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], the sum
// [features m, e] a key head. Cost a token and head: 4 m e flops forward, 12 m
// e backward, 4 m e for a decoding step of any context, whose state is 2 m (e +
// 1) floats.
#include <algorithm>
#include <cmath>

#include "engine/scan.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

ScanSpec BasedSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  spec.scale = 1;
  spec.feature = FeatureMap::kTaylor;
  spec.elements = std::min(p.qk_dim, p.knobs.Int("elements"));
  spec.root = std::sqrt(p.scale);
  spec.read_out = ReadOut::kNormalised;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeBased(const Problem& p) {
  if (p.scale < 0)
    return Unsupported(
        "linear.based needs a scale above 0, whose root features take");
  return MakeScanPlan(p, BasedSpec(p));
}

Cost BasedCost(const Problem& p) { return ScanCost(p, BasedSpec(p)); }

// A feature is a product of two rounded elements, a weight one of two features.
void BasedOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  const int64_t n = std::min(p.qk_dim, p.knobs.Int("elements"));
  oracle::Linear(
      p, in, out, oracle::kNoLeast, 0, [&](const oracle::Row& x, int64_t j) {
        double s = 0, size = 0;
        for (int64_t f = 0; f < n; ++f) {
          const double product = p.scale * x.q[f] * x.k[j * p.qk_dim + f];
          s += product;
          size += std::abs(product);
        }
        return oracle::Score{1 + s + s * s / 2, 1 + 4 * size + 4 * size * size};
      });
}

}  // namespace

const Variant& linear_based() {
  static const Variant variant = {
      .name = "linear.based",
      .title = "linear attention of softmax's Taylor series, second order",
      .source = "Arora et al. 2024, arXiv:2402.18668, section 4.1",
      // Weights are products of features: no score is there to multiply.
      .traits = {.scores = false},
      .knobs = {{"elements", "of q and k that are read", 16, 1, 64}},
      .cost = BasedCost,
      .plan = MakeBased,
      .oracle = BasedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
