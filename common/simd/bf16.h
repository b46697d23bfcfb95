// bf16 <-> f32, one number at a time. Blocks of them: bf16-inl.h.
#ifndef SACCADE_COMMON_SIMD_BF16_H_
#define SACCADE_COMMON_SIMD_BF16_H_

#include <bit>
#include <cstdint>

#include "saccade/tensor.h"

namespace saccade {

/// Exact.
inline float ToFloat(BF16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

/// Rounds to nearest, ties to even; overflow gives infinity, and a NaN stays
/// one (a payload in the lower half alone would round to infinity).
inline BF16 ToBF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

}  // namespace saccade

#endif  // SACCADE_COMMON_SIMD_BF16_H_
