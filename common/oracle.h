// Pieces of float64 oracles: the explicit N x N form, written from the
// equations and from nothing in the engines. Slow and obvious.
#ifndef SACCADE_COMMON_ORACLE_H_
#define SACCADE_COMMON_ORACLE_H_

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

/// scale q_i.k_j, and the position's bias where the problem has one.
inline Score DotScore(const Problem& p, const double* q, const double* k,
                      double slope, int64_t i, int64_t j) {
  Score s{0, 0};
  for (int64_t c = 0; c < p.qk_dim; ++c) {
    s.value += q[c] * k[c];
    s.size += std::abs(q[c] * k[c]);
  }
  const double bias = -slope * std::abs(static_cast<double>(i - j));
  return {p.scale * s.value + bias,
          std::abs(p.scale) * s.size + std::abs(bias)};
}

/// One query row of one head, with the keys and values of its key head.
struct Row {
  const double *q, *k, *v;
  int64_t batch, head;  // query head
  int64_t row, i;       // row of q, and its position
  double *out, *size, *lse;
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
/// there is none. score(Row, j) -> Score.
///
/// size: a relative error u in each product of a score moves p_ij by
/// p_ij (a_ij + sum_j' p_ij' a_ij') u, with a the score's own size.
template <class Sees, class ScoreOf>
void Softmax(const Problem& p, const OracleInputs& in, const OracleOutputs& out,
             Sees sees, ScoreOf score) {
  std::vector<Score> s(p.kv_len);
  ForRows(p, in, out, [&](const Row& x) {
    double top = -std::numeric_limits<double>::infinity();
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!sees(x.i, j)) continue;
      s[j] = score(x, j);
      if (s[j].value > top || std::isnan(s[j].value)) top = s[j].value;
      if (std::isnan(top)) break;
    }
    double sum = 0, mean = 0;
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!sees(x.i, j)) continue;
      const double w = std::exp(s[j].value - top);
      sum += w;
      mean += w * s[j].size;
    }
    if (x.lse) *x.lse = top + std::log(sum);  // -inf when nothing was seen
    for (int64_t j = 0; j < p.kv_len && sum != 0; ++j) {
      if (!sees(x.i, j)) continue;
      const double weight = std::exp(s[j].value - top) / sum;
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double term = weight * x.v[j * p.v_dim + c];
        x.out[c] += term;
        x.size[c] += std::abs(term) * (1 + s[j].size + mean / sum);
      }
    }
  });
}

/// ALiBi's slopes from the paper's words: for a power of two heads a geometric
/// series that starts at its own ratio 2^(-8/heads); otherwise the series of
/// the power below, then every other one of the series of twice that power.
inline std::vector<double> Slopes(int64_t heads) {
  const auto series = [](int64_t n) {
    std::vector<double> s;
    for (int64_t k = 1; k <= n; ++k)
      s.push_back(std::pow(
          2.0, -8.0 / static_cast<double>(n) * static_cast<double>(k)));
    return s;
  };
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<double> slopes = series(power);
  const std::vector<double> finer = series(2 * power);
  for (size_t k = 0; static_cast<int64_t>(slopes.size()) < heads; k += 2)
    slopes.push_back(finer[k]);
  return slopes;
}

/// Slopes of the problem's bias: all 0 when it has none.
inline std::vector<double> BiasSlopes(const Problem& p) {
  for (const Position& position : p.positions)
    if (position.name == "alibi") return Slopes(p.q_heads);
  return std::vector<double>(p.q_heads, 0.0);
}

/// Softmax of dot scores with the problem's bias, over mask and sees(i, j).
template <class Sees>
void DotSoftmax(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out, Sees sees,
                const std::vector<double>& slopes) {
  Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return MaskSees(p, i, j) && sees(i, j); },
      [&](const Row& x, int64_t j) {
        return DotScore(p, x.q, x.k + j * p.qk_dim, slopes[x.head], x.i, j);
      });
}

}  // namespace saccade::oracle

#endif  // SACCADE_COMMON_ORACLE_H_
