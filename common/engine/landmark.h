// Attention through landmarks: means of segments of queries and of keys, which
// stand between queries and keys (Nystrom's approximation).
#ifndef SACCADE_COMMON_ENGINE_LANDMARK_H_
#define SACCADE_COMMON_ENGINE_LANDMARK_H_

#include <cstdint>
#include <memory>

#include "engine/pattern.h"
#include "saccade/variant.h"

namespace saccade {

/// Segment s of `count` of a sequence: each has `length` / `count` tokens,
/// rounded down or up; count <= length.
inline Interval Segment(int64_t s, int64_t count, int64_t length) {
  return {s * length / count, (s + 1) * length / count};
}

/// out = softmax(scale q k~^T) Z softmax(scale q~ k^T) v of a bidirectional
/// problem with q_len = kv_len, q~ and k~ the means of min(landmarks, q_len)
/// segments, Z the iterated pseudo-inverse (pseudo_inverse.h) of
/// softmax(scale q~ k~^T), each head's its own. What is small is double.
std::unique_ptr<Plan> MakeLandmarkPlan(const Problem &problem,
                                       int64_t landmarks, int64_t steps);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_LANDMARK_H_
