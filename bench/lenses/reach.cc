// Gradient reach: how much the loss at a token hangs on the embedding k tokens
// before it, || d loss_t / d x_(t-k) ||.
//
// The story the field tells of attention beside recurrence: there it falls
// exponentially (Hochreiter 1991, Bengio et al. 1994), here it need not.
#include <algorithm>
#include <cmath>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kLen = 128, kSequences = 16;

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  Model model = *s.model;  // whose gradients are overwritten
  const int64_t len = std::min(kLen, model.options().train_len);
  const auto pass = ModelPass::Make(
      model, {.batch = kSequences, .len = len, .train = true}, exec);
  if (!pass.ok()) return pass.status();
  Random random(s.seed, "bytes");
  std::vector<int32_t> tokens(kSequences * len), targets(kSequences * len, -1);
  for (int32_t& t : tokens) {
    t = static_cast<int32_t>(random.Below(model.options().symbols - 1));
  }
  for (int64_t b = 0; b < kSequences; ++b) {
    targets[(b + 1) * len - 1] =
        static_cast<int32_t>(random.Below(model.options().symbols - 1));
  }
  Status status = (*pass)->Forward(model, tokens, targets);
  if (status.ok()) status = (*pass)->Backward(model);
  if (!status.ok()) return status;
  const Rows& gradient = (*pass)->StreamGradient();
  std::vector<double> curve(len);
  double sum = 0, distance = 0;
  for (int64_t k = 0; k < len; ++k) {
    double squares = 0;
    for (int64_t b = 0; b < kSequences; ++b) {
      const float* const g = gradient[(b + 1) * len - 1 - k];
      for (int64_t c = 0; c < gradient.cols; ++c) {
        squares += static_cast<double>(g[c]) * g[c];
      }
    }
    // The loss was the mean over sequences.
    curve[k] = std::sqrt(static_cast<double>(kSequences) * squares);
    if (k == 0) continue;
    sum += curve[k];
    distance += curve[k] * static_cast<double>(k);
  }
  std::vector<Reading> readings;
  if (sum > 0) {
    Reading& reading = readings.emplace_back();
    reading.name = "gradient reach";
    reading.value = distance / sum;
    reading.curve = std::move(curve);
  }
  return readings;
}

}  // namespace

const Lens& reach() {
  static const Lens lens = {
      .name = "reach",
      .source = "Hochreiter 1991; Bengio et al. 1994",
      .sees = Sees::kModel,
      .quantities = {{"gradient reach",
                      "mean distance k by ||d loss_t / d x_(t-k)|| of the last "
                      "of 128 tokens, its own left out",
                      "64 where the distance does not matter"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
