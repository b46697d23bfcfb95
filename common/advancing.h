// Weights that are a bell about a place which moves with every query.
#ifndef SACCADE_COMMON_ADVANCING_H_
#define SACCADE_COMMON_ADVANCING_H_

#include <cstdint>
#include <memory>

#include "saccade/variant.h"

namespace saccade {

/// Where the bell of row i stands: mu_i = offset + kappa_i, kappa_i =
/// kappa_(i-1) + e^x_i, of which x is the first extra input, an element of
/// each query; kappa is one less than the first query's position before.
struct AdvancingBell {
  double offset = 0, sigma = 1;           // tokens
  static constexpr double kFastest = 30;  // larger x count as that
  static constexpr double kFar = 45;      // nats below the largest weight
};

/// out_i = sum_j w_ij v_j / sum_j w_ij, w_ij = exp(-(j - mu_i)^2 / 2 sigma^2),
/// over visible j. What is more than kFar below a row's largest weight is none.
/// q and k are not read, and their gradients are 0.
std::unique_ptr<Plan> MakeAdvancingPlan(const Problem& problem,
                                        const AdvancingBell& bell);

/// Of steps of one token each.
Cost AdvancingCost(const Problem& problem, const AdvancingBell& bell);

}  // namespace saccade

#endif  // SACCADE_COMMON_ADVANCING_H_
