// softmax.softcap: softmax attention of scores that are kept below a cap.
//
//   o_i = sum_j softmax_j(s_ij) v_j,
//   s_ij = c tanh(scale q_i.k_j / c)
//
// Knob: cap c, in units of scores.
//
// Source: Gemma Team 2024, arXiv:2408.00118, section 2, where c is 50 for
// attention.
//
// Ours differs in nothing: the cap comes after the scale, before masks.
// softmax.flash with Problem::softcap computes the same, and takes biases too.
//
// Shapes and cost as softmax.flash; a hyperbolic tangent for each visible pair
// comes on top.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

Problem Capped(const Problem& p) {
  Problem capped = p;
  capped.softcap = static_cast<float>(p.knobs.Number("cap"));
  return capped;
}

Result<std::unique_ptr<Plan>> MakeSoftcap(const Problem& p) {
  return MakeTilePlan(p, MakeTileSpec(Capped(p)));
}

Cost SoftcapCost(const Problem& p) {
  return TileCost(p, MakeTileSpec(Capped(p)));
}

void SoftcapOracle(const Problem& p, const OracleInputs& in,
                   const OracleOutputs& out) {
  oracle::DotSoftmax(
      Capped(p), in, out, [](int64_t, int64_t) { return true; },
      oracle::Bias(p, in));
}

}  // namespace

const Variant& softmax_softcap() {
  static const Variant variant = {
      .name = "softmax.softcap",
      .title = "softmax attention of scores kept below a cap by tanh",
      .source = "Gemma Team 2024, arXiv:2408.00118, section 2",
      .traits = {.window = true,
                 .attn_mask = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"cap", "what scores stay below, c", 50, 0.1, 1e6, false}},
      .cost = SoftcapCost,
      .plan = MakeSoftcap,
      .oracle = SoftcapOracle,
  };
  return variant;
}

}  // namespace saccade::variants
