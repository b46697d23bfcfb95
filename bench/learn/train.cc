#include "bench/learn/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "bench/learn/checkpoint.h"
#include "bench/learn/pass.h"
#include "bench/learn/random.h"

namespace saccade::bench {

namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A state that training can begin with: the checkpoint's or a fresh one. A
// file that is no good costs time and nothing else.
TrainState Beginning(Model& model, const Checkpoints& checkpoints) {
  Parameters& parameters = model.parameters();
  if (!checkpoints.path.empty()) {
    Result<TrainState> kept =
        ReadCheckpoint(checkpoints.path, checkpoints.owner, parameters.count());
    if (kept.ok()) {
      std::copy(kept->values.begin(), kept->values.end(), parameters.value(0));
      return std::move(*kept);
    }
  }
  TrainState fresh;
  fresh.moments.first.resize(parameters.count());
  fresh.moments.second.resize(parameters.count());
  return fresh;
}

}  // namespace

Result<TrainResult> Train(Model& model, const TrainOptions& options,
                          const Batches& batches, Exec& exec,
                          const TrainTick& tick,
                          const Checkpoints& checkpoints) {
  UseOneBlasThread();
  Result<std::unique_ptr<ModelPass>> made = ModelPass::Make(
      model, {.batch = options.batch, .len = options.len, .train = true}, exec);
  if (!made.ok()) return made.status();
  ModelPass& pass = **made;
  const Result<double> flops = model.FlopsPerToken(options.len);
  if (!flops.ok()) return flops.status();
  const int64_t n = options.batch * options.len;
  std::vector<int32_t> tokens(n), targets(n);
  Parameters& parameters = model.parameters();
  TrainState begun = Beginning(model, checkpoints);
  Optimiser optimiser(std::move(begun.moments), options.optimiser);
  TrainResult result{.loss = std::move(begun.loss)};
  const auto start = Clock::now();
  const auto save = [&]() -> Status {
    if (checkpoints.path.empty()) return {};
    const float* const values = parameters.value(0);
    return WriteCheckpoint(checkpoints.path, checkpoints.owner,
                           {.loss = result.loss,
                            .seconds = begun.seconds + Since(start),
                            .values = {values, values + parameters.count()},
                            .moments = optimiser.moments()});
  };
  auto saved = start;
  const int64_t steps = options.optimiser.steps;
  for (auto step = std::ssize(result.loss); step < steps; ++step) {
    batches(step, tokens, targets);
    Status status = pass.Forward(model, tokens, targets);
    if (status.ok()) status = pass.Backward(model);
    if (!status.ok()) return status;
    result.loss.push_back(pass.mean_loss());
    const double norm = optimiser.Step(parameters, exec);
    if (!std::isfinite(result.loss.back()) || !std::isfinite(norm)) {
      return Invalid(fmt::format("training diverged at step {}", step));
    }
    result.stopped = tick && !tick(step, result.loss.back());
    if (result.stopped || step + 1 == steps ||
        Since(saved) >= checkpoints.seconds) {
      if (status = save(); !status.ok()) return IoError(status.message());
      saved = Clock::now();
    }
    if (result.stopped) break;
  }
  result.seconds = begun.seconds + Since(start);
  result.gflops = *flops * static_cast<double>(n) *
                  static_cast<double>(result.loss.size()) / result.seconds *
                  1e-9;
  return result;
}

void TextSequence(std::string_view bytes, int32_t bos, int32_t* tokens,
                  int32_t* targets) {
  int32_t last = bos;
  for (size_t i = 0; i < bytes.size(); ++i) {
    tokens[i] = last;
    last = targets[i] = static_cast<unsigned char>(bytes[i]);
  }
}

Batches TextBatches(std::string_view text, int64_t len, int32_t bos,
                    uint64_t seed) {
  return
      [=](int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) {
        Random random(seed, fmt::format("text {}", step));
        const auto last = static_cast<int64_t>(text.size()) - len;
        for (size_t at = 0; at < tokens.size(); at += len) {
          const int64_t place = random.Below(last + 1);
          TextSequence(text.substr(place, len), bos, &tokens[at], &targets[at]);
        }
      };
}

}  // namespace saccade::bench
