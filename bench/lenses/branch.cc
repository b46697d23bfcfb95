// How large a model's branches are before it has learned anything:
// rms(branch(norm(x))) / rms(norm(x)) of the first unit of either kind, the
// share 1/sqrt(2N) in the output's start undone. On sequences without repeats:
// a token that is there twice has the same key twice.
//
// Su 2022, kexue.fm/archives/8990: a gated unit's is small, so that it trains
// without warm-up and with the norm behind.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kSequences = 16;

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

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  const Model& model = *s.model;
  std::vector<int32_t> symbols(model.options().symbols);
  std::iota(symbols.begin(), symbols.end(), 0);
  const int64_t len =
      std::min(model.options().train_len, static_cast<int64_t>(symbols.size()));
  const auto pass =
      Pass::Make(model, {.batch = kSequences, .len = len, .train = true}, exec);
  if (!pass.ok()) return pass.status();
  Random random(s.seed, "symbols");
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < kSequences; ++i) {
    random.Shuffle(symbols.data(), static_cast<int64_t>(symbols.size()));
    tokens.insert(tokens.end(), symbols.begin(), symbols.begin() + len);
  }
  const std::vector<int32_t> targets(tokens.size(), -1);
  const Status status = (*pass)->Forward(model, tokens, targets);
  if (!status.ok()) return status;
  // At start gains are 1, so a branch's input norm(x) has rms 1.
  const double share =
      std::sqrt(2 * static_cast<double>(model.options().layers));
  std::vector<Reading> readings;
  bool attention = false, mlp = false;
  for (size_t u = 0; u < model.units().size(); ++u) {
    bool& seen = model.units()[u].attention ? attention : mlp;
    if (seen) continue;
    seen = true;
    readings.push_back(
        {model.units()[u].attention ? "attention branch" : "mlp branch",
         share * Rms((*pass)->Stream(u + 1), (*pass)->Stream(u))});
  }
  return readings;
}

}  // namespace

const Lens& branch() {
  static const Lens lens = {
      .name = "branch",
      .source = "Su 2022, kexue.fm/archives/8990",
      .sees = Sees::kStart,
      .quantities =
          {{"attention branch",
            "rms(branch(norm(x))) / rms(norm(x)) of the first attention, on "
            "sequences without repeats",
            ".015 to .06 for GAU over n, 4 times that and more for softmax"},
           {"mlp branch", "the same of the first MLP", "10 times GAU's"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
