// synth.factorized: the factorized random Synthesizer, whose weights no token
// has a say in.
//
//   o_i = sum_j softmax_j(a_i.b_j) v_j
//
// with a, b [length, rank] learned, for each head its own; q and k are not
// read.
//
// Knobs: rank; length, the positions that there are rows for: longer problems
// are refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.2, "factorized random".
//
// Ours differs in nothing.
//
// Shapes: v [B, H, Tk, e]. Time Tq Tk (rank + e) a head; decoding holds all
// values. bf16 is not there: what is learned is f32.
#include "learned_rows.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

LearnedRows RowsOf(const Problem &p) {
  return {.queries = true,
          .width = p.knobs.Int("rank"),
          .length = p.knobs.Int("length")};
}

// Scores of fresh models are about 1.
double Deviation(const Problem &p) {
  return std::pow(static_cast<double>(p.knobs.Int("rank")), -0.25);
}

Result<std::unique_ptr<Plan>> MakeFactorized(const Problem &p) {
  return MakeLearnedRowsPlan(p, RowsOf(p), LearnedRowsSpec(p, RowsOf(p)),
                             Deviation(p));
}

Cost FactorizedCost(const Problem &p) {
  return TileCost(p, LearnedRowsSpec(p, RowsOf(p)));
}

int64_t Parameters(const Problem &p) { return RowsOf(p).Numbers(); }

void Start(const Problem &p, int64_t head, float *to) {
  DrawRows(RowsOf(p), head, Deviation(p), to);
}

void FactorizedOracle(const Problem &p, const OracleInputs &in,
                      const OracleOutputs &out) {
  const RowsOracle rows(p, RowsOf(p), in, Deviation(p));
  const Problem &narrow = rows.problem;
  oracle::DotSoftmax(
      narrow, rows.inputs, out, [](int64_t, int64_t) { return true; },
      oracle::Bias(narrow, rows.inputs));
}

}  // namespace

const Variant &synth_factorized() {
  static const Variant variant = {
      .name = "synth.factorized",
      .title = "factorized Synthesizer: learned weights, without content",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.2",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .rotary = false,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"rank", "of the matrix of scores", 8, 1, 1024},
                {"length", "positions that there are rows for", 1024, 256,
                 1e6}},
      .layer = {.reads_q = false, .reads_k = false},
      .parameters = Parameters,
      .start = Start,
      .scaled = false,
      .cost = FactorizedCost,
      .plan = MakeFactorized,
      .oracle = FactorizedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
