// Numbers spread evenly around 0, many of them in little time.
#ifndef SACCADE_COMMON_EVEN_H_
#define SACCADE_COMMON_EVEN_H_

#include <cstdint>

namespace saccade {

/// n numbers of that deviation, evenly between -sqrt(3) and sqrt(3) times it:
/// those from `first` on of an endless row, the same on every machine
/// (splitmix64).
inline void DrawEven(int64_t first, int64_t n, double deviation, float *to) {
  const auto step =
      static_cast<float>(1.7320508075688772 * 0x1p-31 * deviation);
  for (int64_t at = 0; at < n; ++at) {
    uint64_t x = (static_cast<uint64_t>(first + at) + 1) * 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    x ^= x >> 31;
    to[at] = step * static_cast<float>(static_cast<int32_t>(x >> 32));
  }
}

}  // namespace saccade

#endif  // SACCADE_COMMON_EVEN_H_
