// Samples of several cells in interleaved rounds, so that drift of the machine
// hits all alike, and what they come to.
#ifndef SACCADE_BENCH_ROUNDS_H_
#define SACCADE_BENCH_ROUNDS_H_

#include <functional>
#include <vector>

#include "bench/clock.h"
#include "saccade/status.h"

namespace saccade::bench {

/// One that gives samples in turn with others.
struct Lane {
  /// Takes a sample; seconds of one run. After anything but ok none is asked
  /// for again.
  std::function<Result<double>()> sample;
  int most = 0;  // samples that its time allows; 0: it gives none
};

/// A sample that was taken, and when.
struct LaneSample {
  int round = 0;       // among those that were held
  double at = 0;       // by the clock, its middle
  double seconds = 0;  // of one run
};

/// What the machine can do at a moment.
struct PeakMoment {
  double at = 0;      // by the clock
  double flops = 0;   // FLOP/s
  double stream = 0;  // bytes/s; 0: not measured
};

/// A value at a moment.
struct Moment {
  double at = 0;  // by the clock
  double value = 0;
};

/// What came of a group's rounds.
struct Course {
  int rounds = 0;                                // that were held
  std::vector<std::vector<LaneSample>> samples;  // by lane
  std::vector<Status> statuses;                  // by lane
  std::vector<PeakMoment> peaks;  // before, between and after the rounds
  std::vector<Moment> pace;       // of each round; empty: it held. See drift.h
};

struct RoundRules {
  int least = 6;        // samples of a lane before it may be settled
  double tight = 0.01;  // half the 95 % interval, of the median
  Clock clock = SteadySeconds;
  std::function<PeakMoment()> peak;      // `at` is filled in
  std::function<bool()> stopped;         // between samples
  std::function<void(double)> progress;  // share of the rounds, 0 to 1
};

/// Runs rounds, as many as the lane with the most samples has. A lane with
/// fewer gives them spread evenly over all rounds. One whose interval is tight
/// is settled: it goes on as sparsely as one with `least` samples. When all are
/// settled, or have given all, the rounds end. Every other round goes backwards
/// through the lanes, and each pair of rounds begins with another.
Course RunRounds(std::vector<Lane>* lanes, const RoundRules& rules);

/// What the samples of a lane come to. Nanoseconds of a run.
struct LaneSummary {
  std::vector<double> ns;    // raw, in order
  std::vector<double> pace;  // by sample; empty: it held
  double median = 0;         // of ns / pace, as are low and high
  double low = 0, high = 0;  // of the median's 95 % interval
  /// What the machine could have done at its peak in the time of a run: the
  /// median over samples, each held against the peaks measured just before and
  /// after it. 0: not known.
  double flops = 0, bytes = 0;
};
LaneSummary Summarise(const Course& course, size_t lane);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_ROUNDS_H_
