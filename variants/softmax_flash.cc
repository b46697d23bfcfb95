// softmax.flash: softmax attention, tiled, with an online softmax.
//
//   o_i = sum_j softmax_j(s_ij) v_j,   s_ij = scale q_i.k_j + bias_ij
//
// Source: Dao et al. 2022, arXiv:2205.14135, algorithm 1; the online softmax
// is Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3. The same
// function as softmax.naive.
//
// Ours differs in layout: queries lie in the lanes, keys and values are read
// where they are, blocks that a mask hides are never touched.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq Tk (d + e) a head; nothing of size Tq Tk is held.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

Result<std::unique_ptr<Plan>> MakeFlash(const Problem& p) {
  return MakeTilePlan(p, MakeTileSpec(p));
}

Cost FlashCost(const Problem& p) { return TileCost(p, MakeTileSpec(p)); }

void FlashOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  oracle::DotSoftmax(
      p, in, out, [](int64_t, int64_t) { return true; }, oracle::Bias(p, in));
}

}  // namespace

const Variant& softmax_flash() {
  static const Variant variant = {
      .name = "softmax.flash",
      .title = "softmax attention, tiled with an online softmax",
      .source = "Dao et al. 2022, arXiv:2205.14135, algorithm 1",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .cost = FlashCost,
      .plan = MakeFlash,
      .oracle = FlashOracle,
  };
  return variant;
}

}  // namespace saccade::variants
