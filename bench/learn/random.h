// Random numbers that are the same on every machine and library: the standard
// distributions are not. Counter-based (SplitMix64, Steele 2014), so that the
// n-th number of a stream can be had without the others.
#ifndef SACCADE_BENCH_LEARN_RANDOM_H_
#define SACCADE_BENCH_LEARN_RANDOM_H_

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>

namespace saccade::bench {

/// A well-mixed function of 64 bits.
constexpr uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// FNV-1a.
constexpr uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

/// A stream of random numbers, by seed and name.
class Random {
 public:
  Random(uint64_t seed, std::string_view name)
      : state_(Mix(seed ^ Mix(Hash(name)))) {}

  uint64_t Bits() { return Mix(state_ + next_++ * 0x9e3779b97f4a7c15); }

  /// Uniform in [0, 1).
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1p-53; }

  /// Uniform in 0 .. n - 1; n > 0. The bias is below n / 2^53.
  int64_t Below(int64_t n) {
    return static_cast<int64_t>(Uniform() * static_cast<double>(n));
  }

  /// Standard normal (Box & Muller 1958, the cosine half).
  double Normal() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

  /// Shuffles n items (Fisher & Yates).
  template <class T>
  void Shuffle(T* items, int64_t n) {
    for (int64_t i = n - 1; i > 0; --i)
      std::swap(items[i], items[Below(i + 1)]);
  }

 private:
  uint64_t state_;
  uint64_t next_ = 0;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_RANDOM_H_
