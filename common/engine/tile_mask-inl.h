// A caller's mask as the tile engine's kernels read it: what it adds to scores,
// times log2 e, -infinity where it hides.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_MASK_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_MASK_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_MASK_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_MASK_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "attn_mask.h"
#include "simd/bf16-inl.h"
#include "simd/math-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

using MaskD = hwy::HWY_NAMESPACE::ScalableTag<float>;
using MaskV = hwy::HWY_NAMESPACE::Vec<MaskD>;
constexpr int kMaskLanes = HWY_LANES(float);

/// One vector of a row of additive elements.
template <class T>
HWY_INLINE MaskV LoadMask(const T* from) {
  namespace hn = hwy::HWY_NAMESPACE;
  const MaskD d;
  const MaskV x = LoadAs(d, from);
  const MaskV hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, kHides)), hidden,
                        hn::Mul(x, hn::Set(d, kLog2E)));
}

/// One vector of a row of booleans.
HWY_INLINE MaskV LoadMask(const uint8_t* from) {
  namespace hn = hwy::HWY_NAMESPACE;
  const MaskD d;
  const hn::RebindToUnsigned<MaskD> du;
  const hn::Rebind<uint8_t, MaskD> du8;
  const auto bytes = hn::PromoteTo(du, hn::LoadU(du8, from));
  return hn::IfThenElse(hn::RebindMask(d, hn::Eq(bytes, hn::Zero(du))),
                        hn::Set(d, -std::numeric_limits<float>::infinity()),
                        hn::Zero(d));
}

/// A row's elements of n keys, `step` apart, to `to`, and 0 up to a whole
/// vector. Ors into `any` whether one attends.
HWY_INLINE void LoadMaskRow(const MaskView& mask, const std::byte* row,
                            int64_t step, int n, float* to, bool* any) {
  namespace hn = hwy::HWY_NAMESPACE;
  const MaskD d;
  const int64_t stride = step * mask.key_stride;
  const MaskV hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  int i = 0;
  const auto run = [&](const auto* from) HWY_ATTR {
    for (; i + kMaskLanes <= n; i += kMaskLanes) {
      const MaskV x = LoadMask(from + i);
      *any = *any || !hn::AllTrue(d, hn::Eq(x, hidden));
      hn::StoreU(x, d, to + i);
    }
  };
  if (stride == 1) {
    switch (mask.element) {
      case MaskElement::kBool:
        run(reinterpret_cast<const uint8_t*>(row));
        break;
      case MaskElement::kF32:
        run(reinterpret_cast<const float*>(row));
        break;
      case MaskElement::kBF16:
        run(reinterpret_cast<const BF16*>(row));
        break;
    }
  }
  const int padded = (n + kMaskLanes - 1) / kMaskLanes * kMaskLanes;
  for (; i < n; ++i) {
    to[i] = kLog2E *
            MaskValue(mask.element, row + i * stride * SizeOf(mask.element));
    *any = *any || to[i] != -std::numeric_limits<float>::infinity();
  }
  std::fill(to + i, to + padded, 0.0f);
}

/// columns[key * ld + lane] for n keys from `first`, `step` apart, and rows
/// `at`, `row_step` bytes apart, those past `last` repeating it: one vector of
/// queries. Returns whether any pair attends.
HWY_INLINE bool LoadMaskColumns(const MaskView& mask, const std::byte* at,
                                int64_t row_step, int64_t last, int64_t step,
                                int n, float* columns, int64_t ld) {
  namespace hn = hwy::HWY_NAMESPACE;
  const MaskD d;
  const int64_t key_bytes = step * mask.key_stride * SizeOf(mask.element);
  const int rows = static_cast<int>(std::min<int64_t>(last + 1, kMaskLanes));
  bool any = false;
  HWY_ALIGN float block[kMaskLanes * kMaskLanes];
  for (int key = 0; key < n; key += kMaskLanes) {
    const int keys = std::min(kMaskLanes, n - key);
    float* const to = columns + key * ld;
    const std::byte* const from = at + key * key_bytes;
    if (row_step == 0) {
      LoadMaskRow(mask, from, step, keys, block, &any);
      for (int i = 0; i < keys; ++i)
        hn::Store(hn::Set(d, block[i]), d, to + i * ld);
      continue;
    }
    for (int r = 0; r < rows; ++r)
      LoadMaskRow(mask, from + r * row_step, step, keys, block + r * kMaskLanes,
                  &any);
    RowsToColumns(
        d, block, kMaskLanes, rows - 1, keys, [](auto x) HWY_ATTR { return x; },
        to, ld);
  }
  return any;
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_MASK_INL_H_
