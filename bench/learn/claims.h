// What the literature says about length, and what this run says to it.
#ifndef SACCADE_BENCH_LEARN_CLAIMS_H_
#define SACCADE_BENCH_LEARN_CLAIMS_H_

#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "bench/extrapolation.h"

namespace saccade::bench {

/// One `claim` record for each of the fifteen, in their order, from a run's
/// records. A claim that they say nothing about is "not run", with the reason.
std::vector<nlohmann::json> JudgeClaims(
    const LearnOptions& options, std::span<const nlohmann::json> records);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_CLAIMS_H_
