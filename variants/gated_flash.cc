// gated.flash: the gated attention unit in groups of tokens, of linear time.
//
//   o_i = u_i (.) (sum_j relu(q_i.k_j / g)^2 v_j over j <= i of i's own group
//                  + sum_j q'_i.k'_j / g v_j over those of earlier groups)
//
// in groups of g tokens, the first at position 0. In a layer as gated.gau: one
// head, no MLP beside it.
//
// Knob: blocks, of 32 tokens, in a group: g is 256 by default.
//
// Source: Hua et al. 2022, arXiv:2202.10447, section 4 (mixed chunk attention,
// "FLASH").
//
// Ours differs: the paper takes q, k, q' and k' from one z by four affine maps;
// ours has q and q' beside each other in q, and k and k' in k, so that the
// linear half has a z of its own. Positions that turn q and k would mix the two
// halves: there are none. It is causal only.
//
// Shapes: q [B, Hq, Tq, 2 s], k [B, Hkv, Tk, 2 s], v [B, Hkv, Tk, e], gate u
// [B, Hq, Tq, e]. Time Tq (g / 2 (s + e) + 2 s e) a head; decoding holds keys
// and values, of which it reads the group's, and 2 s e floats.
#include <cmath>

#include "engine/chunk.h"
#include "engine/grouped_plan.h"
#include "engine/pattern.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

int64_t Group(const Problem& p) { return p.knobs.Int("blocks") * kChunkTokens; }

double Scale(const Problem& p) {
  return p.scale / static_cast<double>(Group(p));
}

Result<std::unique_ptr<Plan>> MakeFlash(const Problem& p) {
  if (p.qk_dim < 2)
    return Unsupported(
        "gated.flash needs q and k wider than 1: a half of squared scores, one "
        "of linear ones");
  return MakeGroupedPlan(p, Group(p), static_cast<float>(Scale(p)));
}

Cost FlashCost(const Problem& p) { return GroupedCost(p, Group(p)); }

void FlashOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  const int64_t within = (p.qk_dim + 1) / 2, group = Group(p);
  const double scale = static_cast<float>(Scale(p));
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    const double* const u = in.extra[0] + (x.out - out.out);
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!oracle::MaskSees(p, x.i, j)) continue;
      const bool own = x.i / group == j / group;
      double s = 0, size = 0;
      for (int64_t at = own ? 0 : within; at < (own ? within : p.qk_dim);
           ++at) {
        const double product = scale * x.q[at] * x.k[j * p.qk_dim + at];
        s += product;
        size += std::abs(product);
      }
      double weight = s, weight_size = 2 * size;
      if (own) {
        // A score off by u |s| past 0 is worth (u |s|)^2; u of bf16 at most.
        const double relu = s < 0 ? 0 : s;
        weight = relu * relu;
        weight_size = weight + 2 * relu * size + 0x1p-8 * size * size;
      }
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = x.v[j * p.v_dim + c] * u[c];
        x.out[c] += weight * v;
        x.size[c] += weight_size * std::abs(v);
      }
    }
  });
}

}  // namespace

const Variant& gated_flash() {
  static const Variant variant = {
      .name = "gated.flash",
      .title = "gated unit in groups: squared ReLU within, linear before",
      .source = "Hua et al. 2022, arXiv:2202.10447, section 4",
      .traits = {.bidirectional = false,
                 .rotary = false,
                 .scores = false,
                 .rounds_weights = true,
                 .rounds_copies = true},
      .knobs = {{"blocks", "of 32 tokens, within which scores are squared", 8,
                 1, 1 << 15}},
      .inputs = {{.name = "gate",
                  .doc = "u, multiplies the output",
                  .activation = Activation::kSilu}},
      .layer = {.heads = 1,
                .shared_qk = true,
                .qk_activation = Activation::kSilu,
                .v_activation = Activation::kSilu,
                .value_expansion = 2,
                .replaces_mlp = true},
      .scaled = false,
      .cost = FlashCost,
      .plan = MakeFlash,
      .oracle = FlashOracle,
  };
  return variant;
}

}  // namespace saccade::variants
