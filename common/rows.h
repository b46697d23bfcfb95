// Elements and rows of tensors, whatever they are stored as.
#ifndef SACCADE_COMMON_ROWS_H_
#define SACCADE_COMMON_ROWS_H_

#include <cstdint>
#include <cstring>

#include "saccade/tensor.h"
#include "simd/bf16.h"

namespace saccade {

/// An element as a float, and a float as an element, rounded.
inline float Get(float x) { return x; }
inline float Get(BF16 x) { return ToFloat(x); }
inline void Put(float x, float* y) { *y = x; }
inline void Put(float x, BF16* y) { *y = ToBF16(x); }

template <class View>
auto* RowAt(const View& x, int64_t b, int64_t h, int64_t t) {
  return x.dtype == DType::kF32
             ? static_cast<decltype(x.data)>(x.template Row<float>(b, h, t))
             : x.template Row<BF16>(b, h, t);
}

/// Rows first .. first + n - 1 of every head of sequence b of `from` to rows
/// row_of(0) .. row_of(n - 1) of sequence to_b of `to`, of the same width and
/// type.
template <class RowOf>
void CopyRows(const ConstView& from, int64_t b, int64_t first, int64_t n,
              const View& to, int64_t to_b, RowOf row_of) {
  const auto bytes = static_cast<size_t>(from.dim * SizeOf(from.dtype));
  for (int64_t h = 0; h < from.heads; ++h)
    for (int64_t t = 0; t < n; ++t)
      std::memcpy(RowAt(to, to_b, h, row_of(t)), RowAt(from, b, h, first + t),
                  bytes);
}

}  // namespace saccade

#endif  // SACCADE_COMMON_ROWS_H_
