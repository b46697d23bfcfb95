// What a layer makes of its projections, by itself.
#ifndef SACCADE_COMMON_ACTIVATION_H_
#define SACCADE_COMMON_ACTIVATION_H_

#include <algorithm>
#include <cmath>

#include "saccade/variant.h"

namespace saccade {

inline double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kSoftplus:
      return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
    case Activation::kLogSigmoid:
      return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x)));
    case Activation::kRelu:
      return x < 0 ? 0 : x;
  }
  return x;
}

}  // namespace saccade

#endif  // SACCADE_COMMON_ACTIVATION_H_
