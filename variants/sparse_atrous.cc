// sparse.atrous: softmax over every r-th key, and the nearest.
//
//   o_i = sum_j softmax_j(s_ij) v_j over j with (i - j) mod r = 0, or
//         |i - j| <= k when k > 0
//
// Knobs: rate r; local k, in keys, 0 for none. Under a causal mask j <= i too.
//
// Source: Su 2019, "Sparse attention to save memory and computation" (in
// Chinese, kexue.fm/archives/6853): atrous self-attention; with a local window
// it is the sparse self-attention of the same article.
//
// Ours differs in that the local part counts |i - j| <= k whole, as the article
// says; a residue class of queries sees one residue class of keys, both dense.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq (2 k + Tk / r) (d + e) a head.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec AtrousSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  const Part mask = spec.pattern[0];
  const int64_t rate = p.knobs.Int("rate"), local = p.knobs.Int("local");
  Part far = mask;
  far.step = rate;
  far.low = -FloorDiv(-mask.low, rate);
  far.high = FloorDiv(mask.high, rate);
  if (local == 0) {
    spec.pattern = {far};
    return spec;
  }
  // The classes leave out what the local part has seen.
  spec.pattern[0].reach = local;
  const int64_t skipped = local / rate;
  Part past = far, future = far;
  past.low = std::max(far.low, skipped + 1);
  future.high = std::min(far.high, -(skipped + 1));
  spec.pattern.push_back(past);
  if (p.mask == Mask::kNone) spec.pattern.push_back(future);
  return spec;
}

Result<std::unique_ptr<Plan>> MakeAtrous(const Problem& p) {
  return MakeTilePlan(p, AtrousSpec(p));
}

Cost AtrousCost(const Problem& p) { return TileCost(p, AtrousSpec(p)); }

void AtrousOracle(const Problem& p, const OracleInputs& in,
                  const OracleOutputs& out) {
  const int64_t rate = p.knobs.Int("rate"), local = p.knobs.Int("local");
  oracle::DotSoftmax(
      p, in, out,
      [&](int64_t i, int64_t j) {
        return (i - j) % rate == 0 || (local > 0 && std::abs(i - j) <= local);
      },
      oracle::Bias(p, in));
}

}  // namespace

const Variant& sparse_atrous() {
  static const Variant variant = {
      .name = "sparse.atrous",
      .title = "softmax over every r-th key, and the nearest",
      .source = "Su 2019, kexue.fm/archives/6853",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"rate", "keys from one that is seen to the next", 8, 1, 1e9},
                {"local", "nearest keys on either side seen as well", 0, 0,
                 1e9}},
      .cost = AtrousCost,
      .plan = MakeAtrous,
      .oracle = AtrousOracle,
  };
  return variant;
}

}  // namespace saccade::variants
