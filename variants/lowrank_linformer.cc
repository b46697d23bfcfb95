// lowrank.linformer: softmax attention to a few learned mixtures of all keys.
//
//   o_i = sum_r softmax_r(scale q_i.k'_r) v'_r,   k' = E k,  v' = F v
//
// with E, F [rank, length] learned, for each head its own, of which as many
// columns count as there are keys.
//
// Knobs: rank; length, the positions that there are columns for: longer
// problems are refused.
//
// Source: Wang et al. 2020, arXiv:2006.04768, equation 7.
//
// Ours differs in what E and F are before training: even numbers of deviation
// length^(-1/2), by which mixtures of all keys have the size of a key. Nothing
// is shared between heads or layers, nor between E and F.
//
// A mixture is of all tokens: there is no causal form, and no Extend.
//
// Shapes: q [B, H, Tq, d], k [B, H, Tk, d], v [B, H, Tk, e]. Time
// (Tq + Tk) rank (d + e) a head. bf16 is not there: what is learned is f32.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/projection.h"
#include "even.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

// More numbers than this want a machine of their own.
constexpr int64_t kMostNumbers = int64_t{1} << 30;

int64_t RankOf(const Problem &p) { return p.knobs.Int("rank"); }
int64_t LengthOf(const Problem &p) { return p.knobs.Int("length"); }

int64_t Parameters(const Problem &p) { return 2 * RankOf(p) * LengthOf(p); }

void Start(const Problem &p, int64_t head, float *to) {
  DrawEven(head * Parameters(p), Parameters(p),
           1 / std::sqrt(static_cast<double>(LengthOf(p))), to);
}

std::vector<float> StartOf(const Problem &p) {
  const int64_t n = Parameters(p);
  std::vector<float> start(static_cast<size_t>(p.q_heads * n));
  for (int64_t h = 0; h < p.q_heads; ++h) Start(p, h, start.data() + h * n);
  return start;
}

Result<std::unique_ptr<Plan>> MakeLinformer(const Problem &p) {
  if (p.kv_len > LengthOf(p))
    return Unsupported("mixtures of keys are learned for " +
                       std::to_string(LengthOf(p)) +
                       " positions, which the knob length says: these are " +
                       std::to_string(p.kv_len));
  if (Parameters(p) > kMostNumbers / p.q_heads)
    return Unsupported("mixtures of " + std::to_string(p.q_heads) +
                       " heads with rank=" + std::to_string(RankOf(p)) +
                       ", length=" + std::to_string(LengthOf(p)) +
                       " hold more than 2^30 numbers");
  return MakeProjectionPlan(p, RankOf(p), LengthOf(p), StartOf(p));
}

// Mixtures, and softmax over them.
Cost LinformerCost(const Problem &p) {
  const auto d = static_cast<double>(p.qk_dim),
             e = static_cast<double>(p.v_dim);
  const auto heads = static_cast<double>(p.batch * p.q_heads);
  const auto q_len = static_cast<double>(p.q_len),
             kv_len = static_cast<double>(p.kv_len);
  const auto rank = static_cast<double>(RankOf(p));
  Cost cost;
  cost.forward_flops = 2 * heads * rank * (q_len + kv_len) * (d + e);
  cost.backward_flops =
      2 * heads * rank * (q_len * (3 * d + 2 * e) + kv_len * 2 * (d + e));
  cost.forward_bytes = 4 * (heads * (q_len + kv_len) * (d + e) +
                            2 * static_cast<double>(p.q_heads) * rank * kv_len);
  return cost;
}

// m x, m [rank, length] of which columns 0 .. n - 1 count, x [n, width]; and
// the sum of the products' absolute values.
struct Mixed {
  Mixed(const Problem &p, const double *m, const double *x, int64_t width)
      : value(static_cast<size_t>(RankOf(p) * width), 0), size(value) {
    for (int64_t r = 0; r < RankOf(p); ++r)
      for (int64_t t = 0; t < p.kv_len; ++t)
        for (int64_t c = 0; c < width; ++c) {
          const double term = m[r * LengthOf(p) + t] * x[t * width + c];
          value[r * width + c] += term;
          size[r * width + c] += std::abs(term);
        }
  }
  std::vector<double> value, size;
};

// size: as softmax's; a score and a value are off by their mixture's size.
void LinformerOracle(const Problem &p, const OracleInputs &in,
                     const OracleOutputs &out) {
  const int64_t rank = RankOf(p), d = p.qk_dim, e = p.v_dim;
  std::vector<double> start;
  if (in.bias == nullptr)
    for (const float x : StartOf(p)) start.push_back(x);
  const double *const learned = in.bias ? in.bias : start.data();
  for (int64_t head = 0; head < p.batch * p.q_heads; ++head) {
    const double *const m = learned + head % p.q_heads * Parameters(p);
    const Mixed k(p, m, in.k + head * p.kv_len * d, d),
        v(p, m + rank * LengthOf(p), in.v + head * p.kv_len * e, e);
    for (int64_t row = head * p.q_len; row < (head + 1) * p.q_len; ++row) {
      std::vector<oracle::Score> s(rank);
      double top = -INFINITY, sum = 0, mean = 0;
      for (int64_t r = 0; r < rank; ++r) {
        s[r] = oracle::DotScore(p, in.q + row * d, k.value.data() + r * d);
        // A mixture's size is no less than its absolute value.
        s[r].size =
            2 * oracle::DotScore(p, in.q + row * d, k.size.data() + r * d).size;
        if (!(s[r].value <= top)) top = s[r].value;
      }
      for (oracle::Score &x : s) {
        x.value = std::exp(x.value - top);
        sum += x.value;
        mean += x.value * x.size;
      }
      for (int64_t c = 0; c < e; ++c)
        out.out[row * e + c] = out.size[row * e + c] = 0;
      for (int64_t r = 0; r < rank; ++r) {
        const double w = s[r].value / sum;
        for (int64_t c = 0; c < e; ++c) {
          const double term = w * v.value[r * e + c];
          out.out[row * e + c] += term;
          out.size[row * e + c] +=
              std::abs(term) * (1 + s[r].size + mean / sum) +
              w * v.size[r * e + c];
        }
      }
    }
  }
}

}  // namespace

const Variant &lowrank_linformer() {
  static const Variant variant = {
      .name = "lowrank.linformer",
      .title = "Linformer: softmax attention to learned mixtures of keys",
      .source = "Wang et al. 2020, arXiv:2006.04768, equation 7",
      // Mixtures, scores of them and outputs are rounded, one after the other.
      .kappa = 24,
      .traits = {.causal = false,
                 .grouped_heads = false,
                 .bf16 = false,
                 .extend = false},
      .knobs = {{"rank", "mixtures", 256, 1, 4096},
                {"length", "positions that there are columns for", 1024, 256,
                 1e6}},
      .parameters = Parameters,
      .start = Start,
      .cost = LinformerCost,
      .plan = MakeLinformer,
      .oracle = LinformerOracle,
  };
  return variant;
}

}  // namespace saccade::variants
