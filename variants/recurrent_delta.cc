// recurrent.delta: the delta rule, a state that is corrected rather than added
// to.
//
//   S_i = S_(i-1) + k_i (b_i (v_i - S_(i-1)^T k_i))^T,   o_i = scale q_i S_i
//
// with q and k brought to length 1, and scale d^(-1/2): what the state says of
// a key is replaced, by a share b_i, by its value. b_i is an input, one number
// a key and head, the sigmoid of a projection.
//
// Source: Schlag et al. 2021, arXiv:2102.11174, equation 24; unit rows and the
// chunked WY form are of Yang et al. 2024, arXiv:2406.06484, sections 3.2-3.4.
//
// Ours differs: no convolution before, no norm behind: those are of a layer.
//
// Shapes: q [B, Hq, T, d], k [B, Hkv, T, d], v [B, Hkv, T, e], beta
// [B, Hkv, T, 1], S [d, e] a key head. Cost a token and head: 6 d e flops
// forward, 12 d e backward, 6 d e for a decoding step of any context, whose
// state is d e floats. Chunks of 32 tokens add half as much again to what is
// counted (engine/chunk.h); forward keeps a state each for backward.
#include "engine/chunk.h"
#include "oracle_delta.h"

namespace saccade::variants {
namespace {

ChunkSpec DeltaSpec(const Problem& p) {
  ChunkSpec spec = MakeChunkSpec(p);
  spec.unit = true;
  spec.beta_input = 0;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeDelta(const Problem& p) {
  return MakeChunkPlan(p, DeltaSpec(p));
}

Cost DeltaCost(const Problem& p) { return ChunkCost(p, DeltaSpec(p)); }

void DeltaOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  oracle::Delta(p, in, in.extra[0], out, [](int64_t) { return 1.0; });
}

}  // namespace

const Variant& recurrent_delta() {
  static const Variant variant = {
      .name = "recurrent.delta",
      .title = "delta rule: a state that is corrected rather than added to",
      .source =
          "Schlag et al. 2021, arXiv:2102.11174, equation 24; Yang et al. "
          "2024, arXiv:2406.06484",
      .traits = {.bidirectional = false, .scores = false},
      .inputs = {{.name = "beta",
                  .doc = "b, the share by which a key's value is replaced",
                  .per_query = false,
                  .value_width = false,
                  .activation = Activation::kSigmoid}},
      .cost = DeltaCost,
      .plan = MakeDelta,
      .oracle = DeltaOracle,
  };
  return variant;
}

}  // namespace saccade::variants
