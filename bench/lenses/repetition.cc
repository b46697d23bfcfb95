// Induction heads: on random tokens that come again, whether a head looks at
// what followed a token's earlier occurrences; and whether one looks at the
// token before, which the former builds upon.
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.repeats;
  const int64_t first = w.len - kRepeats * kRepeatPeriod;
  const auto followers = [first](int64_t i, std::span<const double> p) {
    double sum = 0;
    for (int64_t j = i - kRepeatPeriod; j >= first; j -= kRepeatPeriod) {
      sum += p[j + 1];
    }
    return sum;
  };
  const auto before = [](int64_t i, std::span<const double> p) {
    return p[i - 1];
  };
  return {{{"prefix matching",
            GreatestOfHeads(w, {first + kRepeatPeriod, w.len}, followers)},
           {"previous token", GreatestOfHeads(w, {first + 1, w.len}, before)}}};
}

}  // namespace

const Lens& repetition() {
  static const Lens lens = {
      .name = "repetition",
      .source = "Olsson et al. 2022, arXiv:2209.11895, appendix",
      .sees = Sees::kRepeats,
      .quantities =
          {{"prefix matching",
            "on 4 repeats of 25 random tokens, weight on the tokens that "
            "followed a token's earlier occurrences; the head that gives most",
            "about .04 without an induction head"},
           {"previous token",
            "there, weight on the token before; the head that gives most",
            "about .03 for even weights"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
