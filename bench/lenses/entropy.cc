// Entropy: how evenly a query spreads its attention, and how that grows with
// the number of keys.
//
//   H_i = - sum_j p_ij ln p_ij,   p_ij = |a_ij| / sum_j |a_ij|
//
// For softmax of scores N(0, s^2) H = ln n - s^2/2 (Su 2022, kexue.fm/archives
// /8823): the slope in ln n is 1, and log-n scaling flattens it.
#include <cmath>

#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

// Rows from which the slope is read: few keys are noise.
constexpr int64_t kFirstRow = 31;

double Entropy(int64_t, std::span<const double> p) {
  double h = 0;
  for (const double x : p) {
    if (x > 0) h -= x * std::log(x);
  }
  return h;
}

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.weights;
  std::vector<Reading> readings = {
      {"entropy", MeanOverRows(w, LateRows(w), Entropy)}};
  std::vector<double> x, y;
  for (int64_t i = kFirstRow; i < w.len; ++i) {
    const double mean = MeanOverRows(w, {i, i + 1}, Entropy);
    if (std::isnan(mean)) continue;
    x.push_back(std::log(static_cast<double>(i + 1)));
    y.push_back(mean);
  }
  if (x.size() > 1) readings.push_back({"entropy slope", Slope(x, y)});
  return readings;
}

}  // namespace

const Lens& entropy() {
  static const Lens lens = {
      .name = "entropy",
      .source = "Su 2021-2022, kexue.fm/archives/8823",
      .sees = Sees::kWeights,
      .quantities =
          {{"entropy",
            "entropy of a row's shares |a| / sum |a|, nats, mean of rows 65 "
            "to 128",
            "at most 4.56, of even shares"},
           {"entropy slope",
            "of a row's entropy over ln n, n the keys it may see, 32 and more",
            "1 for scores of one variance; 0 where the keys that count are of "
            "one number"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
