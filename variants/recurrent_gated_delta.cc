// recurrent.gated_delta: the delta rule on a state that fades first.
//
//   S_i = a_i S_(i-1) + k_i (b_i (v_i - a_i S_(i-1)^T k_i))^T
//   o_i = scale q_i S_i,   a_i = e^(x_i / tau), x_i = ln sigmoid(.)
//
// with q and k brought to length 1, and scale d^(-1/2). The state fades before
// it is corrected: what is already known of k_i has faded, too. a_i and b_i are
// of the token, one number each a key head.
//
// Knob: tau, which keeps a_i near 1.
//
// Source: Yang et al. 2024, arXiv:2412.06464, equation 10.
//
// Ours differs: the paper takes a_i from Mamba-2, e^(-A softplus(.)) with a
// learned A a head; ours is as in recurrent.gla. No convolution before, no norm
// and gate behind: those are of a layer.
//
// Shapes and cost as recurrent.delta, and forget x [B, Hkv, T, 1].
#include <cmath>

#include "engine/chunk.h"
#include "oracle_delta.h"

namespace saccade::variants {
namespace {

ChunkSpec GatedDeltaSpec(const Problem& p) {
  ChunkSpec spec = MakeChunkSpec(p);
  spec.unit = true;
  spec.beta_input = 0;
  spec.decay = ChunkDecay::kNumber;
  spec.decay_input = 1;
  spec.sharpness = static_cast<float>(1 / p.knobs.Number("tau"));
  return spec;
}

Result<std::unique_ptr<Plan>> MakeGatedDelta(const Problem& p) {
  return MakeChunkPlan(p, GatedDeltaSpec(p));
}

Cost GatedDeltaCost(const Problem& p) {
  return ChunkCost(p, GatedDeltaSpec(p));
}

void GatedDeltaOracle(const Problem& p, const OracleInputs& in,
                      const OracleOutputs& out) {
  const double sharpness = GatedDeltaSpec(p).sharpness;
  oracle::Delta(p, in, in.extra[0], out, [&](int64_t row) {
    return std::exp(sharpness * in.extra[1][row]);
  });
}

}  // namespace

const Variant& recurrent_gated_delta() {
  static const Variant variant = {
      .name = "recurrent.gated_delta",
      .title = "gated delta rule: a state that fades, then is corrected",
      .source = "Yang et al. 2024, arXiv:2412.06464, equation 10",
      .traits = {.bidirectional = false, .scores = false},
      .knobs = {{"tau", "what the factor's logarithm is divided by", 16, 1, 1e4,
                 false}},
      .inputs = {{.name = "beta",
                  .doc = "b, the share by which a key's value is replaced",
                  .per_query = false,
                  .value_width = false,
                  .activation = Activation::kSigmoid},
                 {.name = "forget",
                  .doc = "x, the factor's logarithm times tau",
                  .per_query = false,
                  .value_width = false,
                  .activation = Activation::kLogSigmoid}},
      .cost = GatedDeltaCost,
      .plan = MakeGatedDelta,
      .oracle = GatedDeltaOracle,
  };
  return variant;
}

}  // namespace saccade::variants
