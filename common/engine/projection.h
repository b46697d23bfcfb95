// Softmax attention to keys and values that are learned mixtures of all tokens.
#ifndef SACCADE_COMMON_ENGINE_PROJECTION_H_
#define SACCADE_COMMON_ENGINE_PROJECTION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

/// out = softmax(scale q (E k)^T) F v of a bidirectional problem, f32 only,
/// E and F the first kv_len columns of learned [rank][length]: a head's E, then
/// its F, in Inputs::bias, at first `start`. kv_len <= length.
std::unique_ptr<Plan> MakeProjectionPlan(const Problem &problem, int64_t rank,
                                         int64_t length,
                                         std::vector<float> start);

namespace projection {

/// Rows of floats are padded to multiples of this.
int64_t Lanes();

/// Element (i, p) of a left factor is at[i row + p column].
struct Left {
  const float *at;
  int64_t row, column;
};

/// c [rows, columns] (+)= a b; columns a multiple of Lanes(). Sums begin anew
/// every 128 elements.
void Multiply(int64_t rows, int64_t inner, int64_t columns, const Left &a,
              const float *b, int64_t b_stride, bool add, float *c,
              int64_t c_stride);

/// to [columns][to_stride] = from^T; what stands behind its `rows`, up to
/// to_stride, a multiple of Lanes(), is anything that `from` holds.
void Transpose(const float *from, int64_t stride, int64_t rows, int64_t columns,
               float *to, int64_t to_stride);

}  // namespace projection
}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_PROJECTION_H_
