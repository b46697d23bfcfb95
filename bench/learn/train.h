// The training loop, and the batches of text it is fed with.
#ifndef SACCADE_BENCH_LEARN_TRAIN_H_
#define SACCADE_BENCH_LEARN_TRAIN_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/optimiser.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Fills tokens and targets [batch, len] of a step; negative targets are not
/// scored.
using Batches = std::function<void(int64_t step, std::span<int32_t> tokens,
                                   std::span<int32_t> targets)>;

/// See Train.
using TrainTick = std::function<bool(int64_t step, double loss)>;

struct TrainOptions {
  int64_t batch = 16, len = 128;
  OptimiserOptions optimiser = {};
};

struct TrainResult {
  std::vector<double> loss;  // of each step, nats a scored token
  double seconds = 0;        // all told, before a checkpoint too
  double gflops = 0;         // by Model::FlopsPerToken
  bool stopped = false;
};

/// Where a training keeps its state, and how often.
struct Checkpoints {
  std::string path;     // empty: nowhere
  std::string owner;    // see checkpoint.h
  double seconds = 15;  // from one to the next
};

/// Trains from the model's present parameters, or from the checkpoint if there
/// is a good one of the same owner: the result is the same to the bit. `tick`
/// (may be empty) is called after each step with its number and its loss and
/// returns false to stop. A checkpoint is also written when it stops and at the
/// end. Errors: as ModelPass::Make; kInvalid when the loss is no longer finite;
/// kIo when a checkpoint cannot be written.
Result<TrainResult> Train(Model& model, const TrainOptions& options,
                          const Batches& batches, Exec& exec,
                          const TrainTick& tick,
                          const Checkpoints& checkpoints = {});

/// Sequences of `len` bytes from random places of `text`, behind a BOS token:
/// the order depends on the seed and the step alone. `text` must outlive it and
/// hold at least len bytes.
Batches TextBatches(std::string_view text, int64_t len, int32_t bos,
                    uint64_t seed);

/// One sequence: tokens are BOS and all bytes but the last, targets all bytes.
void TextSequence(std::string_view bytes, int32_t bos, int32_t* tokens,
                  int32_t* targets);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_TRAIN_H_
