// The CPU's bf16 dot product (AVX512_BF16), which adds the products of two
// pairs of bf16 to a float, and how pairs are made. A pair travels as the bits
// of a float, its first element in the low half. For files that turn that
// instruction set on, on AVX3.

// Per-target include guard.
#if defined(SACCADE_COMMON_SIMD_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_SIMD_PAIRS_INL_H_
#undef SACCADE_COMMON_SIMD_PAIRS_INL_H_
#else
#define SACCADE_COMMON_SIMD_PAIRS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "simd/bf16.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

using PairV = hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::ScalableTag<float>>;

/// a[lane] += x[2 lane] b[2 lane] + x[2 lane + 1] b[2 lane + 1]
HWY_INLINE PairV DotPairs(PairV x, PairV b, PairV a) {
  return PairV{_mm512_dpbf16_ps(a.raw, reinterpret_cast<__m512bh>(x.raw),
                                reinterpret_cast<__m512bh>(b.raw))};
}

/// The same bits in every lane.
HWY_INLINE PairV BroadcastBits(uint32_t bits) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  return hn::BitCast(d, hn::Set(hn::RebindToUnsigned<decltype(d)>(), bits));
}

/// Two elements, wherever they stand.
HWY_INLINE PairV BroadcastPair(const BF16* x) {
  uint32_t bits;
  std::memcpy(&bits, x, sizeof bits);
  return BroadcastBits(bits);
}

/// Interleaves n rows: pair c of row r of `to` is column c of rows 2 r and
/// 2 r + 1. An odd number is filled up with zeros. to_row: `dim` or more.
HWY_INLINE void PackPairs(const BF16* rows, int64_t stride, int n, int64_t dim,
                          float* to, int64_t to_row) {
  constexpr int kLanes = 16;
  alignas(64) static constexpr uint16_t kFirst[32] = {
      0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (int r = 0; r < n; r += 2) {
    const auto* const low =
        reinterpret_cast<const uint16_t*>(rows + r * stride);
    const auto* const high = r + 1 < n ? low + stride : nullptr;
    auto* const pairs = reinterpret_cast<uint32_t*>(to + r / 2 * to_row);
    int64_t c = 0;
    for (; c + 2 * kLanes <= dim; c += 2 * kLanes) {
      const __m512i a = _mm512_loadu_si512(low + c);
      const __m512i b =
          high ? _mm512_loadu_si512(high + c) : _mm512_setzero_si512();
      _mm512_storeu_si512(pairs + c, _mm512_permutex2var_epi16(a, first, b));
      _mm512_storeu_si512(pairs + c + kLanes,
                          _mm512_permutex2var_epi16(a, second, b));
    }
    for (; c < dim; ++c)
      pairs[c] = low[c] | (high ? uint32_t{high[c]} << 16 : 0u);
  }
}

/// Two vectors of floats side by side, rounded to nearest even.
HWY_INLINE PairV RoundToBF16(PairV low, PairV high) {
  return PairV{_mm512_castsi512_ps(
      reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.raw, low.raw)))};
}

/// The elements of its lower half, each with its like of the upper.
HWY_INLINE PairV Interleave(PairV halves) {
  alignas(64) static constexpr uint16_t kInterleave[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return PairV{_mm512_castsi512_ps(_mm512_permutexvar_epi16(
      _mm512_load_si512(kInterleave), _mm512_castps_si512(halves.raw)))};
}

/// Two vectors of floats, rounded to nearest even, as pairs.
HWY_INLINE PairV RoundToPairs(PairV low, PairV high) {
  return Interleave(RoundToBF16(low, high));
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET == HWY_AVX3

#endif  // SACCADE_COMMON_SIMD_PAIRS_INL_H_
