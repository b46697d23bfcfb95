// The plan of variants with additive scores: memory, passes, decoding.
#ifndef SACCADE_COMMON_ENGINE_ADDITIVE_PLAN_H_
#define SACCADE_COMMON_ENGINE_ADDITIVE_PLAN_H_

#include <memory>

#include "saccade/variant.h"

namespace saccade {

/// What the learned numbers of a head, Inputs::bias, are to
/// s_ij = sum_u w_u tanh(q_iu + k_ju + b_u).
class AdditiveWeights {
 public:
  virtual ~AdditiveWeights() = default;
  /// A head's learned numbers before training.
  virtual const float* start() const = 0;
  virtual void Weights(const float* learned, float* w, float* b) const = 0;
  /// The gradient by the learned numbers of those by w and b.
  virtual void Gradient(const float* learned, const double* dw,
                        const double* db, float* to) const = 0;
};

/// Softmax of additive scores under a problem's mask and window.
std::unique_ptr<Plan> MakeAdditivePlan(
    const Problem& problem, std::unique_ptr<const AdditiveWeights> weights);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_ADDITIVE_PLAN_H_
