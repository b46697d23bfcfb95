// synth.factorized_dot: the factorized Synthesizer and dot products in one sum.
//
//   o_i = sum_j softmax_j(q_i.k_j / sqrt(d) + a_i.b_j) v_j
//
// with a, b [length, rank] learned, for each head its own: what stands where,
// and which position looks at which whatever stands there.
//
// Knobs: rank; length, the positions that there are rows for: longer problems
// are refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.2, "mixture of
// Synthesizers".
//
// Ours differs: both parts count alike, where the paper learns a weight of
// each: a, b and the projections to q and k can grow and shrink themselves.
//
// Shapes: q, k [B, H, T, d], v [B, H, Tk, e]. Time Tq Tk (d + rank + e) a head;
// decoding holds all values and keys, with what is learned. bf16 is not there:
// what is learned is f32.
#include "learned_rows.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

LearnedRows RowsOf(const Problem &p) {
  return {.queries = true,
          .content = true,
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

const Variant &synth_factorized_dot() {
  static const Variant variant = {
      .name = "synth.factorized_dot",
      .title = "factorized Synthesizer and dot products in one sum",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.2",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"rank", "of the matrix of scores", 8, 1, 1024},
                {"length", "positions that there are rows for", 1024, 256,
                 1e6}},
      .parameters = Parameters,
      .start = Start,
      .cost = FactorizedCost,
      .plan = MakeFactorized,
      .oracle = FactorizedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
