// Rows of q and k multiplied by numbers: by their position, by an input, by one
// over their own length.
#ifndef SACCADE_COMMON_ROW_SCALE_H_
#define SACCADE_COMMON_ROW_SCALE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "mapped.h"

namespace saccade {

/// What queries are multiplied by, and whether q and k are unit rows first. A
/// row of zeros stays one.
struct RowScale {
  bool unit = false;
  /// Which extra of width 1 holds a factor for each query; -1: none.
  int factor = -1;
  /// By the query's position, or none. Thread-safe, and allocates nothing.
  std::function<float(int64_t)> gain = nullptr;
};

/// A plan for scaled rows; see MakeMappedPlan.
std::unique_ptr<Plan> MakeScaledPlan(const Problem& problem, RowScale scale,
                                     std::unique_ptr<Plan> inner);

}  // namespace saccade

#endif  // SACCADE_COMMON_ROW_SCALE_H_
