// linear.efficient: keys and values summed under d global attention maps, one a
// feature, which queries mix.
//
//   o_i = scale sum_c softmax(q_i)_c sum_j exp(k_jc) v_j / sum_j exp(k_jc)
//
// over visible j, softmax over the d elements of a query. Each row of weights
// sums to scale, 1 by default.
//
// Source: Shen et al. 2018, arXiv:1812.01243, equations 3-5 (bidirectional).
//
// Ours differs: under a causal mask the sums run, so that each query divides by
// those of its own keys. Powers are held relative to a frame per feature that
// moves up when a key passes it by e^8 (engine/scan_frame-inl.h), where the
// paper's softmax over keys needs the whole sequence's maximum.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], the sums
// [d, e] a key head. Cost a token and head: 4 d e flops forward, 12 d e
// backward, 4 d e for a decoding step of any context, whose state is 2 d e + 3
// d floats.
#include "engine/scan.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

ScanSpec EfficientSpec(const Problem& p) {
  ScanSpec spec = MakeScanSpec(p);
  spec.feature = FeatureMap::kSoftmax;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeEfficient(const Problem& p) {
  return MakeScanPlan(p, EfficientSpec(p));
}

Cost EfficientCost(const Problem& p) { return ScanCost(p, EfficientSpec(p)); }

// Powers of e, for which float64 has room, and the sizes of their errors: an
// exponent x is rounded when it is made and when the largest is taken from it.
struct Powers {
  std::vector<double> value, size;

  Powers(const double* x, int64_t n) : value(n), size(n) {
    for (int64_t i = 0; i < n; ++i) {
      value[i] = std::exp(x[i]);
      size[i] = value[i] * (1 + std::abs(x[i]));
    }
  }
};

// Weights w_ij = scale sum_c softmax(q_i)_c softmax_j(k_jc), the second over
// the visible keys, which stand at the front.
void EfficientOracle(const Problem& p, const OracleInputs& in,
                     const OracleOutputs& out) {
  const int64_t d = p.qk_dim;
  std::vector<Powers> keys;
  for (int64_t h = 0; h < p.batch * p.kv_heads; ++h)
    keys.emplace_back(in.k + h * p.kv_len * d, p.kv_len * d);
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    int64_t visible = 0;
    while (visible < p.kv_len && oracle::MaskSees(p, x.i, visible)) ++visible;
    const Powers& k = keys[visible > 0 ? (x.k - in.k) / (p.kv_len * d) : 0];
    const Powers q(x.q, d);
    double q_sum = 0, q_size = 0;
    std::vector<double> k_sum(d), k_size(d);
    for (int64_t c = 0; c < d; ++c) {
      q_sum += q.value[c];
      q_size += q.size[c];
    }
    for (int64_t j = 0; j < visible * d; ++j) {
      k_sum[j % d] += k.value[j];
      k_size[j % d] += k.size[j];
    }
    for (int64_t j = 0; j < visible; ++j) {
      oracle::Score w{0, 0};
      for (int64_t c = 0; c < d; ++c) {
        const double at = k.value[j * d + c];
        const double share = p.scale * q.value[c] / q_sum * at / k_sum[c];
        w.value += share;
        w.size += std::abs(share) *
                  (1 + q.size[c] / q.value[c] + k.size[j * d + c] / at +
                   q_size / q_sum + k_size[c] / k_sum[c]);
      }
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = x.v[j * p.v_dim + c];
        x.out[c] += w.value * v;
        x.size[c] += w.size * std::abs(v);
      }
    }
  });
}

}  // namespace

const Variant& linear_efficient() {
  static const Variant variant = {
      .name = "linear.efficient",
      .title =
          "efficient attention: softmax of queries and of keys, each apart",
      .source = "Shen et al. 2018, arXiv:1812.01243, equations 3-5",
      // Two softmaxes, and no score to multiply.
      .traits = {.scores = false},
      .scaled = false,
      .cost = EfficientCost,
      .plan = MakeEfficient,
      .oracle = EfficientOracle,
  };
  return variant;
}

}  // namespace saccade::variants
