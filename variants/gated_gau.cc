// gated.gau: the gated attention unit, squared ReLU for the softmax.
//
//   o_i = u_i (.) sum_j A_ij v_j,   A_ij = relu(scale q_i.k_j)^2 / n
//
// In a layer, q and k are gamma z + beta of one z = silu(x W_z) (s = 128 wide),
// u and v are silu(x W) (e = 2 d_model wide), there is one head, and the layer
// replaces attention and feed-forward both.
//
// Knobs: n, the length that the sum is divided by (the training length, fixed,
// so that the branch stays small and a prefix gives the prefix); norm: n, or
// n2 (n^2, as some code has it), or rows (the keys that row i sees).
//
// Source: Hua et al. 2022, arXiv:2202.10447, section 3, equations 1-4; the
// scale 1/sqrt(s) and the fixed n are Su 2022, kexue.fm/archives/8934.
//
// Shapes: q [B, Hq, Tq, s], k [B, Hkv, Tk, s], v [B, Hkv, Tk, e], gate u
// [B, Hq, Tq, e]. Time Tq Tk (s + e) a head.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec GauSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  const double n = p.knobs.Number("n");
  const std::string& norm = p.knobs.Text("norm");
  spec.normaliser =
      norm == "rows" ? Normaliser::kReluSquaredRows : Normaliser::kReluSquared;
  spec.divisor = norm == "n2" ? n * n : n;
  spec.gated = true;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeGau(const Problem& p) {
  return MakeTilePlan(p, GauSpec(p));
}

Cost GauCost(const Problem& p) { return TileCost(p, GauSpec(p)); }

void GauOracle(const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  const double n = p.knobs.Number("n");
  const std::string& norm = p.knobs.Text("norm");
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    double divisor = norm == "n2" ? n * n : n;
    if (norm == "rows") {
      divisor = 0;
      for (int64_t j = 0; j < p.kv_len; ++j)
        divisor += oracle::MaskSees(p, x.i, j);
    }
    const double* u = in.extra[0] + (x.out - out.out);
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!oracle::MaskSees(p, x.i, j)) continue;
      const oracle::Score s = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
      const double relu = s.value < 0 ? 0 : s.value;
      // A score off by u |s| past 0 is worth (u |s|)^2; u of bf16 at most.
      const double kink = 0x1p-8 * s.size * s.size;
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = x.v[j * p.v_dim + c] * u[c] / divisor;
        x.out[c] += relu * relu * v;
        x.size[c] += (relu * relu + 2 * relu * s.size + kink) * std::abs(v);
      }
    }
  });
}

}  // namespace

const Variant& gated_gau() {
  static const Variant variant = {
      .name = "gated.gau",
      .title = "gated attention unit: squared ReLU, one head, its own MLP",
      .source =
          "Hua et al. 2022, arXiv:2202.10447, section 3; "
          "Su 2022, kexue.fm/archives/8934",
      .traits = {.window = true, .rounds_weights = true},
      .knobs = {{"n", "the length sums are divided by, in tokens", 512, 1, 1e9},
                {"norm", "divide by n, n squared, or the visible keys", 0, 0, 0,
                 false, "n|n2|rows"}},
      .inputs = {{.name = "gate",
                  .doc = "u, multiplies the output",
                  .activation = Activation::kSilu}},
      .layer = {.heads = 1,
                .shared_qk = true,
                .qk_activation = Activation::kSilu,
                .v_activation = Activation::kSilu,
                .value_expansion = 2,
                .replaces_mlp = true},
      .cost = GauCost,
      .plan = MakeGau,
      .oracle = GauOracle,
  };
  return variant;
}

}  // namespace saccade::variants
