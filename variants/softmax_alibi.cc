// softmax.alibi: softmax attention with a penalty linear in distance.
//
//   o_i = sum_j softmax_j(s_ij) v_j,   s_ij = scale q_i.k_j - m_h |i - j|
//
// Slopes: with p the largest power of two <= H, m_h = 2^(-8(h+1)/p) for h < p
// and 2^(-4(2(h-p)+1)/p) for the heads beyond.
//
// Source: Press et al. 2021, arXiv:2108.12409, equation 1 and section 3; the
// heads beyond a power of two follow the authors' code. The bidirectional form
// with |i - j| is theirs too.
//
// Ours differs in nothing. The simple 2^(-8(h+1)/H) for every H is wrong when H
// is no power of two.
//
// Shapes and cost as softmax.flash.
#include "engine/tile.h"
#include "oracle.h"
#include "position.h"

namespace saccade::variants {
namespace {

TileSpec AlibiSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  spec.slopes = AlibiSlopes(p.q_heads);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeAlibi(const Problem& p) {
  return MakeTilePlan(p, AlibiSpec(p));
}

Cost AlibiCost(const Problem& p) { return TileCost(p, AlibiSpec(p)); }

void AlibiOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  oracle::DotSoftmax(
      p, in, out, [](int64_t, int64_t) { return true; },
      oracle::Bias::Alibi(p));
}

}  // namespace

const Variant& softmax_alibi() {
  static const Variant variant = {
      .name = "softmax.alibi",
      .title = "softmax attention with a penalty linear in distance",
      .source = "Press et al. 2021, arXiv:2108.12409, equation 1",
      .traits = {.window = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .cost = AlibiCost,
      .plan = MakeAlibi,
      .oracle = AlibiOracle,
  };
  return variant;
}

}  // namespace saccade::variants
