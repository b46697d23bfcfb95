// softmax.window: softmax attention over the last keys, and the first few.
//
//   o_i = sum_j softmax_j(s_ij) v_j over j with |i - j| < W, or j < S
//
// Knobs: size W, in keys, itself included; sinks S, keys from the start of the
// sequence that stay visible. Under a causal mask j <= i as well.
//
// Source: the window is Child et al. 2019, arXiv:1904.10509, and Beltagy et
// al. 2020, arXiv:2004.05150, section 3.1; sinks are Xiao et al. 2023,
// arXiv:2309.17453, section 3.2.
//
// Ours differs: libraries disagree whether a window of W holds W keys or W + 1;
// ours holds W. Positions of sinks are those of the sequence.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq (W + S) (d + e) a head; decoding holds the sinks and the window only.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec WindowSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  spec.pattern[0].reach = p.knobs.Int("size") - 1;
  spec.pattern[0].sinks = p.knobs.Int("sinks");
  return spec;
}

Result<std::unique_ptr<Plan>> MakeWindow(const Problem& p) {
  return MakeTilePlan(p, WindowSpec(p));
}

Cost WindowCost(const Problem& p) { return TileCost(p, WindowSpec(p)); }

void WindowOracle(const Problem& p, const OracleInputs& in,
                  const OracleOutputs& out) {
  const int64_t size = p.knobs.Int("size"), sinks = p.knobs.Int("sinks");
  oracle::DotSoftmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return std::abs(i - j) < size || j < sinks; },
      oracle::Bias(p, in));
}

}  // namespace

const Variant& softmax_window() {
  static const Variant variant = {
      .name = "softmax.window",
      .title = "softmax attention over a sliding window, with sinks",
      .source =
          "Beltagy et al. 2020, arXiv:2004.05150, section 3.1; sinks: "
          "Xiao et al. 2023, arXiv:2309.17453, section 3.2",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"size", "keys a query sees, itself included", 256, 1, 1e9},
                {"sinks", "first keys that stay visible", 0, 0, 1e6}},
      .cost = WindowCost,
      .plan = MakeWindow,
      .oracle = WindowOracle,
  };
  return variant;
}

}  // namespace saccade::variants
