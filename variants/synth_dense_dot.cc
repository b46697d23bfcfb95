// synth.dense_dot: the dense Synthesizer and dot products in one sum.
//
//   o_i = sum_j softmax_j(q_i.k_j / sqrt(d) + h_i.w_j) v_j,   h = relu(x W)
//
// w_j [d] are learned, for each head its own: a token says what it looks for,
// by q, and which positions it looks at whatever stands there, by h, an input.
//
// Knob: length, the positions that there are keys w for: longer problems are
// refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.2, "mixture of
// Synthesizers".
//
// Ours differs: both parts count alike, where the paper learns a weight of
// each: w and the projections to q, k and h can grow and shrink themselves. No
// bias in the layers of h.
//
// Shapes: q, k, h [B, H, T, d], v [B, H, Tk, e]. Time Tq Tk (2 d + e) a head;
// decoding holds all values and keys, with what is learned. bf16 is not there:
// what is learned is f32.
#include "learned_rows.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

LearnedRows RowsOf(const Problem &p) {
  return {.content = true, .width = p.qk_dim, .length = p.knobs.Int("length")};
}

// Scores of fresh models are about 1.
double Deviation(const Problem &p) {
  return 1 / std::sqrt(static_cast<double>(p.qk_dim));
}

Result<std::unique_ptr<Plan>> MakeDense(const Problem &p) {
  return MakeLearnedRowsPlan(p, RowsOf(p), LearnedRowsSpec(p, RowsOf(p)),
                             Deviation(p));
}

Cost DenseCost(const Problem &p) {
  return TileCost(p, LearnedRowsSpec(p, RowsOf(p)));
}

int64_t Parameters(const Problem &p) { return RowsOf(p).Numbers(); }

void Start(const Problem &p, int64_t head, float *to) {
  DrawRows(RowsOf(p), head, Deviation(p), to);
}

void DenseOracle(const Problem &p, const OracleInputs &in,
                 const OracleOutputs &out) {
  const RowsOracle rows(p, RowsOf(p), in, Deviation(p));
  const Problem &wide = rows.problem;
  oracle::DotSoftmax(
      wide, rows.inputs, out, [](int64_t, int64_t) { return true; },
      oracle::Bias(wide, rows.inputs));
}

}  // namespace

const Variant &synth_dense_dot() {
  static const Variant variant = {
      .name = "synth.dense_dot",
      .title = "dense Synthesizer and dot products in one sum",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.1.1",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"length", "positions that there are keys for", 1024, 256,
                 1e6}},
      .inputs = {{.name = "hidden",
                  .doc = "h, which learned keys are read by",
                  .value_width = false,
                  .key_width = true,
                  .activation = Activation::kRelu}},
      .parameters = Parameters,
      .start = Start,
      .cost = DenseCost,
      .plan = MakeDense,
      .oracle = DenseOracle,
  };
  return variant;
}

}  // namespace saccade::variants
