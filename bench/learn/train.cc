#include "bench/learn/train.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"

namespace saccade::bench {

Result<TrainResult> Train(Model& model, const TrainOptions& options,
                          const Batches& batches, Exec& exec,
                          const std::function<bool(int64_t step)>& tick) {
  UseOneBlasThread();
  Result<std::unique_ptr<Pass>> made = Pass::Make(
      model, {.batch = options.batch, .len = options.len, .train = true}, exec);
  if (!made.ok()) return made.status();
  Pass& pass = **made;
  const int64_t n = options.batch * options.len;
  std::vector<int32_t> tokens(n), targets(n);
  Optimiser optimiser(model.parameters(), options.optimiser);
  TrainResult result;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < options.optimiser.steps; ++step) {
    batches(step, tokens, targets);
    Status status = pass.Forward(model, tokens, targets);
    if (status.ok()) status = pass.Backward(model);
    if (!status.ok()) return status;
    result.loss.push_back(pass.mean_loss());
    const double norm = optimiser.Step(model.parameters(), exec);
    if (!std::isfinite(result.loss.back()) || !std::isfinite(norm)) {
      return Invalid(fmt::format("training diverged at step {}", step));
    }
    if (tick && !tick(step)) {
      result.stopped = true;
      break;
    }
  }
  const std::chrono::duration<double> time =
      std::chrono::steady_clock::now() - start;
  result.seconds = time.count();
  result.gflops = model.FlopsPerToken(options.len) * static_cast<double>(n) *
                  static_cast<double>(result.loss.size()) / time.count() * 1e-9;
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
