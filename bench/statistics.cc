#include "bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace saccade::bench {
namespace {

constexpr double kCoverage = 0.95;

std::vector<double> Sorted(std::span<const double> samples) {
  std::vector<double> s(samples.begin(), samples.end());
  std::sort(s.begin(), s.end());
  return s;
}

}  // namespace

double Median(std::span<const double> samples) {
  if (samples.empty()) return std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> s = Sorted(samples);
  const size_t half = s.size() / 2;
  return s.size() % 2 ? s[half] : 0.5 * (s[half - 1] + s[half]);
}

MedianInterval IntervalOfMedian(std::span<const double> samples) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (samples.empty()) return {kNan, kNan, 0};
  const std::vector<double> s = Sorted(samples);
  const size_t n = s.size();
  // The median misses (s[r], s[n - 1 - r]) on one side when at most r of n
  // fair coins show heads.
  const auto miss = [n](size_t r) {
    double log_choose = 0, tail = 0;
    for (size_t k = 0; k <= r; ++k) {
      tail += std::exp(log_choose - static_cast<double>(n) * std::log(2.0));
      log_choose += std::log(static_cast<double>(n - k) / (k + 1.0));
    }
    return 2 * tail;
  };
  size_t r = 0;
  while (2 * (r + 1) < n && 1 - miss(r + 1) >= kCoverage) ++r;
  return {s[r], s[n - 1 - r], n == 1 ? 0 : 1 - miss(r)};
}

}  // namespace saccade::bench
