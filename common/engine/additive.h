// Kernels of additive scores, s_ij = sum_u w_u tanh(q_iu + k_ju), with an
// online softmax over blocks of keys.
//
// Keys lie in the lanes: a block of them is stored by unit, as it is and as
// e^2k. As tanh x = 1 - 2 / (1 + e^2x) and e^2(q+k) = e^2q e^2k, a pair's unit
// is a product, an addition and a division; four units share one division:
// a/b + c/d = (ad + cb) / bd, twice. That takes |q| + |k| <= kMostSum, for four
// factors of 1 + e^2x must fit a float; of other rows tanh is computed as such.
#ifndef SACCADE_COMMON_ENGINE_ADDITIVE_H_
#define SACCADE_COMMON_ENGINE_ADDITIVE_H_

#include <cstdint>

#include "arena.h"
#include "engine/pattern.h"

namespace saccade::additive {

constexpr int64_t kKeys = 256;  // of a block
// Floats from a unit's keys to the next one's: not a power of two, so that all
// units of some keys stay in the first-level cache for a few queries.
constexpr int64_t kUnit = kKeys + 16;
constexpr int64_t kQueries = 4;    // that share reads of keys and values
constexpr float kMostSum = 10.5f;  // (1 + e^21)^4 is 3e36

/// Units, padded so that groups of four need no tail; the padding's w is 0.
constexpr int64_t Padded(int64_t units) { return (units + 3) / 4 * 4; }
/// A row of values, padded to whole vectors.
constexpr int64_t PaddedRow(int64_t dim) { return (dim + 15) / 16 * 16; }

/// A block of keys. Those behind the last are 0.
struct KeyBlock {
  KeyBlock(Arena& a, int64_t units)
      : raw(a.Take<float>(units * kUnit)),
        power(a.Take<float>(units * kUnit)),
        most(a.Take<float>(kKeys)) {}
  float* raw;    // [units][kKeys], rows kUnit apart
  float* power;  // e^2k
  float* most;   // of |k|, each key's; not a number where the key holds one
};

/// A few queries.
struct QueryRows {
  QueryRows(Arena& a, int64_t rows, int64_t units)
      : raw(a.Take<float>(rows * units)),
        power(a.Take<float>(rows * units)),
        most(a.Take<float>(rows)) {}
  QueryRows At(int64_t row, int64_t units) const {
    QueryRows x = *this;
    x.raw += row * units;
    x.power += row * units;
    x.most += row;
    return x;
  }
  float *raw, *power, *most;
};

/// A head's weights of units, [units] padded, and their sum.
struct Weights {
  const float* w;
  float sum;
  int64_t units;  // padded
};

/// power = e^2x, n of them.
void Powers(const float* x, int64_t n, float* power);

/// s[r][j] of `rows` queries for keys j of the block in `keys`, rows kKeys
/// apart; beside them what is there is overwritten, to whole vectors.
void Scores(const Weights& w, const QueryRows& q, int64_t rows,
            const KeyBlock& k, Interval keys, float* s);

/// s[j] = e^(s[j] - top) for `keys`; returns the sum. Largest: of s.
float Exponentials(float* s, Interval keys, float top);
float Largest(const float* s, Interval keys);

/// out[r] += sum over `keys` of p[r][j] v[j], `rows` of them; p [rows][kKeys],
/// v [kKeys][dim], out [rows][dim], dim padded.
void AddValues(const float* p, int64_t rows, const float* v, Interval keys,
               int64_t dim, float* out);

/// x *= by, n of them.
void Multiply(float by, int64_t n, float* x);

/// ds[j] = p[j] (sum_c dout[c] v[c][j] - delta) for `keys`, 0 beside them to
/// whole vectors; v [values][kKeys].
void ScoreGradients(const float* p, const float* dout, const float* delta,
                    const float* v, int64_t values, Interval keys, float* ds);

/// dv[j] += p[j] dout for `keys`; dv [kKeys][dim].
void AddValueGradients(const float* p, const float* dout, Interval keys,
                       int64_t dim, float* dv);

/// What one query's ds makes of gradients: dq[u] += of its row, dk [units]
/// [kKeys] += of the block, rows kUnit apart, dw[u] += of weights.
void AddUnits(const Weights& w, const QueryRows& q, const KeyBlock& k,
              Interval keys, const float* ds, float* dq, float* dk, double* dw);

}  // namespace saccade::additive

#endif  // SACCADE_COMMON_ENGINE_ADDITIVE_H_
