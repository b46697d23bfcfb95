// sparse.fixed: softmax over the own block and the last columns of each block.
//
//   o_i = sum_j softmax_j(s_ij) v_j over j with floor(j / l) = floor(i / l), or
//         j mod l >= l - c
//
// Knobs: block l and columns c <= l, in keys. Under a causal mask j <= i too.
//
// Source: Child et al. 2019, arXiv:1904.10509, section 4.2, fixed attention;
// the two factorised heads are merged into one, their section 5.2.
//
// Ours differs in nothing.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq (l + c Tk / l) (d + e) a head.
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

TileSpec FixedSpec(const Problem& p) {
  TileSpec spec = MakeTileSpec(p);
  Part& part = spec.pattern[0];
  part.kind = Part::Kind::kFixed;
  part.block = p.knobs.Int("block");
  part.columns = p.knobs.Int("columns");
  return spec;
}

Result<std::unique_ptr<Plan>> MakeFixed(const Problem& p) {
  if (p.knobs.Int("columns") > p.knobs.Int("block"))
    return Invalid("sparse.fixed: knob columns is " + p.knobs.Text("columns") +
                   ", must not exceed block, " + p.knobs.Text("block"));
  return MakeTilePlan(p, FixedSpec(p));
}

Cost FixedCost(const Problem& p) { return TileCost(p, FixedSpec(p)); }

void FixedOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  const int64_t block = p.knobs.Int("block");
  const int64_t columns = p.knobs.Int("columns");
  const auto block_of = [&](int64_t t) {
    return std::floor(static_cast<double>(t) / static_cast<double>(block));
  };
  oracle::DotSoftmax(
      p, in, out,
      [&](int64_t i, int64_t j) {
        return block_of(i) == block_of(j) || j % block >= block - columns;
      },
      oracle::Bias(p, in));
}

}  // namespace

const Variant& sparse_fixed() {
  static const Variant variant = {
      .name = "sparse.fixed",
      .title = "softmax over the own block and each block's last columns",
      .source = "Child et al. 2019, arXiv:1904.10509, section 4.2",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"block", "keys of a block", 128, 1, 1e9},
                {"columns", "last keys of each block that all see", 32, 0,
                 1e9}},
      .cost = FixedCost,
      .plan = MakeFixed,
      .oracle = FixedOracle,
  };
  return variant;
}

}  // namespace saccade::variants
