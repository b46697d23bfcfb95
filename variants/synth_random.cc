// synth.random: the random Synthesizer, whose scores are a learned table that
// no token has a say in.
//
//   o_i = sum_j softmax_j(R_ij) v_j
//
// with R [length, length] learned, for each head its own; q and k are not read.
// Row i is the query's position; where there are more queries than keys, its
// place among them.
//
// Knob: length, the positions that the table is for: longer problems are
// refused.
//
// Source: Tay et al. 2020, arXiv:2005.00743, section 3.1.2 (random Synthesizer,
// trained).
//
// Ours differs in what R is before training: a normal distribution's place is
// taken by the even one of the same deviation, 1, which a table of millions is
// drawn from in a thousandth of a second.
//
// Shapes: v [B, H, Tk, e]. Time Tq Tk e a head; forward reads the table's Tq Tk
// numbers once a sequence, backward (4 Tq Tk e) twice. Decoding holds all
// values. bf16 is not there: what is learned is f32.
#include <cmath>
#include <vector>

#include "content_free.h"
#include "engine/score_table.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

int64_t LengthOf(const Problem &p) { return p.knobs.Int("length"); }

int64_t Parameters(const Problem &p) { return LengthOf(p) * LengthOf(p); }

void Start(const Problem &p, int64_t head, float *to) {
  DrawScoreTable(head, LengthOf(p), to);
}

Result<std::unique_ptr<Plan>> MakeRandom(const Problem &p) {
  return MakeScoreTablePlan(p, LengthOf(p), /*content=*/false);
}

Cost RandomCost(const Problem &p) {
  const TileSpec spec = ContentFreeSpec(p);
  return WithScoreTable(p, spec, ContentFreeCost(p, spec));
}

void RandomOracle(const Problem &p, const OracleInputs &in,
                  const OracleOutputs &out) {
  std::vector<float> start;
  if (in.bias == nullptr) start = ScoreTables(p, LengthOf(p));
  const int64_t length = LengthOf(p);
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row &x, int64_t j) {
        const int64_t at = (x.head * length + TableRow(p) + x.row) * length + j;
        const double s = in.bias ? in.bias[at] : double{start[at]};
        return oracle::Score{s, std::abs(s)};
      });
}

}  // namespace

const Variant &synth_random() {
  static const Variant variant = {
      .name = "synth.random",
      .title = "random Synthesizer: a learned table of scores",
      .source = "Tay et al. 2020, arXiv:2005.00743, section 3.1.2",
      .traits = {.grouped_heads = false,
                 .window = true,
                 .rotary = false,
                 .scores = false,
                 .bf16 = false},
      .knobs = {{"length", "positions that the table is for", 1024, 256, 8192}},
      .layer = {.reads_q = false, .reads_k = false},
      .parameters = Parameters,
      .start = Start,
      .scaled = false,
      .cost = RandomCost,
      .plan = MakeRandom,
      .oracle = RandomOracle,
  };
  return variant;
}

}  // namespace saccade::variants
