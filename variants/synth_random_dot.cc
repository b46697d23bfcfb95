// synth.random_dot: the random Synthesizer and dot products in one sum.
//
//   o_i = sum_j softmax_j(q_i.k_j / sqrt(d) + R_ij) v_j
//
// with R [length, length] learned, for each head its own: what stands where,
// and which position looks at which whatever stands there. Row i is the query's
// position; where there are more queries than keys, its place among them.
//
// Knob: length, the positions that the table is for: longer problems are
// refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.2, "mixture of
// Synthesizers".
//
// Ours differs: both parts count alike, where the paper learns a weight of
// each: R and the projections to q and k can grow and shrink themselves. R
// starts as synth.random's.
//
// Shapes: q, k [B, H, T, d], v [B, H, Tk, e]. Time Tq Tk (d + e) a head;
// forward reads the table's Tq Tk numbers once a sequence, and backward makes
// its gradient by scores made once more. Decoding holds all keys and values.
// bf16 is not there: what is learned is f32.
#include <cmath>
#include <vector>

#include "engine/score_table.h"
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

int64_t LengthOf(const Problem &p) { return p.knobs.Int("length"); }

int64_t Parameters(const Problem &p) { return LengthOf(p) * LengthOf(p); }

void Start(const Problem &p, int64_t head, float *to) {
  DrawScoreTable(head, LengthOf(p), to);
}

Result<std::unique_ptr<Plan>> MakeRandomDot(const Problem &p) {
  return MakeScoreTablePlan(p, LengthOf(p), /*content=*/true);
}

Cost RandomDotCost(const Problem &p) {
  const TileSpec spec = MakeTileSpec(p);
  return WithScoreTable(p, spec, TileCost(p, spec));
}

void RandomDotOracle(const Problem &p, const OracleInputs &in,
                     const OracleOutputs &out) {
  const int64_t length = LengthOf(p);
  std::vector<float> start;
  if (in.bias == nullptr) start = ScoreTables(p, length);
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row &x, int64_t j) {
        const int64_t at = (x.head * length + TableRow(p) + x.row) * length + j;
        const double s = in.bias ? in.bias[at] : double{start[at]};
        const oracle::Score dot = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
        return oracle::Score{dot.value + s, dot.size + std::abs(s)};
      });
}

}  // namespace

const Variant &synth_random_dot() {
  static const Variant variant = {
      .name = "synth.random_dot",
      .title = "random Synthesizer and dot products in one sum",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.2",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"length", "positions that the table is for", 1024, 256, 8192}},
      .parameters = Parameters,
      .start = Start,
      .cost = RandomDotCost,
      .plan = MakeRandomDot,
      .oracle = RandomDotOracle,
  };
  return variant;
}

}  // namespace saccade::variants
