// Pieces of float64 oracles: the explicit N x N form, written from the
// equations and from nothing in the engines. Slow and obvious.
#ifndef SACCADE_COMMON_ORACLE_H_
#define SACCADE_COMMON_ORACLE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "saccade/variant.h"

namespace saccade::oracle {

/// A score, and the sum of the absolute values that made it up.
struct Score {
  double value, size;
};

/// Position of a query row when key row 0 has position 0.
inline int64_t QueryPosition(const Problem& p, int64_t row) {
  return p.mask == Mask::kCausalTopLeft ? row : row + p.kv_len - p.q_len;
}

/// The problem's mask, window and distances: may query i see key j at all?
inline bool MaskSees(const Problem& p, int64_t i, int64_t j) {
  if (p.mask != Mask::kNone && j > i) return false;
  if (i - j < p.least_distance || i - j > p.most_distance) return false;
  return p.window == 0 || std::abs(i - j) < p.window;
}

/// scale q_i.k_j.
inline Score DotScore(const Problem& p, const double* q, const double* k) {
  Score s{0, 0};
  for (int64_t c = 0; c < p.qk_dim; ++c) {
    s.value += q[c] * k[c];
    s.size += std::abs(q[c] * k[c]);
  }
  return {p.scale * s.value, std::abs(p.scale) * s.size};
}

/// The problem's softcap of a score. Its own rounding is of |cap t|, which the
/// lesser of size and cap bounds, and grows with the score's terms as size
/// does.
inline Score Capped(const Problem& p, const Score& s) {
  if (p.softcap == 0) return s;
  const double cap = p.softcap, t = std::tanh(s.value / cap);
  return {cap * t, (1 - t * t) * s.size + std::min(s.size, cap)};
}

/// ReRoPE's scores: q.k turned by the clipped distance.
class Clipped {
 public:
  explicit Clipped(const Problem& p);
  bool any() const { return window_ > 0; }
  /// scale q_i R(i - j) k_j, without a bias.
  Score operator()(const Problem& p, const double* q, const double* k,
                   int64_t distance) const;

 private:
  int64_t window_ = 0, half_ = 0;
  std::vector<double> cos_, sin_;  // [distance 0 .. window][pair]
};

/// One query row of one head, with the keys and values of its key head.
struct Row {
  const double *q, *k, *v;
  int64_t batch, head;  // query head
  int64_t row, i;       // row of q, and its position
  double *out, *size, *lse;

  double MaskOf(const Problem& p, const OracleInputs& in, int64_t j) const {
    return in
        .attn_mask[((batch * p.q_heads + head) * p.q_len + row) * p.kv_len + j];
  }
};

/// Calls row(Row) for every query row; out and size are zeroed before.
template <class F>
void ForRows(const Problem& p, const OracleInputs& in, const OracleOutputs& out,
             F row) {
  const int64_t group = p.q_heads / p.kv_heads;
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.q_heads; ++h)
      for (int64_t t = 0; t < p.q_len; ++t) {
        const int64_t r = (b * p.q_heads + h) * p.q_len + t;
        const int64_t kv = (b * p.kv_heads + h / group) * p.kv_len;
        Row x{in.q + r * p.qk_dim,
              in.k + kv * p.qk_dim,
              in.v + kv * p.v_dim,
              b,
              h,
              t,
              QueryPosition(p, t),
              out.out + r * p.v_dim,
              out.size + r * p.v_dim,
              out.lse ? out.lse + r : nullptr};
        for (int64_t c = 0; c < p.v_dim; ++c) x.out[c] = x.size[c] = 0;
        row(x);
      }
}

/// o_i = sum_j softmax_j(s_ij) v_j over j with sees(i, j); 0 and -inf when
/// there is none. score(Row, j) -> Score; a pair whose score is -infinity is
/// not seen either.
///
/// size: a relative error u in each product of a score moves p_ij by
/// p_ij (a_ij + sum_j' p_ij' a_ij') u, with a the score's own size.
template <class Sees, class ScoreOf>
void Softmax(const Problem& p, const OracleInputs& in, const OracleOutputs& out,
             Sees sees, ScoreOf score) {
  constexpr Score kUnseen{-std::numeric_limits<double>::infinity(), 0};
  std::vector<Score> s(p.kv_len);
  ForRows(p, in, out, [&](const Row& x) {
    double top = kUnseen.value;
    for (int64_t j = 0; j < p.kv_len; ++j) {
      s[j] = sees(x.i, j) ? score(x, j) : kUnseen;
      if (s[j].value > top || std::isnan(s[j].value)) top = s[j].value;
      if (std::isnan(top)) break;
    }
    double sum = 0, mean = 0;
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (s[j].value == kUnseen.value) continue;
      const double w = std::exp(s[j].value - top);
      sum += w;
      mean += w * s[j].size;
    }
    if (x.lse) *x.lse = top + std::log(sum);  // -inf when nothing was seen
    for (int64_t j = 0; j < p.kv_len && sum != 0; ++j) {
      if (s[j].value == kUnseen.value) continue;
      const double weight = std::exp(s[j].value - top) / sum;
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double term = weight * x.v[j * p.v_dim + c];
        x.out[c] += term;
        x.size[c] += std::abs(term) * (1 + s[j].size + mean / sum);
      }
    }
  });
}

/// o (.) gate, of the same shape.
inline void Gate(const Problem& p, const double* gate,
                 const OracleOutputs& out) {
  for (int64_t n = 0; n < p.batch * p.q_heads * p.q_len * p.v_dim; ++n) {
    out.out[n] *= gate[n];
    out.size[n] *= std::abs(gate[n]);
  }
}

/// What a problem's positions add to scores, from their papers' equations: a
/// table over heads and distances. See distance_bias.h for the formulas.
class Bias {
 public:
  Bias(const Problem& p, const OracleInputs& in);
  /// ALiBi's, whatever the problem says.
  static Bias Alibi(const Problem& p);

  double operator()(int64_t head, int64_t distance) const {
    return values_.empty() ? 0 : values_[head * width_ + distance + width_ / 2];
  }

 private:
  Bias() = default;
  template <class F>
  void Tabulate(const Problem& p, F of);

  int64_t width_ = 0;  // distances a head, the middle one is 0
  std::vector<double> values_;
};

/// Softmax of dot scores, capped, with a bias and the caller's mask, over mask
/// and sees(i, j).
template <class Sees>
void DotSoftmax(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out, Sees sees, const Bias& bias) {
  const Clipped clipped(p);
  Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return MaskSees(p, i, j) && sees(i, j); },
      [&](const Row& x, int64_t j) {
        const double mask = in.attn_mask ? x.MaskOf(p, in, j) : 0;
        if (std::isinf(mask) && mask < 0) return Score{mask, 0};
        const double* const k = x.k + j * p.qk_dim;
        const Score s = Capped(p, clipped.any() ? clipped(p, x.q, k, x.i - j)
                                                : DotScore(p, x.q, k));
        const double b = bias(x.head, x.i - j);
        return Score{s.value + b + mask, s.size + std::abs(b) + std::abs(mask)};
      });
}

}  // namespace saccade::oracle

#endif  // SACCADE_COMMON_ORACLE_H_
