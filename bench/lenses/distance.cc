// Mean distance: how far back a query looks, by its weights.
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.weights;
  return {{{"distance", MeanOverRows(w, LateRows(w),
                                     [](int64_t i, std::span<const double> p) {
                                       double sum = 0;
                                       for (int64_t j = 0; j <= i; ++j) {
                                         sum +=
                                             p[j] * static_cast<double>(i - j);
                                       }
                                       return sum;
                                     })}}};
}

}  // namespace

const Lens& distance() {
  static const Lens lens = {
      .name = "distance",
      .source = "Vig and Belinkov 2019, arXiv:1906.04284, section 4",
      .sees = Sees::kWeights,
      .quantities = {{"distance",
                      "sum of p_ij (i - j), tokens, mean of rows 65 to 128",
                      "47.75 for even weights"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
