// How large a model's branches are before it has learned anything:
// rms(branch(norm(x))) / rms(norm(x)) of the first unit of either kind, the
// share 1/sqrt(2N) in the output's start undone. On sequences without repeats,
// since scores of equal keys add up; beside it on text, which repeats.
//
// Su 2022, kexue.fm/archives/8990: a gated unit's is small, so that it trains
// without warm-up and with the norm behind.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include "bench/learn/pass.h"
#include "bench/learn/random.h"
#include "bench/learn/train.h"
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

struct Ratios {
  std::optional<double> attention, mlp;
};

// Tokens of sequences none of which holds a symbol twice.
std::vector<int32_t> DrawDistinct(int64_t symbols, int64_t len, uint64_t seed) {
  std::vector<int32_t> all(symbols), tokens;
  std::iota(all.begin(), all.end(), 0);
  Random random(seed, "symbols");
  for (int64_t i = 0; i < kSequences; ++i) {
    random.Shuffle(all.data(), symbols);
    tokens.insert(tokens.end(), all.begin(), all.begin() + len);
  }
  return tokens;
}

Result<Ratios> RatiosOn(const Model& model, const std::vector<int32_t>& tokens,
                        Exec& exec) {
  const auto len = static_cast<int64_t>(tokens.size()) / kSequences;
  const auto pass = ModelPass::Make(
      model, {.batch = kSequences, .len = len, .train = true}, exec);
  if (!pass.ok()) return pass.status();
  const std::vector<int32_t> targets(tokens.size(), -1);
  const Status status = (*pass)->Forward(model, tokens, targets);
  if (!status.ok()) return status;
  // At start gains are 1, so a branch's input norm(x) has rms 1.
  const double share =
      std::sqrt(2 * static_cast<double>(model.options().layers));
  Ratios ratios;
  for (size_t u = 0; u < model.units().size(); ++u) {
    std::optional<double>& ratio =
        model.units()[u].attention ? ratios.attention : ratios.mlp;
    if (!ratio) ratio = share * Rms((*pass)->Stream(u + 1), (*pass)->Stream(u));
  }
  return ratios;
}

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  const Model& model = *s.model;
  const int64_t len = model.options().train_len;
  const auto distinct =
      RatiosOn(model,
               DrawDistinct(model.options().symbols,
                            std::min(len, model.options().symbols), s.seed),
               exec);
  if (!distinct.ok()) return distinct.status();
  std::vector<Reading> readings;
  if (distinct->attention) {
    readings.push_back({"attention branch", *distinct->attention});
  }
  if (distinct->mlp) readings.push_back({"mlp branch", *distinct->mlp});
  if (static_cast<int64_t>(s.text.size()) < len) return readings;
  std::vector<int32_t> tokens(kSequences * len), targets(tokens.size());
  TextBatches(s.text, len, model.bos(), s.seed)(0, tokens, targets);
  const auto text = RatiosOn(model, tokens, exec);
  if (!text.ok()) return text.status();
  if (text->attention) {
    readings.push_back({"attention branch, on text", *text->attention});
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
           {"mlp branch", "the same of the first MLP", "10 times GAU's"},
           {"attention branch, on text",
            "the same on text, where bytes repeat and equal keys add up", ""}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
