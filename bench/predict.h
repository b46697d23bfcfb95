// What a pass will take on a machine, from what others took there.
#ifndef SACCADE_BENCH_PREDICT_H_
#define SACCADE_BENCH_PREDICT_H_

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/workload.h"
#include "record/record.h"

namespace saccade::bench {

/// A pass of a variant at one shape: its work by the equations and, where it
/// was measured, its time.
struct TimedPass {
  std::string name, spec;   // "a.b"; with knobs and positions
  std::string pass, dtype;  // as NameOf
  /// Equal for those that were timed against each other.
  std::string shape;
  double length = 0, width = 0, heads = 0, threads = 0;  // heads of all batches
  double flops = 0, bytes = 0;
  double seconds = 0;
};

/// Of a `speed` record with a time of warm caches; nothing of others.
std::optional<TimedPass> TimedOf(const record::Record& record);

/// Of a cell that is to be run.
TimedPass Wanted(const PlannedCell& cell);

/// How well times would have been foretold that were measured: each shape in
/// turn is left out and foretold from the others.
struct HeldOut {
  int variants = 0, shapes = 0;
  int close = 0;      // shapes where the one picked is within 3 % of the best
  double worst = 0;   // the most that a pick took beyond the best, a share
  double median = 0;  // of the errors of all times, a share
};

class TimePredictor {
 public:
  explicit TimePredictor(std::vector<TimedPass> passes)
      : passes_(std::move(passes)) {}

  /// Whether this very variant was timed in that pass and storage: the same
  /// knobs and positions.
  bool Knows(const TimedPass& wanted) const;

  /// Seconds, or nothing when this variant was not timed in that pass and
  /// storage. The rate at which a thread gets through the pass's work is taken
  /// from the shapes nearest to it, by a weighted regression on the logarithms
  /// of length, width, heads and threads; the work is the pass's own, so that
  /// knobs count; but less work than any that was timed is foretold to take no
  /// less. Passes of the shape `without` are left out.
  std::optional<double> Seconds(const TimedPass& wanted,
                                std::string_view without = {}) const;

  /// Of all shapes of that pass and storage at which at least two of these
  /// variants were timed, by name.
  HeldOut LeaveOneOut(std::string_view pass, std::string_view dtype,
                      const std::set<std::string>& names) const;

  std::span<const TimedPass> passes() const { return passes_; }

 private:
  std::vector<TimedPass> passes_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PREDICT_H_
