#include "bench/learn/start.h"

#include <cmath>
#include <memory>
#include <vector>

#include "bench/learn/pass.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

double Rms(const Rows& a, const Rows& b) {
  double squares = 0;
  for (int64_t t = 0; t < a.rows; ++t) {
    for (int64_t c = 0; c < a.cols; ++c) {
      const double x = static_cast<double>(a[t][c]) - b[t][c];
      squares += x * x;
    }
  }
  return std::sqrt(squares / static_cast<double>(a.rows * a.cols));
}

}  // namespace

Result<StartRatios> MeasureStart(const Model& fresh, std::string_view text,
                                 int64_t len, Exec& exec) {
  constexpr int64_t kSequences = 16;
  UseOneBlasThread();
  Result<std::unique_ptr<Pass>> made =
      Pass::Make(fresh, {.batch = kSequences, .len = len, .train = true}, exec);
  if (!made.ok()) return made.status();
  std::vector<int32_t> tokens(kSequences * len), targets(kSequences * len);
  TextBatches(text, len, fresh.bos(), 1)(0, tokens, targets);
  const Status status = (*made)->Forward(fresh, tokens, targets);
  if (!status.ok()) return status;
  // At start gains are 1, so a branch's input norm(x) has rms 1.
  const double share =
      std::sqrt(2 * static_cast<double>(fresh.options().layers));
  StartRatios ratios;
  const std::vector<Unit>& units = fresh.units();
  for (size_t u = units.size(); u-- > 0;) {
    const double ratio =
        share * Rms((*made)->Stream(u + 1), (*made)->Stream(u));
    if (units[u].attention) {
      ratios.attention = ratio;
    } else {
      ratios.mlp = ratio;
    }
  }
  return ratios;
}

}  // namespace saccade::bench
