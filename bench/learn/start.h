// How large a model's branches are before it has learned anything.
#ifndef SACCADE_BENCH_LEARN_START_H_
#define SACCADE_BENCH_LEARN_START_H_

#include <optional>
#include <string_view>

#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// rms(branch(norm(x))) / rms(norm(x)) of the first unit of either kind, the
/// share 1/sqrt(2N) in the output's start undone.
struct StartRatios {
  double attention = 0;
  std::optional<double> mlp;  // none where attention stands for it
};

/// Of a model as it starts, on a few sequences of `text`; of random symbols
/// none of which comes twice in a sequence where that is empty (then of at most
/// as many tokens as there are symbols). Equal symbols have equal keys, and
/// scores of equal keys add up.
Result<StartRatios> MeasureStart(const Model& fresh, std::string_view text,
                                 int64_t len, Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_START_H_
