// A picture of the weights: the mean over heads of the first 64 rows.
#include <algorithm>
#include <cmath>

#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kSize = 64;

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.weights;
  const int64_t n = std::min(w.len, kSize);
  std::vector<double> mean(n * n);
  const auto matrices = static_cast<double>(w.batch * w.heads);
  for (int64_t b = 0; b < w.batch; ++b) {
    for (int64_t h = 0; h < w.heads; ++h) {
      for (int64_t i = 0; i < n; ++i) {
        const auto row = w.Row(b, h, i);
        double sum = 0;
        for (const float a : row) sum += std::abs(a);
        for (int64_t j = 0; j < n && sum > 0; ++j) {
          mean[i * n + j] += std::abs(row[j]) / sum / matrices;
        }
      }
    }
  }
  const double most = *std::max_element(mean.begin(), mean.end());
  return {{{"weights", most, Paint(mean, n)}}};
}

}  // namespace

const Lens& map() {
  static const Lens lens = {
      .name = "map",
      .source = "effective weights, by values that are the identity",
      .sees = Sees::kWeights,
      .quantities = {{"weights",
                      "shares of a row's weight, mean over heads and "
                      "sequences, the first 64 queries by their keys; the "
                      "number is the greatest",
                      ""}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
