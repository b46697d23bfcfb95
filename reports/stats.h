// The statistics a report needs.
#ifndef SACCADE_REPORTS_STATS_H_
#define SACCADE_REPORTS_STATS_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

namespace saccade::reports {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A figure and its 95 % interval; low and high are NaN where not known.
struct Estimate {
  double value = kNaN;
  double low = kNaN, high = kNaN;
  int count = 0;  // seeds or samples behind it

  bool known() const { return !std::isnan(value); }
  bool bounded() const { return !std::isnan(low) && !std::isnan(high); }
};

/// Whether the intervals overlap; an unknown one counts as its value.
bool Overlap(const Estimate& a, const Estimate& b);

/// Median of samples; the interval by order statistics, which assumes no
/// distribution. NaN samples are left out.
Estimate Median(std::vector<double> samples);

/// The chance that Median's interval of that many samples holds the true
/// median: .95 or more from six on, less of fewer.
double MedianCoverage(int samples);

/// Mean of one value a seed; Student's interval from two seeds on, and the
/// interval of the lone reading otherwise.
Estimate MeanOverSeeds(const std::vector<Estimate>& readings);

/// A reading by each seed.
using BySeed = std::map<int64_t, Estimate>;

/// Differences in bits a byte up to this are ties (extrapolation.md).
inline constexpr double kTieBits = 0.02;

/// How readings stand against another: negative is less.
struct Difference {
  /// The mean over the seeds that both have and Student's interval; where they
  /// share fewer than two, the intervals of both together.
  Estimate bits;
  /// That the difference is zero, by seeds, adjusted for the number of others
  /// (Holm 1979); NaN where there are fewer than two seeds.
  double p = kNaN;
  /// Not surely different, or by no more than kTieBits.
  bool tie = true;
};

/// One for each pair: how the second stands against the first.
std::vector<Difference> Differences(
    const std::vector<std::pair<const BySeed*, const BySeed*>>& pairs);

/// One for each of the others.
std::vector<Difference> DifferencesFrom(
    const BySeed& base, const std::vector<const BySeed*>& others);

/// y = c n^exponent, fitted by least squares on logarithms.
struct PowerFit {
  double exponent = kNaN;
  int64_t first = 0, last = 0;  // the range of n that was fitted
  bool known() const { return !std::isnan(exponent); }
};

/// Fits the longest kFitPoints points, at least kMinFitPoints; points that are
/// not positive are left out.
constexpr int kFitPoints = 4, kMinFitPoints = 3;
PowerFit FitPower(const std::vector<std::pair<int64_t, double>>& points);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_STATS_H_
