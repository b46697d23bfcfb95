// sparse.strided: softmax over the last l keys and every l-th before them.
//
//   o_i = sum_j softmax_j(s_ij) v_j over j with 0 <= i - j < l, or
//         i - j >= 0 and (i - j) mod l = 0
//
// Knob: stride l, in keys. Causal by definition.
//
// Source: Child et al. 2019, arXiv:1904.10509, section 4.2, strided attention;
// the two factorised heads are merged into one, their section 5.2.
//
// Ours differs in how it is computed: the far keys of a residue class of
// queries are one residue class of keys, so that both are dense.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq (l + Tk / l) (d + e) a head.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec StridedSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  const int64_t stride = p.knobs.Int("stride");
  Part& near = spec.pattern[0];
  Part far = near;
  far.step = stride;
  far.low = std::max<int64_t>(1, -FloorDiv(-near.low, stride));
  far.high = FloorDiv(near.high, stride);
  near.high = std::min(near.high, stride - 1);
  spec.pattern.push_back(far);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeStrided(const Problem& p) {
  return MakeTilePlan(p, StridedSpec(p));
}

Cost StridedCost(const Problem& p) { return TileCost(p, StridedSpec(p)); }

void StridedOracle(const Problem& p, const OracleInputs& in,
                   const OracleOutputs& out) {
  const int64_t stride = p.knobs.Int("stride");
  oracle::DotSoftmax(
      p, in, out,
      [&](int64_t i, int64_t j) {
        return i - j < stride || (i - j) % stride == 0;
      },
      oracle::Bias(p, in));
}

}  // namespace

const Variant& sparse_strided() {
  static const Variant variant = {
      .name = "sparse.strided",
      .title = "softmax over the last keys and every l-th before them",
      .source = "Child et al. 2019, arXiv:1904.10509, section 4.2",
      .traits = {.bidirectional = false,
                 .window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"stride", "keys seen in a row, and between those seen beyond",
                 128, 1, 1e9}},
      .cost = StridedCost,
      .plan = MakeStrided,
      .oracle = StridedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
