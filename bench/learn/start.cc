#include "bench/learn/start.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"
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

// Sequences of `len` symbols, each a draw without replacement.
void DrawDistinct(int64_t symbols, int64_t len, std::span<int32_t> tokens) {
  std::vector<int32_t> all(symbols);
  std::iota(all.begin(), all.end(), 0);
  Random random(1, "distinct");
  for (size_t at = 0; at < tokens.size(); at += len) {
    random.Shuffle(all.data(), symbols);
    std::copy_n(all.begin(), len, tokens.begin() + static_cast<int64_t>(at));
  }
}

}  // namespace

Result<StartRatios> MeasureStart(const Model& fresh, std::string_view text,
                                 int64_t len, Exec& exec) {
  constexpr int64_t kSequences = 16;
  UseOneBlasThread();
  if (text.empty()) len = std::min(len, fresh.options().symbols);
  Result<std::unique_ptr<Pass>> made =
      Pass::Make(fresh, {.batch = kSequences, .len = len, .train = true}, exec);
  if (!made.ok()) return made.status();
  std::vector<int32_t> tokens(kSequences * len), targets(kSequences * len);
  if (text.empty()) {
    DrawDistinct(fresh.options().symbols, len, tokens);
  } else {
    TextBatches(text, len, fresh.bos(), 1)(0, tokens, targets);
  }
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
