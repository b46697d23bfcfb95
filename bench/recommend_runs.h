// The runs that a recommendation rests on: found, or made on the spot.
#ifndef SACCADE_BENCH_RECOMMEND_RUNS_H_
#define SACCADE_BENCH_RECOMMEND_RUNS_H_

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bench/host.h"
#include "bench/predict.h"
#include "bench/recommend.h"
#include "record/record.h"

namespace saccade::bench {

struct RecommendRuns {
  std::vector<record::Run> timed;      // of which the times are taken
  std::optional<record::Run> learned;  // of which the evidence of quality is
  std::vector<std::string> notes;      // sentences about the choice

  /// All times of warm passes.
  std::vector<TimedPass> Passes() const;

  /// Names of variants whose check failed in that pass and storage.
  std::set<std::string> Failed(const CellSpec& cell) const;

  /// What can be recommended: every variant with its default knobs, and all
  /// specs that the runs know of; in report order.
  std::vector<std::string> Specs() const;
};

/// The runs named, folders or files; where none is, those in runs/: for times
/// the newest of this machine that timed the wish's pass, for quality the one
/// with most trainings, those of reports/example/ included. `timed` and
/// `learned` may stay empty. Errors as ReadRun, for named runs only.
Result<RecommendRuns> FindRuns(const std::vector<std::string>& named,
                               const Wish& wish);

/// Times `specs` (globs; empty: all variants) at shapes like the wish's that
/// are soon over, or at its own, into a new folder of runs/, where the next
/// recommendation finds it. kIo, or whatever kept it from being measured;
/// kExhausted when it was interrupted.
Result<record::Run> MeasureNow(const Wish& wish,
                               const std::vector<std::string>& specs,
                               bool own_shape, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_RECOMMEND_RUNS_H_
