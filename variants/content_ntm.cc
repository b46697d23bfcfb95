// content.ntm: the content addressing of the neural Turing machine.
//
//   o_i = sum_j softmax_j(beta_i cos(q_i, k_j)) v_j
//
// beta_i, the key strength, is an input: softplus of a projection. The cosine
// of a row of zeros is 0.
//
// Source: Graves et al. 2014, arXiv:1410.5401, equations 5 and 6.
//
// Ours differs: interpolation with the last weights, the shift and the
// sharpening (equations 7-9), which the paper puts behind, are left out: they
// tie each row of weights to the one before. Problem::scale multiplies beta.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], strength
// [B, Hq, Tq, 1]. Time Tq Tk (d + e) a head.
#include "engine/tile.h"
#include "oracle.h"
#include "row_scale.h"

namespace saccade::variants {
namespace {

Result<std::unique_ptr<Plan>> MakeNtm(const Problem& p) {
  return MakeScaledPlan(p, {.unit = true, .factor = 0},
                        MakeTilePlan(p, MakeTileSpec(p)));
}

Cost NtmCost(const Problem& p) { return TileCost(p, MakeTileSpec(p)); }

double Length(const double* x, int64_t n) {
  double square = 0;
  for (int64_t c = 0; c < n; ++c) square += x[c] * x[c];
  return std::sqrt(square);
}

void NtmOracle(const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row& x, int64_t j) {
        const double* const k = x.k + j * p.qk_dim;
        const double lengths = Length(x.q, p.qk_dim) * Length(k, p.qk_dim);
        if (lengths == 0) return oracle::Score{0, 0};
        const double beta =
            in.extra[0][(x.batch * p.q_heads + x.head) * p.q_len + x.row];
        const oracle::Score dot = oracle::DotScore(p, x.q, k);
        // Three numbers are rounded beside the products: both unit rows, and
        // the one that carries beta.
        return oracle::Score{beta * dot.value / lengths,
                             4 * std::abs(beta) * dot.size / lengths};
      });
}

}  // namespace

const Variant& content_ntm() {
  static const Variant variant = {
      .name = "content.ntm",
      .title = "softmax of cosines times a strength: addressing by content",
      .source = "Graves et al. 2014, arXiv:1410.5401, equations 5 and 6",
      .traits = {.window = true,
                 .scores = false,
                 .lse = true,
                 .rounds_weights = true,
                 .rounds_copies = true},
      .inputs = {{.name = "strength",
                  .doc = "beta, multiplies the cosines",
                  .value_width = false,
                  .activation = Activation::kSoftplus}},
      .scaled = false,
      .cost = NtmCost,
      .plan = MakeNtm,
      .oracle = NtmOracle,
  };
  return variant;
}

}  // namespace saccade::variants
