// Two kinds of attention on the two halves of q and k: of squared scores within
// groups of tokens, and linear over the groups before.
#ifndef SACCADE_COMMON_ENGINE_GROUPED_PLAN_H_
#define SACCADE_COMMON_ENGINE_GROUPED_PLAN_H_

#include <cstdint>
#include <memory>

#include "saccade/variant.h"

namespace saccade {

/// out = gate (.) (sum over keys j <= i of i's own group of
/// relu(scale q1_i.k1_j)^2 v_j + sum over those of earlier groups of
/// scale q2_i.k2_j v_j), q1 and q2 the first and the second half of q. The gate
/// is the first of the extras. Causal; qk_dim is at least 2, group a multiple
/// of kChunkTokens (engine/chunk.h). Of an odd width the first half is the
/// wider.
std::unique_ptr<Plan> MakeGroupedPlan(const Problem& problem, int64_t group,
                                      float scale);

/// What it costs, from its visible pairs and its sums.
Cost GroupedCost(const Problem& problem, int64_t group);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_GROUPED_PLAN_H_
