// softmax.sink: softmax attention with a learned logit in the denominator.
//
//   o_i = sum_j e^s_ij v_j / (e^a_h + sum_j e^s_ij),   s_ij = scale q_i.k_j
//
// a_h is learned, one for each head: where nothing is worth looking at, weights
// go there instead of to some key, the first as a rule. a_h = 0 is "softmax
// plus one".
//
// Source: OpenAI 2025, gpt-oss model card, arXiv:2508.10925, section 2.2; Xiao
// et al. 2023, arXiv:2309.17453, section 3.3, have a learned sink token, and
// the zero one of Miller 2023 is a_h = 0.
//
// Ours differs in nothing. A sink is not keys that stay visible, which is the
// knob `sinks` of softmax.window. A row that sees no key has lse = a_h.
//
// Shapes and cost as softmax.flash. The tile engine begins each row's maximum
// and sum at a_h and 1 instead of -infinity and 0, so that no pass is longer.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec SinkSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  spec.sinks = true;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeSink(const Problem& p) {
  return MakeTilePlan(p, SinkSpec(p));
}

Cost SinkCost(const Problem& p) { return TileCost(p, SinkSpec(p)); }

int64_t Parameters(const Problem&) { return 1; }
void Start(const Problem&, int64_t, float* to) { *to = 0; }

void SinkOracle(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out) {
  std::vector<double> lse(p.batch * p.q_heads * p.q_len + 1);
  oracle::DotSoftmax(
      p, in, {out.out, out.size, lse.data()},
      [](int64_t, int64_t) { return true; }, oracle::Bias(p, in));
  for (int64_t row = 0; row + 1 < std::ssize(lse); ++row) {
    const double sink = in.bias ? in.bias[row / p.q_len % p.q_heads] : 0;
    // Of the whole sum, what keys have; NaN where they are.
    const double share = 1 / (1 + std::exp(sink - lse[row]));
    for (int64_t n = row * p.v_dim; n < (row + 1) * p.v_dim; ++n) {
      // One more rounding, and the sink's power.
      out.size[n] =
          share * (out.size[n] + std::abs(out.out[n]) *
                                     (1 + (1 - share) * (1 + std::abs(sink))));
      out.out[n] *= share;
    }
    if (out.lse == nullptr) continue;
    out.lse[row] = std::isnan(lse[row]) ? lse[row]
                   : lse[row] > sink
                       ? lse[row] + std::log1p(std::exp(sink - lse[row]))
                       : sink + std::log1p(std::exp(lse[row] - sink));
  }
}

}  // namespace

const Variant& softmax_sink() {
  static const Variant variant = {
      .name = "softmax.sink",
      .title = "softmax attention with a learned logit in the denominator",
      .source = "OpenAI 2025, gpt-oss model card, arXiv:2508.10925",
      .traits = {.window = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .parameters = Parameters,
      .start = Start,
      .cost = SinkCost,
      .plan = MakeSink,
      .oracle = SinkOracle,
  };
  return variant;
}

}  // namespace saccade::variants
