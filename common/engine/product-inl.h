// Products of small matrices, and triangular systems, on one thread: what
// engines that work in chunks of tokens are made of.
//
// Columns of the result lie in the lanes; rows of b are read where they are,
// elements of a one by one, so that a may be anything strided and nothing is
// packed. Rows of b and of results are padded to whole vectors. Every element
// is one sum in the order of the inner index, whatever tile it falls into.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_PRODUCT_INL_H_
#undef SACCADE_COMMON_ENGINE_PRODUCT_INL_H_
#else
#define SACCADE_COMMON_ENGINE_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "engine/rows_ahead.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using ProductTag = hn::ScalableTag<float>;
using ProductVec = hn::Vec<ProductTag>;
constexpr int64_t kProductLanes = hn::MaxLanes(ProductTag());
// Of a register tile: 16 accumulators where there are 32 registers.
constexpr int kProductRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr int kProductVectors = 2;

/// Elements (i, p) of a left factor; with the strides swapped, its transpose.
struct Factor {
  const float* at;
  int64_t row, column;
  HWY_INLINE const float* operator()(int64_t i, int64_t p) const {
    return at + i * row + p * column;
  }
  Factor Transposed() const { return {at, column, row}; }
};

/// Which elements of the left factor count. Of kLower those with p > i are not
/// read, and no row sees what stands behind it, not even a NaN; of kUpper those
/// with p < i must be 0 or are not read.
enum class Triangle { kNone, kLower, kUpper };

enum class Into { kSet, kAdd, kSubtract };

struct ProductArgs {
  Factor a;
  const float* b;
  float* c;
  int64_t b_stride, c_stride;
  int64_t inner;
  Triangle triangle;
  Into into;
  const float* keep;  // of kAdd: what each row of c is multiplied by, or null
  RowsAhead* ahead;   // what tiles ask for, or null
};

template <int kRows, int kVectors>
HWY_INLINE void AddProducts(const ProductArgs& x, int64_t i, int64_t begin,
                            int64_t end, const LineFetch& fetch,
                            ProductVec (&sum)[kRows][kVectors]) {
  const ProductTag d;
  const float* b = x.b + begin * x.b_stride;
  const float* a = x.a(i, begin);
  HWY_UNROLL(1)
  for (int64_t p = begin; p < end; ++p) {
    fetch.Fetch(p - begin);
    ProductVec right[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v)
      right[v] = hn::LoadU(d, b + v * kProductLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const auto left = hn::Set(d, a[r * x.a.row]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
    b += x.b_stride;
    a += x.a.column;
  }
}

template <int kRows, int kVectors>
HWY_NOINLINE void ProductTile(const ProductArgs& x, int64_t i) {
  const ProductTag d;
  ProductVec sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  const LineFetch fetch = x.ahead != nullptr ? x.ahead->Next() : LineFetch();
  if (x.triangle == Triangle::kLower) {
    AddProducts(x, i, 0, std::min(i, x.inner), fetch, sum);
    for (int64_t p = i; p < std::min(i + kRows, x.inner); ++p) {
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        if (r < p - i) continue;
        HWY_UNROLL(2)
        for (int v = 0; v < kVectors; ++v)
          sum[r][v] =
              hn::MulAdd(hn::Set(d, *x.a(i + r, p)),
                         hn::LoadU(d, x.b + p * x.b_stride + v * kProductLanes),
                         sum[r][v]);
      }
    }
  } else {
    AddProducts(x, i, x.triangle == Triangle::kUpper ? i : 0, x.inner, fetch,
                sum);
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    float* const to = x.c + (i + r) * x.c_stride + v * kProductLanes;
    auto y = sum[r][v];
    if (x.into == Into::kSubtract) {
      y = hn::Sub(hn::LoadU(d, to), y);
    } else if (x.into == Into::kAdd) {
      const auto old = hn::LoadU(d, to);
      y = x.keep != nullptr ? hn::MulAdd(hn::Set(d, x.keep[i + r]), old, y)
                            : hn::Add(old, y);
    }
    hn::StoreU(y, d, to);
  }
}

// All rows of some columns.
template <int kVectors>
HWY_INLINE void ProductColumns(const ProductArgs& x, int64_t rows) {
  int64_t i = 0;
  for (; i + kProductRows <= rows; i += kProductRows)
    ProductTile<kProductRows, kVectors>(x, i);
  for (; i < rows; ++i) ProductTile<1, kVectors>(x, i);
}

// Calls visit(first column, vectors as a constant).
template <class F>
HWY_INLINE void ForProductColumns(int64_t columns, F visit) {
  constexpr int64_t kStep = kProductVectors * kProductLanes;
  int64_t c = 0;
  for (; c + kStep <= columns; c += kStep)
    visit(c, std::integral_constant<int, kProductVectors>());
  for (; c < columns; c += kProductLanes)
    visit(c, std::integral_constant<int, 1>());
}

/// c (+)= a b: a [rows, inner], b [inner, columns], c [rows, columns]; columns
/// a multiple of the lanes.
inline void Product(int64_t rows, int64_t inner, int64_t columns,
                    const Factor& a, const float* b, int64_t b_stride, float* c,
                    int64_t c_stride, Into into,
                    Triangle triangle = Triangle::kNone,
                    const float* keep = nullptr, RowsAhead* ahead = nullptr) {
  ForProductColumns(columns, [&](int64_t at, auto vectors) HWY_ATTR {
    ProductColumns<vectors>({a, b + at, c + at, b_stride, c_stride, inner,
                             triangle, into, keep, ahead},
                            rows);
  });
}

/// c = a b where c is square and only what is not above its diagonal counts;
/// the rest is anything. Rows of c have room for whole kLowerStep columns.
constexpr int64_t kLowerStep = 16;
inline void LowerProduct(int64_t rows, int64_t inner, const Factor& a,
                         const float* b, int64_t b_stride, float* c,
                         int64_t c_stride, RowsAhead* ahead = nullptr) {
  for (int64_t i = 0; i < rows; i += kLowerStep)
    Product(std::min(kLowerStep, rows - i), inner, i + kLowerStep,
            {a(i, 0), a.row, a.column}, b, b_stride, c + i * c_stride, c_stride,
            Into::kSet, Triangle::kNone, nullptr, ahead);
}

// x.c -= a x.c for the rows of a tile, from those above (below) it.
template <int kRows, int kVectors, bool kUpper>
HWY_NOINLINE void SolveTile(const ProductArgs& x, int64_t i, int64_t rows) {
  const ProductTag d;
  ProductVec sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  if (kUpper)
    AddProducts(x, i, i + kRows, rows, {}, sum);
  else
    AddProducts(x, i, 0, i, {}, sum);
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v)
    sum[r][v] =
        hn::Sub(hn::LoadU(d, x.c + (i + r) * x.c_stride + v * kProductLanes),
                sum[r][v]);
  HWY_UNROLL(8)
  for (int n = 0; n < kRows; ++n) {
    const int s = kUpper ? kRows - 1 - n : n;
    HWY_UNROLL(8)
    for (int m = n + 1; m < kRows; ++m) {
      const int r = kUpper ? kRows - 1 - m : m;
      const auto left = hn::Set(d, *x.a(i + r, i + s));
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::NegMulAdd(left, sum[s][v], sum[r][v]);
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v)
    hn::StoreU(sum[r][v], d, x.c + (i + r) * x.c_stride + v * kProductLanes);
}

/// (1 + a) x = c, in place: of a [rows, rows] what stands below the diagonal is
/// read, or above it when kUpper.
template <bool kUpper>
inline void Solve(int64_t rows, int64_t columns, const Factor& a, float* c,
                  int64_t c_stride) {
  const int64_t whole = rows / kProductRows * kProductRows;
  ForProductColumns(columns, [&](int64_t at, auto vectors) HWY_ATTR {
    const ProductArgs x = {a, c + at,          c + at,     c_stride, c_stride,
                           0, Triangle::kNone, Into::kSet, nullptr,  nullptr};
    if constexpr (kUpper) {
      for (int64_t i = rows - 1; i >= whole; --i)
        SolveTile<1, vectors, true>(x, i, rows);
      for (int64_t i = whole - kProductRows; i >= 0; i -= kProductRows)
        SolveTile<kProductRows, vectors, true>(x, i, rows);
    } else {
      for (int64_t i = 0; i < whole; i += kProductRows)
        SolveTile<kProductRows, vectors, false>(x, i, rows);
      for (int64_t i = whole; i < rows; ++i)
        SolveTile<1, vectors, false>(x, i, rows);
    }
  });
}

/// to[c][r] = from[r][c], of `rows` > 0 rows; what stands behind them, up to a
/// whole vector, is anything finite there was. to_stride is a multiple of the
/// lanes.
inline void TransposeRows(const float* from, int64_t stride, int64_t rows,
                          int64_t columns, float* to, int64_t to_stride) {
  const ProductTag d;
  for (int64_t r = 0; r < rows; r += kProductLanes)
    RowsToColumns(
        d, from + r * stride, stride, rows - 1 - r, columns,
        [](auto x) { return x; }, to + r, to_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_PRODUCT_INL_H_
