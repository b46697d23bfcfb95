// What the samples of a group's rounds have in common: the machine's pace.
#ifndef SACCADE_BENCH_DRIFT_H_
#define SACCADE_BENCH_DRIFT_H_

#include <span>
#include <vector>

namespace saccade::bench {

/// A time that was taken in a round, counted from 0.
struct RoundTime {
  int round = 0;
  double seconds = 0;  // > 0
};

/// How slow the machine was in each of `rounds` rounds: 1 as in the middle of
/// them, 1.2 for a fifth slower. Empty when it kept within one per cent, and of
/// fewer than three rounds. Rows are the times of one cell each, one a round at
/// most; a cell may be missing from rounds, but no round may be without any.
///
/// By median polish of the logarithms (Tukey 1977, ch. 11): a row has a level,
/// a round a pace. Paces are smoothed by a running median over up to five
/// rounds, so that a step stays a step while what disturbs a single round, and
/// a row's own scatter, does not count as drift.
std::vector<double> PaceOfRounds(std::span<const std::vector<RoundTime>> rows,
                                 int rounds);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_DRIFT_H_
