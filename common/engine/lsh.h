// Attention within buckets of queries that point the same way.
#ifndef SACCADE_COMMON_ENGINE_LSH_H_
#define SACCADE_COMMON_ENGINE_LSH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

struct LshSpec {
  int64_t buckets = 0;  // even
  int64_t rounds = 0;
  int64_t chunk = 0;  // tokens
  uint64_t seed = 0;

  /// Directions of all rounds.
  int64_t Directions() const { return rounds * buckets / 2; }
};

/// Random directions [width][Directions()], of a normal distribution; those of
/// a round follow each other. A row's bucket in a round is the place of the
/// largest of its products with the round's directions and then their
/// opposites, of equal ones the first.
std::vector<double> LshDirections(const LshSpec &spec, int64_t width);

/// Softmax of scale q_i.q_j / |q_j| over every round's keys j: those of i's own
/// chunk, and the one before, of its bucket's tokens in order; not i itself,
/// unless there is no other in any round. q_len = kv_len; k is not read.
/// Buckets are found in double.
std::unique_ptr<Plan> MakeLshPlan(const Problem &problem, const LshSpec &spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_LSH_H_
