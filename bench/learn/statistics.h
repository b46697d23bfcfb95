// Intervals beside every figure.
#ifndef SACCADE_BENCH_LEARN_STATISTICS_H_
#define SACCADE_BENCH_LEARN_STATISTICS_H_

#include <cstdint>
#include <span>

namespace saccade::bench {

struct Interval95 {
  double value = 0, low = 0, high = 0;
};

double Mean(std::span<const double> x);

/// The mean and its 95 % percentile interval from 1000 resamples (Efron 1979).
/// The same samples always give the same interval. Of one sample: a point.
Interval95 Bootstrap(std::span<const double> samples);

/// A share of successes and its 95 % score interval (Wilson 1927); of no
/// trials: [0, 1].
Interval95 Wilson(int64_t successes, int64_t trials);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_STATISTICS_H_
