// The plan of an LSTM over a sequence: memory, passes, decoding.
#ifndef SACCADE_COMMON_ENGINE_LSTM_PLAN_H_
#define SACCADE_COMMON_ENGINE_LSTM_PLAN_H_

#include <memory>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

/// What gates' pre-activations are read from: v, for the candidate, and extras
/// 0, 1, 2 for the input, forget and output gates, rows of keys as wide as v.
/// Inputs::bias holds lstm::Numbers(v_dim) numbers a head, or none: `start`,
/// [q_heads][n]. q and k are not read, and their gradients are 0. Causal, with
/// as many query heads as key heads.
std::unique_ptr<Plan> MakeLstmPlan(const Problem& problem,
                                   std::vector<float> start);

Cost LstmCost(const Problem& problem);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_LSTM_PLAN_H_
