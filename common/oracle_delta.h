// The delta rule in float64, token after token.
#ifndef SACCADE_COMMON_ORACLE_DELTA_H_
#define SACCADE_COMMON_ORACLE_DELTA_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "oracle.h"

namespace saccade::oracle {

/// Writes x / |x|, n wide; a row of zeros stays one.
inline void UnitRow(const double* x, int64_t n, double* to) {
  double square = 0;
  for (int64_t f = 0; f < n; ++f) square += x[f] * x[f];
  for (int64_t f = 0; f < n; ++f)
    to[f] = square == 0 ? 0 : x[f] / std::sqrt(square);
}

/// S_t = a S + k (b (v - a S^T k))^T with S before t, o_t = scale q_t S_t; q
/// and k of length 1. beta [B, Hkv, T]; factor(key row of all heads) is a.
///
/// size: what a token's roundings put into a column of S is as long as what
/// they are of, fades as the column does, and may point anywhere: lengths add
/// up by their squares, but for the last token's own, which its gradients show.
/// What corrections take away again a chunk's products have first added up: of
/// that is a part that fades with half the decay, as to a chunk's end.
template <class FactorOf>
void Delta(const Problem& p, const OracleInputs& in, const double* beta,
           const OracleOutputs& out, FactorOf factor) {
  const int64_t d = p.qk_dim, e = p.v_dim, group = p.q_heads / p.kv_heads;
  std::vector<double> k(d), q(d);
  for (int64_t head = 0; head < p.batch * p.kv_heads; ++head) {
    std::vector<double> s(d * e, 0.0), off(e, 0.0), fresh(e, 0.0), lost(e, 0.0);
    int64_t keys = 0;
    const auto add = [&] {
      const int64_t row = head * p.kv_len + keys++;
      const double a = factor(row), b = beta[row];
      UnitRow(in.k + row * d, d, k.data());
      for (int64_t c = 0; c < e; ++c) {
        const double v = in.v[row * e + c];
        double known = 0, terms = std::abs(v), length = 0;
        for (int64_t f = 0; f < d; ++f) {
          double& x = s[f * e + c];
          x *= a;
          known += x * k[f];
          terms += std::abs(x * k[f]);
          length += x * x;
        }
        const double injected = std::sqrt(length) + 3 * std::abs(b) * terms;
        lost[c] = std::sqrt(std::abs(a)) * lost[c] + std::abs(b * v);
        fresh[c] = std::abs(a) * off[c] + injected + lost[c];
        off[c] = std::sqrt(a * a * off[c] * off[c] + injected * injected);
        for (int64_t f = 0; f < d; ++f) s[f * e + c] += k[f] * b * (v - known);
      }
    };
    for (int64_t t = 0; t < p.q_len; ++t) {
      while (keys < p.kv_len && keys <= QueryPosition(p, t)) add();
      for (int64_t g = 0; g < group; ++g) {
        const int64_t to = (head * group + g) * p.q_len + t;
        UnitRow(in.q + to * d, d, q.data());
        for (int64_t c = 0; c < e; ++c) {
          double sum = 0, terms = 0;
          for (int64_t f = 0; f < d && keys > 0; ++f) {
            sum += q[f] * s[f * e + c];
            terms += std::abs(q[f] * s[f * e + c]);
          }
          out.out[to * e + c] = p.scale * sum;
          out.size[to * e + c] = std::abs(p.scale) * (3 * terms + fresh[c]);
        }
      }
    }
  }
}

}  // namespace saccade::oracle

#endif  // SACCADE_COMMON_ORACLE_DELTA_H_
