// Normal numbers, the same on every machine.
#ifndef SACCADE_COMMON_NORMAL_H_
#define SACCADE_COMMON_NORMAL_H_

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

namespace saccade {

/// Numbers of a standard normal distribution.
class Normal {
 public:
  explicit Normal(uint64_t seed) : bits_(seed) {}
  double operator()() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  double Uniform() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }
  std::mt19937_64 bits_;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_NORMAL_H_
