// Summaries of timing samples that assume nothing about their distribution.
#ifndef SACCADE_BENCH_STATISTICS_H_
#define SACCADE_BENCH_STATISTICS_H_

#include <span>

namespace saccade::bench {

/// The middle sample, or the mean of the two middle ones; NaN of no samples.
double Median(std::span<const double> samples);

/// An interval that holds the true median with a probability of at least
/// `coverage`, between two order statistics (David & Nagaraja 2003, 7.1).
struct MedianInterval {
  double low = 0, high = 0;
  double coverage = 0;  // what the chosen pair of order statistics gives
};

/// The narrowest such interval at 95 %. With fewer than six samples none
/// exists: the range is returned, with its own, lower, coverage.
MedianInterval IntervalOfMedian(std::span<const double> samples);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_STATISTICS_H_
