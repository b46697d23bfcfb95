// Attention sinks: heads that put much of their weight on the first token,
// whatever it is.
#include <algorithm>

#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kRows = 64;
constexpr double kMuch = 0.3;

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.weights;
  std::vector<double> sums(w.heads), counts(w.heads);
  ForRows(w, {1, std::min(w.len, kRows)},
          [&](int64_t h, int64_t, std::span<const double> p) {
            sums[h] += p[0];
            ++counts[h];
          });
  double sinks = 0;
  for (int64_t h = 0; h < w.heads; ++h) sinks += sums[h] > kMuch * counts[h];
  return {{{"sink heads", sinks / static_cast<double>(w.heads)}}};
}

}  // namespace

const Lens& sink() {
  static const Lens lens = {
      .name = "sink",
      .source = "Gu et al. 2024, arXiv:2410.10781, equation 7",
      .sees = Sees::kWeights,
      .quantities = {{"sink heads",
                      "share of heads that give the first token more than .3 "
                      "of their weight, mean of rows 2 to 64",
                      "0 at start"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
