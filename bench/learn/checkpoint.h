// The state of a training on disk, so that one that was killed goes on.
#ifndef SACCADE_BENCH_LEARN_CHECKPOINT_H_
#define SACCADE_BENCH_LEARN_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/optimiser.h"
#include "saccade/status.h"

namespace saccade::bench {

/// All that a training carries from step to step. What it reads depends on the
/// seed and the step alone, so that the step stands for the place in the data.
struct TrainState {
  std::vector<double> loss;   // of each step taken, nats a scored token
  double seconds = 0;         // spent on them
  std::vector<float> values;  // the model's parameters
  Moments moments;

  int64_t step() const { return static_cast<int64_t>(loss.size()); }
};

/// Writes a file beside `path` and renames it: whatever happens meanwhile,
/// `path` is the old state or the new one. `owner` says in words what is
/// trained, settings and data included. kIo, kExhausted when the disk is full.
Status WriteCheckpoint(const std::string& path, std::string_view owner,
                       const TrainState& state);

/// The state of a training of `parameters` values. kNotFound when there is no
/// file; kInvalid when it is not whole or another owner's; kIo.
Result<TrainState> ReadCheckpoint(const std::string& path,
                                  std::string_view owner, int64_t parameters);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_CHECKPOINT_H_
