// gated.gau_softmax: the gated attention unit with a softmax of constant
// entropy.
//
//   o_i = u_i (.) sum_j softmax_j(g_i scale q_i.k_j) v_j,
//   g_i = ln(n_i) / ln(n),  n_i = max(keys that row i sees, 16)
//
// In a layer as gated.gau: q and k from one z, one head, no MLP beside it. Of
// more keys a softmax makes flatter weights; g_i, 1 at n keys, works against
// it.
//
// Knob: n, the number of keys at which scores are as they are (the training
// length, for models that are read at others).
//
// Source: Su 2022, GAU-alpha, kexue.fm/archives/9052; the scale is
// kexue.fm/archives/8823.
//
// Ours differs: n_i counts the keys that a query sees, not those of the whole
// sequence, so that a prefix gives the prefix, and is at least 16.
//
// Shapes: q [B, Hq, Tq, s], k [B, Hkv, Tk, s], v [B, Hkv, Tk, e], gate u
// [B, Hq, Tq, e]. Time Tq Tk (s + e) a head.
#include "engine/tile.h"
#include "oracle.h"
#include "row_scale.h"

namespace saccade::variants {
namespace {

constexpr int64_t kLeastKeys = 16;

TileSpec UnitSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  spec.gated = true;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeUnit(const Problem& p) {
  TileSpec spec = UnitSpec(p);
  const double at_one = std::log(p.knobs.Number("n"));
  auto gain = [pattern = spec.pattern, kv_len = p.kv_len, at_one](int64_t i) {
    const int64_t seen = VisibleKeys(pattern, i, kv_len);
    const auto n = static_cast<double>(std::max(seen, kLeastKeys));
    return static_cast<float>(std::log(n) / at_one);
  };
  return MakeScaledPlan(p, {.gain = std::move(gain)},
                        MakeTilePlan(p, std::move(spec)));
}

Cost UnitCost(const Problem& p) { return TileCost(p, UnitSpec(p)); }

void UnitOracle(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out) {
  const oracle::Bias bias(p, in);
  const auto sees = [&](int64_t i, int64_t j) {
    return oracle::MaskSees(p, i, j);
  };
  std::vector<double> gain(p.q_len);
  for (int64_t t = 0; t < p.q_len; ++t) {
    int64_t n = 0;
    for (int64_t j = 0; j < p.kv_len; ++j)
      n += sees(oracle::QueryPosition(p, t), j);
    gain[t] = std::log(static_cast<double>(std::max(n, kLeastKeys))) /
              std::log(p.knobs.Number("n"));
  }
  oracle::Softmax(p, in, out, sees, [&](const oracle::Row& x, int64_t j) {
    const oracle::Score s = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
    const double b = bias(x.head, x.i - j);
    return oracle::Score{gain[x.row] * s.value + b,
                         gain[x.row] * s.size + std::abs(b)};
  });
  oracle::Gate(p, in.extra[0], out);
}

}  // namespace

const Variant& gated_gau_softmax() {
  static const Variant variant = {
      .name = "gated.gau_softmax",
      .title = "gated attention unit with a softmax of constant entropy",
      .source = "Su 2022, GAU-alpha, kexue.fm/archives/9052 and 8823",
      .traits = {.window = true,
                 .bias = true,
                 .lse = true,
                 .rounds_weights = true,
                 .rounds_copies = true},
      .knobs = {{"n", "keys at which scores are as they are", 512, 2, 1e9}},
      .inputs = {{.name = "gate",
                  .doc = "u, multiplies the output",
                  .activation = Activation::kSilu}},
      .layer = {.heads = 1,
                .shared_qk = true,
                .qk_activation = Activation::kSilu,
                .v_activation = Activation::kSilu,
                .value_expansion = 2,
                .replaces_mlp = true},
      .cost = UnitCost,
      .plan = MakeUnit,
      .oracle = UnitOracle,
  };
  return variant;
}

}  // namespace saccade::variants
