// Rows in and out of the scan engine: storage to padded f32 on the way in, the
// feature map applied; f32 to storage on the way out.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_ROWS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_ROWS_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_ROWS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>
#include <limits>

#include "engine/scan_state.h"
#include "simd/bf16-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Feature maps: phi(x), and a gradient by phi(x) taken to one by x. Key is the
// map of keys. Framed: keys' features are powers of e in a frame. Sums: they
// are divided by their sums, one by one.
template <class Map>
struct MapTraits {
  using Key = Map;
  static constexpr bool kFramed = false, kSums = false;
};

struct IdentityMap : MapTraits<IdentityMap> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Apply(D, hn::Vec<D> x) {
    return x;
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> Back(D, hn::Vec<D>, hn::Vec<D> gradient) {
    return gradient;
  }
};

struct EluPlusOneMap : MapTraits<EluPlusOneMap> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x) {
    const auto above = hn::Gt(x, hn::Zero(d));
    return hn::IfThenElse(above, hn::Add(x, hn::Set(d, 1.0f)), ShortExp(d, x));
  }
  /// phi' = min(phi, 1), in terms of phi(x).
  template <class D>
  static HWY_INLINE hn::Vec<D> Back(D d, hn::Vec<D> feature,
                                    hn::Vec<D> gradient) {
    return hn::Mul(gradient, hn::Min(hn::Set(d, 1.0f), feature));
  }
};

struct ReluMap : MapTraits<ReluMap> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x) {
    return hn::Max(hn::Zero(d), x);  // of two, Max keeps a NaN in second place
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> Back(D d, hn::Vec<D> feature,
                                    hn::Vec<D> gradient) {
    return hn::IfThenElseZero(hn::Gt(feature, hn::Zero(d)), gradient);
  }
};

/// Not of elements: LoadTurnedRow, StoreTurnedRow.
struct TurnedReluMap : MapTraits<TurnedReluMap> {};

/// Not of elements: LoadTaylorRow, StoreTaylorRow.
struct TaylorMap : MapTraits<TaylorMap> {};

/// Powers of e: loaded as exponents, for a frame decides of what.
struct PowerMap : MapTraits<PowerMap> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Apply(D, hn::Vec<D> x) {
    return x;
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> Back(D, hn::Vec<D> feature,
                                    hn::Vec<D> gradient) {
    return hn::Mul(feature, gradient);
  }
};

/// Random features: of keys exponents, for a frame decides of what; of queries
/// relative to their largest. scan_random-inl.h.
struct RandomKeyMap : MapTraits<RandomKeyMap> {};
struct RandomMap {
  using Key = RandomKeyMap;
  static constexpr bool kFramed = true, kSums = false;
};

/// Softmax over a query's elements; not of elements: LoadSoftmaxRow,
/// StoreSoftmaxRow.
struct SoftmaxMap {
  using Key = PowerMap;
  static constexpr bool kFramed = true, kSums = true;
};

/// The first n < Lanes(d) elements, zeros after them.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadTail(D d, const T* from, int64_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(D())] = {};
  std::memcpy(buffer, from, static_cast<size_t>(n) * sizeof(T));
  return LoadAs(d, buffer);
}

template <class D, class T>
HWY_INLINE void StoreTail(D d, hn::Vec<D> x, T* to, int64_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(D())];
  StoreAs(d, x, buffer);
  std::memcpy(to, buffer, static_cast<size_t>(n) * sizeof(T));
}

/// to = Map(from), n elements; zeros up to the next multiple of kScanPad.
template <class Map, class T>
inline void LoadRow(const T* from, int64_t n, float* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    hn::StoreU(Map::Apply(d, LoadAs(d, from + i)), d, to + i);
  if (i < n) {
    const auto x = Map::Apply(d, LoadTail(d, from + i, n - i));
    const auto kept = hn::FirstN(d, static_cast<size_t>(n - i));
    hn::StoreU(hn::IfThenElseZero(kept, x), d, to + i);
    i += kLanes;
  }
  for (const int64_t end = ScanRoundUp(n, kScanPad); i < end; i += kLanes)
    hn::StoreU(hn::Zero(d), d, to + i);
}

/// The same for rows of `vectors` whole vectors and their multiple of kScanPad.
/// One loop for all, so that Map's constants stay in registers.
template <class Map, class T>
HWY_NOINLINE void LoadWholeRows(const T* from, int64_t from_stride,
                                int64_t rows, int64_t vectors, float* to,
                                int64_t to_stride) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < vectors * kLanes; i += kLanes)
      hn::StoreU(Map::Apply(d, LoadAs(d, from + r * from_stride + i)), d,
                 to + r * to_stride + i);
}

/// to = factor from, n elements, then -factor from.out when `last`, then zeros
/// up to the next multiple of kScanPad.
template <class T>
inline void LoadGradient(const T* from, const T* out, int64_t n, float factor,
                         bool last, float* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const auto f = hn::Set(d, factor);
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto x = hn::Mul(f, LoadAs(d, from + i));
    if (last) sum = hn::MulAdd(x, LoadAs(d, out + i), sum);
    hn::StoreU(x, d, to + i);
  }
  if (i < n) {
    const auto x = hn::Mul(f, LoadTail(d, from + i, n - i));
    if (last) sum = hn::MulAdd(x, LoadTail(d, out + i, n - i), sum);
    hn::StoreU(x, d, to + i);
  }
  const int64_t width = n + (last ? 1 : 0);
  std::fill(to + n, to + ScanRoundUp(width, kScanPad), 0.0f);
  if (last) to[n] = -hn::GetLane(hn::SumOfLanes(d, sum));
}

/// to = Map's gradient of from by feature, n elements.
template <class Map, class T>
inline void StoreRow(const float* from, const float* feature, int64_t n,
                     T* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  int64_t i = 0;
  // Rows of floats are padded: whole vectors may be read.
  const auto at = [&]() HWY_ATTR {
    return Map::Back(d, hn::LoadU(d, feature + i), hn::LoadU(d, from + i));
  };
  for (; i + kLanes <= n; i += kLanes) StoreAs(d, at(), to + i);
  if (i < n) StoreTail(d, at(), to + i, n - i);
}

/// The same for rows of n floats, a multiple of kScanPad.
template <class Map, class T>
HWY_NOINLINE void StoreWholeRows(const float* from, int64_t from_stride,
                                 const float* feature, int64_t feature_stride,
                                 int64_t rows, int64_t n, T* to,
                                 int64_t to_stride) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; i += kLanes)
      StoreAs(d,
              Map::Back(d, hn::LoadU(d, feature + r * feature_stride + i),
                        hn::LoadU(d, from + r * from_stride + i)),
              to + r * to_stride + i);
}

/// For each block of kScanPad elements: their relu times c, then times s.
template <class T>
inline void LoadTurnedRow(const T* from, int64_t n, float c, float s,
                          float* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < ScanRoundUp(n, kScanPad); i += kLanes) {
    auto x = hn::Zero(d);
    if (i + kLanes <= n)
      x = LoadAs(d, from + i);
    else if (i < n)
      x = LoadTail(d, from + i, n - i);
    x = ReluMap::Apply(d, x);
    float* const at = to + i + i / kScanPad * kScanPad;
    hn::StoreU(hn::Mul(x, hn::Set(d, c)), d, at);
    hn::StoreU(hn::Mul(x, hn::Set(d, s)), d, at + kScanPad);
  }
}

/// The gradient by n elements of that by their features.
template <class T>
inline void StoreTurnedRow(const float* from, const float* feature, int64_t n,
                           float c, float s, T* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const auto cos = hn::Set(d, c), sin = hn::Set(d, s);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t at = i + i / kScanPad * kScanPad;
    // The two features turned back are the relu again.
    const auto both = [&](const float* x) HWY_ATTR {
      return hn::MulAdd(cos, hn::LoadU(d, x + at),
                        hn::Mul(sin, hn::LoadU(d, x + at + kScanPad)));
    };
    const auto gradient = ReluMap::Back(d, both(feature), both(from));
    if (i + kLanes <= n)
      StoreAs(d, gradient, to + i);
    else
      StoreTail(d, gradient, to + i, n - i);
  }
}

/// 1, root x, then for each of n elements its products with itself, over the
/// root of 2, and with those behind it; zeros up to the next multiple of
/// kScanPad.
template <class T>
inline void LoadTaylorRow(const T* from, int64_t n, float root, float* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const int64_t features = 1 + n + n * (n + 1) / 2;
  const int64_t end = ScanRoundUp(features, kScanPad);
  const auto one = hwy::HWY_NAMESPACE::CappedTag<float, 1>();
  float* const x = to + 1;
  to[0] = 1;
  for (int64_t i = 0; i < n; ++i)
    x[i] = root * hn::GetLane(LoadAs(one, from + i));
  int64_t at = 1 + n;
  for (int64_t i = 0; i < n; at += n - i, ++i) {
    // Vectors that reach past the products are written over by the next.
    const auto own = hn::Set(d, x[i]);
    int64_t j = i;
    for (; j < n && at + j - i + kLanes <= end; j += kLanes)
      hn::StoreU(hn::Mul(own, hn::LoadU(d, x + j)), d, to + at + j - i);
    for (; j < n; ++j) to[at + j - i] = x[i] * x[j];
    to[at] *= 0.707106781f;
  }
  std::fill(to + features, to + end, 0.0f);
}

/// The gradient by n elements of that by their features.
template <class T>
inline void StoreTaylorRow(const float* from, const float* feature, int64_t n,
                           float root, T* to) {
  const auto one = hwy::HWY_NAMESPACE::CappedTag<float, 1>();
  const float* const x = feature + 1;
  float sum[kTaylorMost];
  for (int64_t i = 0; i < n; ++i) sum[i] = from[1 + i];
  int64_t at = 1 + n;
  for (int64_t i = 0; i < n; at += n - i, ++i) {
    float own = 1.41421356f * from[at] * x[i];
    for (int64_t j = i + 1; j < n; ++j) {
      const float g = from[at + j - i];
      own += g * x[j];
      sum[j] += g * x[i];
    }
    sum[i] += own;
  }
  for (int64_t i = 0; i < n; ++i)
    StoreAs(one, hn::Set(one, root * sum[i]), to + i);
}

/// Softmax of n elements; zeros up to the next multiple of kScanPad.
template <class T>
inline void LoadSoftmaxRow(const T* from, int64_t n, float* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const int64_t end = ScanRoundUp(n, kScanPad);
  LoadRow<IdentityMap>(from, n, to);
  std::fill(to + n, to + end, -std::numeric_limits<float>::infinity());
  auto most = hn::LoadU(d, to);
  // Of two, Max keeps a NaN in second place.
  for (int64_t i = kLanes; i < end; i += kLanes)
    most = hn::Max(hn::LoadU(d, to + i), most);
  const auto top = hn::MaxOfLanes(d, most);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < end; i += kLanes) {
    const auto x = Exp(d, hn::Sub(hn::LoadU(d, to + i), top));
    sum = hn::Add(sum, x);
    hn::StoreU(x, d, to + i);
  }
  const auto share = hn::Div(hn::Set(d, 1.0f), hn::SumOfLanes(d, sum));
  for (int64_t i = 0; i < end; i += kLanes)
    hn::StoreU(hn::Mul(share, hn::LoadU(d, to + i)), d, to + i);
}

/// The gradient by n elements, of that by their softmax.
template <class T>
inline void StoreSoftmaxRow(const float* from, const float* softmax, int64_t n,
                            T* to) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  auto mean = hn::Zero(d);
  for (int64_t i = 0; i < ScanRoundUp(n, kScanPad); i += kLanes)
    mean = hn::MulAdd(hn::LoadU(d, from + i), hn::LoadU(d, softmax + i), mean);
  mean = hn::SumOfLanes(d, mean);
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto x = hn::Mul(hn::LoadU(d, softmax + i),
                           hn::Sub(hn::LoadU(d, from + i), mean));
    if (i + kLanes <= n)
      StoreAs(d, x, to + i);
    else
      StoreTail(d, x, to + i, n - i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_ROWS_INL_H_
