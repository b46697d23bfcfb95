// Transposes between rows in memory and columns of lanes.

// Per-target include guard.
#if defined(SACCADE_COMMON_SIMD_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_SIMD_TRANSPOSE_INL_H_
#undef SACCADE_COMMON_SIMD_TRANSPOSE_INL_H_
#else
#define SACCADE_COMMON_SIMD_TRANSPOSE_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

/// Transposes 4 x 4 within each block of four lanes.
template <class D>
HWY_INLINE void Transpose4(D d, hwy::HWY_NAMESPACE::Vec<D> (&v)[4]) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Repartition<double, D> dd;
  const auto a = hn::BitCast(dd, hn::InterleaveLower(d, v[0], v[1]));
  const auto b = hn::BitCast(dd, hn::InterleaveUpper(d, v[0], v[1]));
  const auto c = hn::BitCast(dd, hn::InterleaveLower(d, v[2], v[3]));
  const auto e = hn::BitCast(dd, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(dd, a, c));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(dd, a, c));
  v[2] = hn::BitCast(d, hn::InterleaveLower(dd, b, e));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(dd, b, e));
}

/// Block b of the vector is four floats of row `row + 4 b`: with blocks
/// gathered so, Transpose4 is all the shuffling that an L x 4 transpose needs,
/// for every L. Rows past `last` repeat it when loaded and are not stored.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> LoadRowBlocks(D d, const float* p,
                                                    int64_t stride, int64_t row,
                                                    int64_t last) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (hn::MaxLanes(D()) == 4) {
    return hn::LoadU(d, p + std::min(row, last) * stride);
  } else {
    const hn::Half<D> dh;
    constexpr int64_t kHalf = hn::MaxLanes(hn::Half<D>());
    return hn::Combine(d, LoadRowBlocks(dh, p, stride, row + kHalf, last),
                       LoadRowBlocks(dh, p, stride, row, last));
  }
}
template <class D>
HWY_INLINE void StoreRowBlocks(D d, hwy::HWY_NAMESPACE::Vec<D> v, float* p,
                               int64_t stride, int64_t row, int64_t last) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (hn::MaxLanes(D()) == 4) {
    if (row <= last) hn::StoreU(v, d, p + row * stride);
  } else {
    const hn::Half<D> dh;
    constexpr int64_t kHalf = hn::MaxLanes(hn::Half<D>());
    StoreRowBlocks(dh, hn::LowerHalf(dh, v), p, stride, row, last);
    StoreRowBlocks(dh, hn::UpperHalf(dh, v), p, stride, row + kHalf, last);
  }
}

/// columns[c * ld + lane] = change(rows[lane * stride + c]), of vectors and of
/// single floats, for the lanes of one vector and c < dim. Rows past `last`
/// repeat it. `columns` is aligned to a vector, and ld a multiple of one.
template <class D, class Change>
HWY_INLINE void RowsToColumns(D d, const float* rows, int64_t stride,
                              int64_t last, int64_t dim, Change change,
                              float* columns, int64_t ld) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  const bool whole = last >= kLanes - 1;  // worth knowing: 48 fewer scalar ops
  int64_t c = 0;
  for (; c + 4 <= dim; c += 4) {
    hn::Vec<D> v[4];
    for (int i = 0; i < 4; ++i)
      v[i] = whole ? LoadRowBlocks(d, rows + c, stride, i, kLanes)
                   : LoadRowBlocks(d, rows + c, stride, i, last);
    Transpose4(d, v);
    for (int i = 0; i < 4; ++i)
      hn::Store(change(v[i]), d, columns + (c + i) * ld);
  }
  const hn::CappedTag<float, 1> d1;
  for (; c < dim; ++c)
    for (int64_t i = 0; i < kLanes; ++i)
      hn::StoreU(change(hn::LoadU(d1, rows + std::min(i, last) * stride + c)),
                 d1, columns + c * ld + i);
}

/// The same with change(x) = factor x.
template <class D>
HWY_INLINE void RowsToColumns(D d, const float* rows, int64_t stride,
                              int64_t last, int64_t dim, float factor,
                              float* columns, int64_t ld) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto times = [factor](auto x) HWY_ATTR {
    return hn::Mul(hn::Set(hn::DFromV<decltype(x)>(), factor), x);
  };
  RowsToColumns(d, rows, stride, last, dim, times, columns, ld);
}

/// rows[lane * stride + c] = factor[lane] * columns[c * ld + lane], for lanes
/// 0 .. min(last, Lanes(d) - 1) and c < dim. `columns` and `factor` are aligned
/// to a vector.
template <class D>
HWY_INLINE void ColumnsToRows(D d, const float* columns, int64_t ld,
                              const float* factor, int64_t dim, float* rows,
                              int64_t stride, int64_t last) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  const auto f = hn::Load(d, factor);
  const bool whole = last >= kLanes - 1;
  int64_t c = 0;
  for (; c + 4 <= dim; c += 4) {
    hn::Vec<D> v[4];
    for (int i = 0; i < 4; ++i)
      v[i] = hn::Mul(f, hn::Load(d, columns + (c + i) * ld));
    Transpose4(d, v);
    for (int i = 0; i < 4; ++i)
      if (whole)
        StoreRowBlocks(d, v[i], rows + c, stride, i, kLanes);
      else
        StoreRowBlocks(d, v[i], rows + c, stride, i, last);
  }
  for (; c < dim; ++c)
    for (int64_t i = 0; i <= std::min(last, kLanes - 1); ++i)
      rows[i * stride + c] = factor[i] * columns[c * ld + i];
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_SIMD_TRANSPOSE_INL_H_
