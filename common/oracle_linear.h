// The explicit N x N form of the linear family, in float64: weights that are
// products of features, over their own sum.
#ifndef SACCADE_COMMON_ORACLE_LINEAR_H_
#define SACCADE_COMMON_ORACLE_LINEAR_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "oracle.h"

namespace saccade::oracle {

/// o_i = sum_j w_ij v_j / (max(sum_j w_ij, least) + epsilon) over the keys that
/// the mask shows. weight(Row, j) -> Score.
///
/// size: an error of w_ij moves o_i by its share of the weights, times v_j -
/// o_i. Gradients add up features over the sum, which is the slope of the sum's
/// logarithm; of one key they cancel, and of size nothing else tells how large
/// they were (where features may be 0; else they are as large as features).
/// Where weights of both signs cancel so far that their sum cannot be told from
/// 0, o_i may be anything up to its numerator over the least that the
/// denominator can be.
template <class WeightOf>
void Linear(const Problem& p, const OracleInputs& in, const OracleOutputs& out,
            double least, double epsilon, WeightOf weight) {
  // What f32, or bf16 where positions turn copies of q and k, may be off by.
  const double unsure = p.dtype == DType::kBF16 ? 0x1p-6 : 0x1p-20;
  std::vector<Score> w(static_cast<size_t>(p.kv_len));
  ForRows(p, in, out, [&](const Row& x) {
    double sum = 0, sum_size = 0;
    bool sees = false;
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!MaskSees(p, x.i, j)) continue;
      sees = true;
      w[j] = weight(x, j);
      sum += w[j].value;
      sum_size += w[j].size;
    }
    if (!sees) return;
    // Of two, max keeps a NaN in first place.
    sum = std::max(sum, least) + epsilon;
    double relative = sum_size / std::abs(sum);
    if (least > 0) relative += std::abs(std::log(sum));
    if (unsure * sum_size > std::abs(sum))
      relative = 0x1p22 * std::max(1.0, sum / (least + epsilon));
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!MaskSees(p, x.i, j)) continue;
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double v = x.v[j * p.v_dim + c];
        x.out[c] += w[j].value / sum * v;
        x.size[c] += w[j].size / std::abs(sum) * std::abs(v);
      }
    }
    for (int64_t c = 0; c < p.v_dim; ++c)
      x.size[c] += relative * std::abs(x.out[c]);
  });
}

/// scale relu(q).relu(k), whose features are exact but for positions: those
/// turn pairs of elements, and keep the copies in the storage type, where
/// rounding to bf16 may carry an element over the kink.
inline Score ReluScore(const Problem& p, const double* q, const double* k) {
  const bool rounds = p.dtype == DType::kBF16;
  const double turned = p.positions.empty() ? 0 : 1;
  double q_most = 0, k_most = 0;
  for (int64_t c = 0; c < p.qk_dim && turned > 0; ++c) {
    q_most = std::max(q_most, std::abs(q[c]));
    k_most = std::max(k_most, std::abs(k[c]));
  }
  const auto relu = [](double x) { return x < 0 ? 0 : x; };
  const auto kink = [rounds](double x, double most) {
    return rounds ? 64 * std::max(0.0, 0x1p-7 * most - std::abs(x)) : 0;
  };
  Score s{0, 0};
  for (int64_t c = 0; c < p.qk_dim; ++c) {
    const double product = p.scale * relu(q[c]) * relu(k[c]);
    s.value += product;
    s.size += product +
              p.scale * ((turned * q_most + kink(q[c], q_most)) * relu(k[c]) +
                         (turned * k_most + kink(k[c], k_most)) * relu(q[c]));
  }
  return s;
}

/// The norm and the gate of one row, r in x.out and the size of its errors in
/// x.size: a deviation is off by its own error and the mean's, all of them by
/// the variance's share. Gradients are as large as the slope of the factor's
/// logarithm, of which most cancels when a row has few keys.
inline void NormAndGate(const double* gate, int64_t n, double epsilon,
                        const Row& x) {
  const auto count = static_cast<double>(n);
  double mean = 0, mean_size = 0, variance = 0, slope = 0;
  for (int64_t c = 0; c < n; ++c) {
    mean += x.out[c] / count;
    mean_size += x.size[c] / count;
  }
  for (int64_t c = 0; c < n; ++c) {
    const double off = x.out[c] - mean;
    variance += off * off / count;
    slope += std::abs(off) * (x.size[c] + mean_size) / count;
  }
  const double factor = 1 / std::sqrt(variance + epsilon);
  for (int64_t c = 0; c < n; ++c) {
    const double y = (x.out[c] - mean) * factor;
    x.size[c] =
        std::abs(gate[c]) * (factor * (x.size[c] + mean_size) +
                             std::abs(y) * (2 + factor * factor * slope +
                                            std::abs(std::log(factor))));
    x.out[c] = gate[c] * y;
  }
}

constexpr double kNoLeast = -std::numeric_limits<double>::infinity();

}  // namespace saccade::oracle

#endif  // SACCADE_COMMON_ORACLE_LINEAR_H_
