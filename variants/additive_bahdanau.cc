// additive.bahdanau: the attention that searched first.
//
//   o_i = sum_j softmax_j(s_ij) v_j,
//   s_ij = scale sum_u w_u tanh(q_iu + k_ju)
//
// w is learned, one number a unit and head; q and k are the projections W s
// and U h of the paper. Knob normed: w is g w / |w|, and tanh's argument has a
// learned bias b beside q and k. Learned numbers of a head: w, or w, g, b.
//
// Source: Bahdanau et al. 2014, arXiv:1409.0473, appendix A.1.2; normed is
// Salimans & Kingma 2016, arXiv:1602.07868, equation 2, as sequence-to-sequence
// libraries apply it, with g = 1 / sqrt(u) to start with.
//
// Ours differs: w begins at 1 / sqrt(u) for every unit, as tanh is odd and
// projections are random; and scale, 1 by default, is there.
//
// Shapes: q [B, Hq, Tq, u], k [B, Hkv, Tk, u], v [B, Hkv, Tk, e]. Time Tq Tk u
// hyperbolic tangents and Tq Tk e products a head: the kernel is bounded by the
// former (engine/additive.h says how it makes them). Backward takes the key
// range in parts, each with its own dq, which are added in order. Decoding
// holds all values, and all keys as kernels want them, which are 8 u bytes a
// token.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/additive_plan.h"
#include "engine/pattern.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

bool Normed(const Problem& p) { return p.knobs.Text("normed") == "yes"; }

int64_t Parameters(const Problem& p) {
  return Normed(p) ? 2 * p.qk_dim + 1 : p.qk_dim;
}

void Start(const Problem& p, int64_t, float* to) {
  const auto share =
      static_cast<float>(1 / std::sqrt(static_cast<double>(p.qk_dim)));
  std::fill_n(to, Parameters(p), 0.0f);
  std::fill_n(to, p.qk_dim, share);
  if (Normed(p)) to[p.qk_dim] = share;
}

// The weights that learned numbers stand for, and back from gradients by them.
class Weighing final : public AdditiveWeights {
 public:
  explicit Weighing(const Problem& p)
      : units_(p.qk_dim), normed_(Normed(p)), scale_(p.scale) {
    start_.resize(static_cast<size_t>(Parameters(p)));
    Start(p, 0, start_.data());
  }

  const float* start() const override { return start_.data(); }

  void Weights(const float* learned, float* w, float* b) const override {
    const double by = normed_ ? learned[units_] / Length(learned) : 1.0;
    for (int64_t u = 0; u < units_; ++u) {
      w[u] = static_cast<float>(scale_ * by * double{learned[u]});
      b[u] = normed_ ? learned[units_ + 1 + u] : 0;
    }
  }

  // Of w' = scale g w / |w|: dw = scale g (dw' - w (w.dw') / |w|^2) / |w|.
  void Gradient(const float* learned, const double* dw, const double* db,
                float* to) const override {
    if (!normed_) {
      for (int64_t u = 0; u < units_; ++u)
        to[u] = static_cast<float>(scale_ * dw[u]);
      return;
    }
    const double length = Length(learned), g = learned[units_];
    double along = 0;
    for (int64_t u = 0; u < units_; ++u) along += dw[u] * double{learned[u]};
    along /= length;
    for (int64_t u = 0; u < units_; ++u) {
      to[u] = static_cast<float>(scale_ * g / length *
                                 (dw[u] - along * double{learned[u]} / length));
      to[units_ + 1 + u] = static_cast<float>(db[u]);
    }
    to[units_] = static_cast<float>(scale_ * along);
  }

 private:
  double Length(const float* w) const {
    double square = 0;
    for (int64_t u = 0; u < units_; ++u) square += double{w[u]} * double{w[u]};
    return std::sqrt(square);
  }

  int64_t units_;
  bool normed_;
  double scale_;
  std::vector<float> start_;
};

Result<std::unique_ptr<Plan>> MakeBahdanau(const Problem& p) {
  return MakeAdditivePlan(p, std::make_unique<Weighing>(p));
}

// A unit of a pair: an addition, a hyperbolic tangent (counted as one), a
// product and a sum; backward once more, and its slope into q, k and w.
Cost BahdanauCost(const Problem& p) {
  const Pattern pattern = {MaskPart(p)};
  const auto batch = static_cast<double>(p.batch);
  const double q_heads = batch * static_cast<double>(p.q_heads);
  const double kv_heads = batch * static_cast<double>(p.kv_heads);
  const auto d = static_cast<double>(p.qk_dim),
             e = static_cast<double>(p.v_dim);
  const auto element = static_cast<double>(SizeOf(p.dtype));
  const double pairs =
      q_heads * VisiblePairs(pattern, QueryOffset(p), p.q_len, p.kv_len);
  Cost cost;
  cost.forward_flops = pairs * (4 * d + 2 * e);
  cost.backward_flops = pairs * (4 * d + 8 * d + 4 * e);
  cost.forward_bytes = element *
                       (q_heads * static_cast<double>(p.q_len) +
                        kv_heads * static_cast<double>(p.kv_len)) *
                       (d + e);
  if (p.mask != Mask::kNone && p.kv_len > 0) {
    const auto keys =
        static_cast<double>(VisibleKeys(pattern, p.kv_len - 1, p.kv_len));
    cost.decode_flops = q_heads * keys * (4 * d + 2 * e);
    cost.decode_bytes = element * (q_heads + kv_heads * keys) * (d + e);
  }
  return cost;
}

// As 1 - 2 / (1 + e^2x), which takes a third of std::tanh's time and is off by
// no more than the 1 it counts as.
double Tanh(double x) { return 1 - 2 / (1 + std::exp(2 * x)); }

// Each tanh counts as 1 in the score's size, for kernels may take it as
// 1 - 2 / (1 + e^2x), and what its argument's terms are off by comes with its
// slope.
void BahdanauOracle(const Problem& p, const OracleInputs& in,
                    const OracleOutputs& out) {
  const int64_t units = p.qk_dim, n = Parameters(p);
  const bool normed = Normed(p);
  std::vector<double> learned(p.q_heads * n);
  for (int64_t h = 0; h < p.q_heads; ++h) {
    std::vector<float> start(n);
    Start(p, h, start.data());
    for (int64_t x = 0; x < n; ++x)
      learned[h * n + x] = in.bias ? in.bias[h * n + x] : double{start[x]};
  }
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row& x, int64_t j) {
        const double* const own = learned.data() + x.head * n;
        double by = p.scale;
        if (normed) {
          double square = 0;
          for (int64_t u = 0; u < units; ++u) square += own[u] * own[u];
          by *= own[units] / std::sqrt(square);
        }
        oracle::Score s{0, 0};
        for (int64_t u = 0; u < units; ++u) {
          const double b = normed ? own[units + 1 + u] : 0;
          const double q = x.q[u], k = x.k[j * units + u];
          const double t = Tanh(q + k + b), w = by * own[u];
          s.value += w * t;
          s.size +=
              std::abs(w) *
              (1 + (1 - t * t) * (std::abs(q) + std::abs(k) + std::abs(b)));
        }
        return s;
      });
}

}  // namespace

const Variant& additive_bahdanau() {
  static const Variant variant = {
      .name = "additive.bahdanau",
      .title = "softmax of w . tanh(q + k): the attention that searched first",
      .source = "Bahdanau et al. 2014, arXiv:1409.0473, appendix A.1.2",
      .traits = {.window = true, .rotary = false, .scores = false, .lse = true},
      .knobs = {{"normed", "w is g w / |w|, with a bias beside q and k", 0, 0,
                 0, false, "no|yes"}},
      .parameters = Parameters,
      .start = Start,
      .scaled = false,
      .cost = BahdanauCost,
      .plan = MakeBahdanau,
      .oracle = BahdanauOracle,
  };
  return variant;
}

}  // namespace saccade::variants
