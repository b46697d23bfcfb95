// Kernels of attention to the keys with the largest scores, and the plan.
#ifndef SACCADE_COMMON_ENGINE_TOPK_H_
#define SACCADE_COMMON_ENGINE_TOPK_H_

#include <cmath>
#include <cstdint>
#include <memory>

#include "saccade/variant.h"

namespace saccade {

namespace topk {

/// Keys that a row may keep, ascending. `order` is room to find the best in.
struct Candidates {
  float* scores;
  int32_t *keys, *order;
  int64_t count = 0;
  float least = -INFINITY;  // what is not above is among no row's best
};

/// Keys whose scores are made together.
constexpr int64_t kKeys = 256;

/// Elements of a row of floats that kernels read and write whole.
int64_t Padded(int64_t dim);

/// s [rows, kKeys] = q k^T of n keys given by pointers, padded to a multiple of
/// eight with any; q [rows, ld] holds zeros behind dim.
template <class T>
void Scores(const T* const* keys, int64_t n, const float* q, int64_t ld,
            int64_t rows, int64_t dim, float* s);

/// Appends those of s[begin] .. s[end - 1] that are not below or equal to
/// `least`, which what is not a number never is, as keys first + index. s is
/// readable to a multiple of 16, arrays writable for 16 beyond what is taken.
void TakeAbove(const float* s, int64_t begin, int64_t end, int64_t first,
               Candidates* to);

/// Keeps the `most` with the largest scores, of equal ones the first; what is
/// not a number counts as the largest. Arrays are readable and writable to a
/// multiple of 16.
void KeepBest(int64_t most, Candidates* of);

/// w = e^(s - top) in place, n readable and written to a multiple of 16, zeros
/// behind n; returns their sum.
float Exponentials(float* s, int64_t n, float top);

/// out [dim] = sum of w_j row_j over n <= kKeys rows; out is padded.
template <class T>
void WeightedSum(const T* const* rows, const float* w, int64_t n, int64_t dim,
                 float* out);

/// y [dim] += a x, both padded.
void AddScaled(float a, const float* x, int64_t dim, float* y);

}  // namespace topk

/// out_i = sum_j softmax_j(scale q_i.k_j) v_j over the `kept` keys with the
/// largest scores among those that i sees; of equal ones the first. Forward
/// makes scores of all pairs and keeps the indices for backward, which touches
/// no others.
std::unique_ptr<Plan> MakeTopKPlan(const Problem& problem, int64_t kept);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TOPK_H_
