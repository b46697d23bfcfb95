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
/// o_i. Where weights of both signs cancel so far that f32 cannot tell their
/// sum from 0, o_i may be anything up to its numerator over the least that the
/// denominator can be.
template <class WeightOf>
void Linear(const Problem& p, const OracleInputs& in, const OracleOutputs& out,
            double least, double epsilon, WeightOf weight) {
  constexpr double kUnit = 0x1p-24, kKappa = 8;
  std::vector<Score> w(static_cast<size_t>(p.kv_len));
  ForRows(p, in, out, [&](const Row& x) {
    double sum = 0, sum_size = 0;
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!MaskSees(p, x.i, j)) continue;
      w[j] = weight(x, j);
      sum += w[j].value;
      sum_size += w[j].size;
    }
    // Of two, max keeps a NaN in first place.
    sum = std::max(sum, least) + epsilon;
    double relative = sum_size / std::abs(sum);
    if (kUnit * kKappa * relative > 0.5)
      relative = std::abs(sum / std::max(least + epsilon, 1e-300)) / kUnit;
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

constexpr double kNoLeast = -std::numeric_limits<double>::infinity();

}  // namespace saccade::oracle

#endif  // SACCADE_COMMON_ORACLE_LINEAR_H_
