// Holds numbers against what they must come to.
#ifndef SACCADE_BENCH_VERIFY_JUDGE_H_
#define SACCADE_BENCH_VERIFY_JUDGE_H_

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "bench/verify.h"

namespace saccade::bench {

/// Compares elements and remembers the worst.
class Judge {
 public:
  explicit Judge(double kappa) : kappa_(kappa) {}

  /// `rounding`: what storing in fewer bits may add, in absolute terms.
  template <class Name>
  void Check(Name name, double got, double want, double size, double rounding) {
    if (got == want) return;  // infinities, too
    // Below the smallest normal float, weights may vanish.
    constexpr double kUnderflow = 1e-36;
    const double excess = std::abs(got - want) - rounding;
    // In this order, so that max keeps a NaN.
    double ratio = std::max(excess, 0.0) / (0x1p-24 * size + kUnderflow);
    if (std::isnan(ratio)) ratio = std::numeric_limits<double>::infinity();
    if (ratio <= worst_) return;
    worst_ = ratio;
    if (ratio > kappa_)
      what_ = fmt::format(
          "{}: got {:.9g}, want {:.9g}, off by {:.3g} of a budget of {:.3g}",
          name(), got, want, std::abs(got - want),
          rounding + kappa_ * 0x1p-24 * size);
  }

  void Fail(std::string what) {
    worst_ = std::numeric_limits<double>::infinity();
    what_ = std::move(what);
  }

  CheckResult result() const {
    return {what_.empty() ? CheckResult::Kind::kOk : CheckResult::Kind::kFail,
            worst_, what_};
  }

 private:
  double kappa_;
  double worst_ = 0;
  std::string what_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERIFY_JUDGE_H_
