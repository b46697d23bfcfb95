// A caller's mask, element by element.
#ifndef SACCADE_COMMON_ATTN_MASK_H_
#define SACCADE_COMMON_ATTN_MASK_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "saccade/tensor.h"
#include "simd/bf16.h"

namespace saccade {

/// Additive masks hide with -infinity or, as many do, with the lowest number:
/// what is below this hides. A score's own part would be lost in its rounding.
constexpr float kHides = -1e30f;

/// The same mask with a stride of 0 where it has a size of 1.
inline MaskView Broadcast(MaskView mask) {
  if (mask.batch == 1) mask.batch_stride = 0;
  if (mask.heads == 1) mask.head_stride = 0;
  if (mask.q_len == 1) mask.row_stride = 0;
  if (mask.kv_len == 1) mask.key_stride = 0;
  return mask;
}

inline const std::byte* MaskAt(const MaskView& mask, int64_t b, int64_t h,
                               int64_t row, int64_t key) {
  return static_cast<const std::byte*>(mask.data) +
         SizeOf(mask.element) * (b * mask.batch_stride + h * mask.head_stride +
                                 row * mask.row_stride + key * mask.key_stride);
}

/// What the element at `at` adds to a score; -infinity hides the pair.
inline float MaskValue(MaskElement element, const std::byte* at) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  if (element == MaskElement::kBool)
    return *at == std::byte{0} ? kHidden : 0.0f;
  const float x = element == MaskElement::kF32
                      ? *reinterpret_cast<const float*>(at)
                      : ToFloat(*reinterpret_cast<const BF16*>(at));
  return x < kHides ? kHidden : x;
}

}  // namespace saccade

#endif  // SACCADE_COMMON_ATTN_MASK_H_
