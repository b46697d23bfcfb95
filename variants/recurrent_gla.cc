// recurrent.gla: gated linear attention, a sum of keys and values whose rows
// fade each by a factor that the token says.
//
//   S_i = diag(a_i) S_(i-1) + k_i v_i^T,   r_i = scale q_i S_i
//   o_i = u_i (.) (r_i - mean(r_i)) / sqrt(var(r_i) + 1e-6)
//   a_i = e^(x_i / tau), x_i = ln sigmoid(.)
//
// with mean and variance over the e elements of a head, and scale d^(-1/2). In
// a layer x is the logarithm of a sigmoid of a projection, d wide a key head,
// and u is silu(x W).
//
// Knob: tau, which keeps factors near 1.
//
// Source: Yang et al. 2023, arXiv:2312.06635, equation 3 and section 4.4; tau
// 16 is theirs.
//
// Ours differs: the paper makes x by a projection of rank 16, ours by a whole
// one. Within a chunk the paper divides keys by products of factors, in a
// second level of chunks; ours walks from token to token (engine/chunk.h), so
// that factors may be anything.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], forget x
// [B, Hkv, Tk, d], gate u [B, Hq, Tq, e], S [d, e] a key head. Cost a token and
// head: 4 d e flops forward, 8 d e backward, 4 d e for a decoding step of any
// context, whose state is d e floats. Forward keeps a state every 16 tokens for
// backward.
#include <algorithm>
#include <cmath>

#include "engine/chunk.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kEpsilon = 1e-6;

ChunkSpec GlaSpec(const Problem& p) {
  ChunkSpec spec = MakeChunkSpec(p);
  spec.decay = ChunkDecay::kVector;
  spec.decay_input = 0;
  spec.sharpness = static_cast<float>(1 / p.knobs.Number("tau"));
  spec.norm = static_cast<float>(kEpsilon);
  spec.gate_input = 1;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeGla(const Problem& p) {
  if (p.v_dim == 1)
    return Unsupported(
        "recurrent.gla needs values wider than 1: of a single number a norm "
        "leaves nothing");
  return MakeChunkPlan(p, GlaSpec(p));
}

Cost GlaCost(const Problem& p) { return ChunkCost(p, GlaSpec(p)); }

// The explicit form: weights scale sum_f q_if k_jf a_(j+1)f .. a_if. A product
// of n factors is off by the roundings of n factors and products, which go
// either way: by their root, that is.
void GlaOracle(const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  const int64_t group = p.q_heads / p.kv_heads;
  const double sharpness = GlaSpec(p).sharpness;
  // Of all keys at once, for every query needs them: steps and factors.
  std::vector<double> steps(
      in.extra[0], in.extra[0] + p.batch * p.kv_heads * p.kv_len * p.qk_dim);
  std::vector<double> factors;
  for (double& step : steps) {
    step *= sharpness;
    factors.push_back(std::exp(step));
  }
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    const int64_t first =
        (x.batch * p.kv_heads + x.head / group) * p.kv_len * p.qk_dim;
    std::vector<double> fade(p.qk_dim, 1.0), log(p.qk_dim, 0.0);
    for (int64_t j = std::min(x.i, p.kv_len - 1); j >= 0; --j) {
      double weight = 0, size = 0;
      for (int64_t f = 0; f < p.qk_dim; ++f) {
        const double product =
            p.scale * x.q[f] * x.k[j * p.qk_dim + f] * fade[f];
        weight += product;
        size += std::abs(product) * (2 + std::abs(log[f]) +
                                     std::sqrt(static_cast<double>(x.i - j)));
      }
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = x.v[j * p.v_dim + c];
        x.out[c] += weight * v;
        x.size[c] += size * std::abs(v);
      }
      for (int64_t f = 0; f < p.qk_dim; ++f) {
        fade[f] *= factors[first + j * p.qk_dim + f];
        log[f] += steps[first + j * p.qk_dim + f];
      }
    }
    if (x.i < 0 || p.kv_len == 0) return;
    oracle::NormAndGate(in.extra[1] + (x.out - out.out), p.v_dim, kEpsilon, x);
  });
}

}  // namespace

const Variant& recurrent_gla() {
  static const Variant variant = {
      .name = "recurrent.gla",
      .title = "gated linear attention: a sum whose rows fade as tokens say",
      .source = "Yang et al. 2023, arXiv:2312.06635, equation 3",
      .traits = {.bidirectional = false},
      .knobs = {{"tau", "what the factors' logarithms are divided by", 16, 1,
                 1e4, false}},
      .inputs = {{.name = "forget",
                  .doc = "x, the factors' logarithms times tau",
                  .per_query = false,
                  .value_width = false,
                  .key_width = true,
                  .activation = Activation::kLogSigmoid},
                 {.name = "gate",
                  .doc = "u, multiplies the normalised output",
                  .activation = Activation::kSilu}},
      .cost = GlaCost,
      .plan = MakeGla,
      .oracle = GlaOracle,
  };
  return variant;
}

}  // namespace saccade::variants
