// Positions that act on q and k before any score is made: turning them (rope,
// xpos) and scaling q (logn).
#ifndef SACCADE_COMMON_TURNING_H_
#define SACCADE_COMMON_TURNING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

/// What becomes of a row at a position: pair (m, m + dim/2) is turned by
/// position * frequency_m and multiplied by a gain; an odd last element is
/// multiplied only.
class Turning {
 public:
  /// From a resolved problem's positions; rerope is none of them, for it does
  /// not act on rows one by one.
  explicit Turning(const Problem& problem);
  /// Queries as `rotary` turns them at position `at`, wherever they stand; k as
  /// it is.
  static Turning Fixed(const Position& rotary, int64_t dim, int64_t at);

  bool any() const { return turns_ || log_length_ > 0; }
  /// Otherwise k stays as it is.
  bool turns_keys() const { return turns_ && !fixed_; }
  /// q and k are turned alike.
  bool alike() const {
    return turns_keys() && decay_.empty() && log_length_ == 0;
  }

  int64_t pairs() const { return static_cast<int64_t>(frequency_.size()); }

  /// Cosines and sines of each pair [dim / 2], times the gain. Returns the gain
  /// of an odd last element.
  float Row(bool query, int64_t position, float* cos, float* sin) const;

 private:
  Turning() = default;

  bool turns_ = false;
  std::optional<int64_t> fixed_;
  std::vector<double> frequency_;  // [dim / 2]
  std::vector<double> decay_;      // xpos: of the logarithm, a position
  double gain_ = 1;                // yarn's
  double log_length_ = 0;          // logn's ln length; 0: none
};

/// `inner`, with q and k turned and scaled before every pass and their
/// gradients turned back; or `inner` itself when there is nothing to turn. It
/// must have been made for the same resolved problem.
std::unique_ptr<Plan> MakeTurnedPlan(const Problem& problem, Turning turning,
                                     std::unique_ptr<Plan> inner);

}  // namespace saccade

#endif  // SACCADE_COMMON_TURNING_H_
