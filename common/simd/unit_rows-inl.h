// Rows brought to length 1, and their gradients.

// Per-target include guard.
#if defined(SACCADE_COMMON_SIMD_UNIT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_SIMD_UNIT_ROWS_INL_H_
#undef SACCADE_COMMON_SIMD_UNIT_ROWS_INL_H_
#else
#define SACCADE_COMMON_SIMD_UNIT_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "simd/bf16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// In double, as squares of floats pass their range.
using RowTag = hn::ScalableTag<double>;
using RowFloats = hn::Rebind<float, RowTag>;

template <class T>
HWY_INLINE hn::Vec<RowTag> LoadDoubles(const T* x, int64_t left) {
  const RowTag d;
  const RowFloats df;
  if (left >= static_cast<int64_t>(hn::MaxLanes(d)))
    return hn::PromoteTo(d, LoadAs(df, x));
  HWY_ALIGN T some[hn::MaxLanes(RowFloats())] = {};
  std::copy_n(x, left, some);
  return hn::PromoteTo(d, LoadAs(df, some));
}

template <class T, class U>
inline double InnerOf(const T* x, const U* y, int64_t n) {
  const RowTag d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  for (int64_t i = 0; i < n; i += 2 * kLanes) {
    even =
        hn::MulAdd(LoadDoubles(x + i, n - i), LoadDoubles(y + i, n - i), even);
    if (const int64_t j = i + kLanes; j < n)
      odd =
          hn::MulAdd(LoadDoubles(x + j, n - j), LoadDoubles(y + j, n - j), odd);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

/// to = a x + b y; y is not read where b is 0.
template <class T, class U>
inline void CombineOf(double a, const T* x, double b, const U* y, int64_t n,
                      T* to) {
  const RowTag d;
  const RowFloats df;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < n; i += kLanes) {
    auto z = hn::Mul(hn::Set(d, a), LoadDoubles(x + i, n - i));
    if (b != 0) z = hn::MulAdd(hn::Set(d, b), LoadDoubles(y + i, n - i), z);
    const auto f = hn::DemoteTo(df, z);
    if (n - i >= kLanes) {
      StoreAs(df, f, to + i);
    } else {
      HWY_ALIGN T some[hn::MaxLanes(RowFloats())];
      StoreAs(df, f, some);
      std::copy_n(some, n - i, to + i);
    }
  }
}

/// One over the row's length; 0 for a row of zeros.
template <class T>
inline double InverseLength(const T* x, int64_t n) {
  const double square = InnerOf(x, x, n);
  return square == 0 ? 0 : 1 / std::sqrt(square);
}

/// dy = by (dy - square (x.dy) x), the gradient of y = x / |x|, times |x| by,
/// where square is |x|^-2; or of y = by x, where square is 0. Returns x.dy.
template <class T, class U>
inline double ReturnUnit(const T* x, double square, double by, int64_t n,
                         U* dy) {
  const U* const from = dy;
  // A row that nobody sees may hold anything.
  if (InnerOf(from, from, n) == 0) return 0;
  const double along = InnerOf(x, from, n);
  CombineOf(by, from, -by * square * along, x, n, dy);
  return along;
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_SIMD_UNIT_ROWS_INL_H_
