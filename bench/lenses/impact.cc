// Perturbation impact: how far the model's last hidden vector at i moves when
// byte j is another.
//
//   I_ij = || h_i(x) - h_i(x with x_j replaced) ||
//
// Wu et al. 2020, arXiv:2004.14786 (there with masks for bytes, in an encoder).
// Needs nothing of the variant. Above the diagonal a causal model's is zero
// exactly: every pass has the same shape, so the same sums in the same order.
#include <algorithm>
#include <cmath>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kLen = 64;

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  const Model& model = *s.model;
  const int64_t len = std::min(kLen, model.options().train_len);
  const auto pass = ModelPass::Make(model, {.len = len, .train = true}, exec);
  if (!pass.ok()) return pass.status();
  Random random(s.seed, "bytes");
  const int64_t bytes = model.options().symbols - 1;  // the last is BOS
  std::vector<int32_t> tokens(len);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random.Below(bytes));
  const std::vector<int32_t> targets(len, -1);
  const auto hidden = [&]() -> Result<std::vector<float>> {
    const Status status = (*pass)->Forward(model, tokens, targets);
    if (!status.ok()) return status;
    const Rows x = (*pass)->Stream(model.units().size());
    return std::vector<float>(x.data, x.data + x.rows * x.cols);
  };
  const auto before = hidden();
  if (!before.ok()) return before.status();
  const int64_t width = model.options().width;
  std::vector<double> impact(len * len);
  double leak = 0, sum = 0, distance = 0;
  for (int64_t j = 0; j < len; ++j) {
    const int32_t kept = tokens[j];
    tokens[j] =
        static_cast<int32_t>((kept + 1 + random.Below(bytes - 1)) % bytes);
    const auto after = hidden();
    if (!after.ok()) return after.status();
    tokens[j] = kept;
    for (int64_t i = 0; i < len; ++i) {
      double squares = 0;
      for (int64_t c = i * width; c < (i + 1) * width; ++c) {
        const double d = static_cast<double>((*after)[c]) - (*before)[c];
        squares += d * d;
      }
      const double size = impact[i * len + j] = std::sqrt(squares);
      if (j > i) leak = std::max(leak, size);
      if (j >= i || i < len / 2) continue;
      sum += size;
      distance += size * static_cast<double>(i - j);
    }
  }
  std::vector<Reading> readings = {{"impact ahead", leak}};
  if (sum > 0) readings.push_back({"impact distance", distance / sum});
  const double most = *std::max_element(impact.begin(), impact.end());
  readings.push_back({"impact", most, Paint(impact, len)});
  return readings;
}

}  // namespace

const Lens& impact() {
  static const Lens lens = {
      .name = "impact",
      .source = "Wu et al. 2020, arXiv:2004.14786",
      .sees = Sees::kModel,
      .quantities =
          {{"impact ahead",
            "the greatest change of a last hidden vector when a later byte is "
            "replaced",
            "0 exactly: else the model sees the future"},
           {"impact distance",
            "how far ahead of a replaced byte the model's vectors move, its "
            "own place left out: mean distance by ||change||, tokens 33 to 64",
            "24 for a change that is the same everywhere"},
           {"impact",
            "||change of the last hidden vector|| at each of 64 places by the "
            "byte that was replaced; the number is the greatest",
            ""}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
