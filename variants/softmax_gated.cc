// softmax.gated: softmax attention whose output passes a gate.
//
//   o_i = g_i (.) sum_j softmax_j(s_ij) v_j,   s_ij = scale q_i.k_j + bias_ij
//
// In a layer g = sigmoid(x W), one for each element of each head.
//
// Source: Qiu et al. 2025, arXiv:2505.06708, section 2.2, at the place they
// call G1 (behind the weighted sum, by head and element), which they found
// best.
//
// Ours differs in nothing. The gate is an input, as its projection is the
// layer's.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], gate
// [B, Hq, Tq, e]. Time Tq Tk (d + e) a head.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec GatedSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  spec.gated = true;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeGated(const Problem& p) {
  return MakeTilePlan(p, GatedSpec(p));
}

Cost GatedCost(const Problem& p) { return TileCost(p, GatedSpec(p)); }

void GatedOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  oracle::DotSoftmax(
      p, in, out, [](int64_t, int64_t) { return true; }, oracle::Bias(p, in));
  oracle::Gate(p, in.extra[0], out);
}

}  // namespace

const Variant& softmax_gated() {
  static const Variant variant = {
      .name = "softmax.gated",
      .title = "softmax attention whose output passes a sigmoid gate",
      .source = "Qiu et al. 2025, arXiv:2505.06708, section 2.2, place G1",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .inputs = {{.name = "gate",
                  .doc = "g, multiplies the output",
                  .activation = Activation::kSigmoid}},
      .cost = GatedCost,
      .plan = MakeGated,
      .oracle = GatedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
