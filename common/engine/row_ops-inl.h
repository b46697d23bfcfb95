// Rows of tensors as padded floats, and arithmetic on them.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_ROW_OPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_ROW_OPS_INL_H_
#undef SACCADE_COMMON_ENGINE_ROW_OPS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_ROW_OPS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "engine/pattern.h"
#include "engine/product-inl.h"
#include "engine/scan_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE float OneFloat(const float* x) { return *x; }
HWY_INLINE float OneFloat(const BF16* x) { return ToFloat(*x); }

/// Rows first .. first + n - 1 of a head, some of their columns, as padded
/// floats; zeros where there is no such row.
template <class T>
inline void LoadChunk(const ConstView& x, int64_t b, int64_t h, int64_t first,
                      int64_t n, Interval columns, float* to, int64_t stride) {
  for (int64_t t = 0; t < n; ++t)
    if (first + t >= 0 && first + t < x.len)
      LoadRow<IdentityMap>(x.Row<T>(b, h, first + t) + columns.begin,
                           columns.size(), to + t * stride);
    else
      std::fill_n(to + t * stride, stride, 0.0f);
}

template <class T>
inline void StoreChunk(const float* from, int64_t stride, const View& x,
                       int64_t b, int64_t h, int64_t first, int64_t n,
                       Interval columns) {
  for (int64_t t = std::max<int64_t>(0, -first); t < std::min(n, x.len - first);
       ++t)
    StoreRow<IdentityMap>(from + t * stride, from + t * stride, columns.size(),
                          x.Row<T>(b, h, first + t) + columns.begin);
}

/// The same of zeros.
template <class T>
inline void ClearRows(const View& x, int64_t b, int64_t h, Interval rows,
                      Interval columns) {
  rows = rows.Cut({0, x.len});
  for (int64_t t = rows.begin; t < rows.end; ++t)
    std::fill_n(x.Row<T>(b, h, t) + columns.begin, columns.size(), T{});
}

/// y = by x, or y += by x, of n floats, a multiple of kChunkPad.
template <bool kAdd = false>
HWY_INLINE void ScaleRow(float by, const float* x, int64_t n, float* y) {
  const ProductTag d;
  const auto f = hn::Set(d, by);
  for (int64_t i = 0; i < n; i += kProductLanes) {
    const auto z = hn::Mul(f, hn::LoadU(d, x + i));
    hn::StoreU(kAdd ? hn::Add(z, hn::LoadU(d, y + i)) : z, d, y + i);
  }
}

/// y = by x z, element by element.
HWY_INLINE void MultiplyRows(float by, const float* x, const float* z,
                             int64_t n, float* y) {
  const ProductTag d;
  const auto f = hn::Set(d, by);
  for (int64_t i = 0; i < n; i += kProductLanes)
    hn::StoreU(hn::Mul(f, hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, z + i))), d,
               y + i);
}

HWY_INLINE float DotRows(const float* x, const float* y, int64_t n) {
  const ProductTag d;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kProductLanes)
    sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_ROW_OPS_INL_H_
