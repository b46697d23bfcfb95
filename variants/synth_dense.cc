// synth.dense: the dense Synthesizer, which learns a key for every position.
//
//   o_i = sum_j softmax_j(q_i.w_j) v_j,   q = relu(x W)
//
// so that a token says which positions it looks at, whatever stands there. w_j
// [d] are learned, for each head its own; k is not read.
//
// Knob: length, the positions that there are keys for: longer problems are
// refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.1.1.
//
// Ours differs: no bias in either layer.
//
// Shapes: q [B, H, Tq, d], v [B, H, Tk, e]. Time Tq Tk (d + e) a head; decoding
// holds all values, and keys. bf16 is not there: what is learned is f32.
#include "learned_rows.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

LearnedRows RowsOf(const Problem &p) {
  return {.width = p.qk_dim, .length = p.knobs.Int("length")};
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

const Variant &synth_dense() {
  static const Variant variant = {
      .name = "synth.dense",
      .title = "dense Synthesizer: a learned key for every position",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.1.1",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .rotary = false,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"length", "positions that there are keys for", 1024, 256,
                 1e6}},
      .layer = {.reads_k = false, .qk_activation = Activation::kRelu},
      .parameters = Parameters,
      .start = Start,
      .scaled = false,
      .cost = DenseCost,
      .plan = MakeDense,
      .oracle = DenseOracle,
  };
  return variant;
}

}  // namespace saccade::variants
