// Position schemes: which there are, and turning q and k (rope).
#ifndef SACCADE_COMMON_POSITION_H_
#define SACCADE_COMMON_POSITION_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

/// Where a scheme acts.
enum class PositionKind : uint8_t {
  kNone,
  kEmbedding,  // added to a model's embeddings: attention has nothing to do
  kRotary,     // turns q and k
  kBias,       // added to the scores
};

struct PositionScheme {
  std::string_view name;
  std::string_view source;
  PositionKind kind;
  std::vector<Knob> knobs;
};

/// All schemes, in the order reports list them.
const std::vector<PositionScheme>& PositionSchemes();
const PositionScheme* FindPosition(std::string_view name);

/// Turns pairs (m, m + dim/2) of x [dim] by position * base^(-2m/dim), into y;
/// an odd last element is kept. inverse turns back. x and y may be the same.
/// Su et al. 2021, arXiv:2104.09864, equation 34.
void Rotate(const float* x, float* y, int64_t dim, double position, double base,
            bool inverse);
void Rotate(const double* x, double* y, int64_t dim, double position,
            double base, bool inverse);

/// ALiBi's slope of each of `heads` heads: 2^(-8(h+1)/p) for h < p, p the
/// largest power of two <= heads, and 2^(-4(2(h-p)+1)/p) for the others.
/// Press et al. 2021, arXiv:2108.12409.
std::vector<float> AlibiSlopes(int64_t heads);

/// `inner`, with q and k turned before every pass, and their gradients turned
/// back. `inner` must have been made for the same problem.
std::unique_ptr<Plan> MakeRotaryPlan(const Problem& problem,
                                     std::unique_ptr<Plan> inner);

}  // namespace saccade

#endif  // SACCADE_COMMON_POSITION_H_
