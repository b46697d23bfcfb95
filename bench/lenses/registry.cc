// The list of lenses, from lenses.def, and what their files share.
#include <algorithm>
#include <cmath>

#include "bench/lenses/lens.h"

namespace saccade::bench {
namespace lenses {
#define SACCADE_LENS(id) const Lens& id();
#include "bench/lenses/lenses.def"
#undef SACCADE_LENS
}  // namespace lenses

std::span<const Lens* const> Lenses() {
  static const Lens* const all[] = {
#define SACCADE_LENS(id) &lenses::id(),
#include "bench/lenses/lenses.def"
#undef SACCADE_LENS
  };
  return all;
}

bool CanLook(const Lens& lens, const Subject& subject) {
  switch (lens.sees) {
    case Sees::kWeights:
      return subject.weights != nullptr;
    case Sees::kRepeats:
      return subject.repeats != nullptr;
    case Sees::kInputs:
      return subject.model == nullptr;
    case Sees::kModel:
      return subject.model != nullptr;
    case Sees::kStart:
      return subject.model != nullptr && !subject.trained;
  }
  return false;
}

Picture Paint(std::span<const double> values, int64_t size) {
  const double most = *std::max_element(values.begin(), values.end());
  Picture picture = {size, std::string(size * size, kLevels[0])};
  const auto top = static_cast<double>(kLevels.size() - 1);
  for (int64_t i = 0; i < size * size; ++i) {
    if (!(values[i] > 0)) continue;
    const double level = std::round(top * std::sqrt(values[i] / most));
    // What is there at all must not look as if it were not.
    picture.levels[i] = kLevels[static_cast<size_t>(std::max(level, 1.0))];
  }
  return picture;
}

double Slope(std::span<const double> x, std::span<const double> y) {
  const auto n = static_cast<double>(x.size());
  double mx = 0, my = 0, xy = 0, xx = 0;
  for (size_t i = 0; i < x.size(); ++i) mx += x[i] / n, my += y[i] / n;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mx) * (y[i] - my);
    xx += (x[i] - mx) * (x[i] - mx);
  }
  return xy / xx;
}

}  // namespace saccade::bench
