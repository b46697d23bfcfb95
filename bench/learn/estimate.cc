#include "bench/learn/estimate.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "bench/learn/optimiser.h"
#include "bench/learn/pass.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Seconds of the fastest repetition but the first, which touches fresh memory.
Result<double> Time(Model& model, const PassOptions& options, Exec& exec) {
  Result<std::unique_ptr<ModelPass>> pass =
      ModelPass::Make(model, options, exec);
  if (!pass.ok()) return pass.status();
  const auto n = static_cast<size_t>(options.batch * options.len);
  const std::vector<int32_t> tokens(n, 0);
  Optimiser optimiser(model.parameters(), {});
  double seconds = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double start = Now();
    Status status = (*pass)->Forward(model, tokens, tokens);
    if (status.ok() && options.train) {
      status = (*pass)->Backward(model);
      optimiser.Step(model.parameters(), exec);
    }
    if (!status.ok()) return status;
    const double took = Now() - start;
    if (repeat > 0) seconds = repeat == 1 ? took : std::min(seconds, took);
  }
  return seconds;
}

}  // namespace

Result<double> TimeReading(Model& model, int64_t len, const Changes& changes,
                           Exec& exec) {
  const int64_t count = std::max<int64_t>(4096 / len, 1);
  const Result<double> pass = Time(model,
                                   {.batch = count,
                                    .len = len,
                                    .window = changes.window,
                                    .positions = changes.positions},
                                   exec);
  if (!pass.ok()) return pass.status();
  return *pass / static_cast<double>(count * len);
}

Result<Speed> Calibrate(const ModelOptions& options, int64_t batch, int64_t len,
                        int64_t longest, Exec& exec) {
  UseOneBlasThread();
  Result<Model> model = Model::Make(options);
  if (!model.ok()) return model.status();
  model->parameters().Start(1);
  Speed speed;
  speed.near = len;
  const Result<double> step =
      Time(*model, {.batch = batch, .len = len, .train = true}, exec);
  if (!step.ok()) return step.status();
  speed.step = *step;
  speed.far =
      model->max_len() > 0 ? std::min(longest, model->max_len()) : longest;
  for (const bool far : {false, true}) {
    const Result<double> token =
        TimeReading(*model, far ? speed.far : speed.near, {}, exec);
    if (!token.ok()) return token.status();
    (far ? speed.far_token : speed.near_token) = *token;
  }
  return speed;
}

}  // namespace saccade::bench
