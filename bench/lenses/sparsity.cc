// Sparsity: S = E|a| / sqrt(E a^2) over the keys that a query may see, 1 for
// even weights; and n_eff = n S^2 = (sum |a|)^2 / sum a^2, the number of keys
// that even weights as concentrated would have.
//
// Source: Su 2023, kexue.fm/archives/9889. At start, unit scores: e^-1/2 = .61
// for softmax, 1/sqrt(6) = .41 for squared relu.
#include <cmath>

#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

double Squares(int64_t, std::span<const double> p) {
  double sum = 0;
  for (const double x : p) sum += x * x;
  return sum;
}

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  const Weights& w = *s.weights;
  // 1/S^2 is what has little bias where keys are few.
  const double inverse = MeanOverRows(
      w, {w.len / 2, w.len}, [](int64_t i, std::span<const double> p) {
        return static_cast<double>(i + 1) * Squares(i, p);
      });
  return {{{"sparsity", 1 / std::sqrt(inverse)},
           {"n_eff", 1 / MeanOverRows(w, LateRows(w), Squares)}}};
}

}  // namespace

const Lens& sparsity() {
  static const Lens lens = {
      .name = "sparsity",
      .source = "Su 2023, kexue.fm/archives/9889",
      .sees = Sees::kWeights,
      .quantities =
          {{"sparsity",
            "S = E|a| / sqrt(E a^2) over the keys that a row may see, rows of "
            "the second half; 1/S^2 is averaged",
            "at start .60 for softmax of unit scores, .41 for squared relu, "
            ".95 and more for linear attention; 1 for even weights"},
           {"n_eff", "n S^2: keys that count, rows 65 to 128",
            "all that it may see, about 96, for even weights"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
