// Register tiles of the tile engine's forward pass: scores of strips of keys,
// and their products with the values.
//
// Queries lie in the lanes: S^T = K (Q^T tile) and O^T += V^T P^T, so that keys
// and values are read in their natural layout, one broadcast scalar at a time,
// and maxima, sums and rescaling are vertical.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_PRODUCTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_PRODUCTS_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_PRODUCTS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_PRODUCTS_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "engine/tile.h"
#include "engine/tile_fetch.h"
#include "engine/tile_strips.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using M = hn::Mask<D>;
constexpr D d;
constexpr int kLanes = HWY_LANES(float);

// The best register tile: 16 accumulators of 32 registers, 12 of 16; without
// FMA a product needs a register of its own. On AVX3, 8x3, 12x2 and 6x4 are up
// to 5 points lower; on AVX2 2x6 is 3 points lower and 4x3 spills.
#if HWY_TARGET <= HWY_AVX3
constexpr TileShape kShape{kLanes, 4, 4, true};
#elif HWY_TARGET == HWY_AVX2
constexpr TileShape kShape{kLanes, 3, 4, false};
#else
constexpr TileShape kShape{kLanes, 3, 3, false};
#endif
constexpr int kTile = kShape.lanes * kShape.vecs;  // floats between rows
static_assert(kTile <= kMaxTile, "scratch is laid out for less");

// Rows of a register tile of `vecs` vectors: 16 accumulators of one or two
// vectors' width are too many for the registers below AVX3.
constexpr int RowsFor(int vecs) {
  if (vecs == kShape.vecs) return kShape.rows;
  return vecs == 1 || (vecs == 2 && HWY_TARGET <= HWY_AVX3) ? 8 : 4;
}

// Which lanes of vectors first_vec, first_vec + 1, ... see a key.
struct Sight {
  const float *begin, *end;  // by key
  int first_vec;

  HWY_INLINE M Of(int key, int vec) const {
    const V lane = hn::Iota(d, static_cast<float>((first_vec + vec) * kLanes));
    return hn::And(hn::Ge(lane, hn::Set(d, begin[key])),
                   hn::Lt(lane, hn::Set(d, end[key])));
  }
};

// kHiddenWeight's, as wide as a weight is stored.
template <class DU>
HWY_INLINE hn::Vec<DU> BitsOfHidden(DU du) {
  return hn::Set(du, hn::TFromD<DU>{1} << (sizeof(hn::TFromD<DU>) * 8 - 1));
}

// a + x b where `seen`, a elsewhere, whatever x is.
HWY_INLINE V MulAddWhere(M seen, V x, V b, V a) {
#if HWY_TARGET <= HWY_AVX3
  return V{_mm512_mask3_fmadd_ps(x.raw, b.raw, a.raw, seen.raw)};
#else
  return hn::MulAdd(hn::IfThenElseZero(seen, x), b, a);
#endif
}

// Keys or values: rows of floats in memory. What multiplies in other ways has
// the same members.
struct Rows {
  const float* at;
  int64_t stride;

  Rows From(int64_t row) const { return {at + row * stride, stride}; }
  Rows Columns(int64_t c) const { return {at + c, stride}; }

  // Of keys, a product's step: Dot().
  template <int kRows>
  HWY_INLINE Rows Reader() const {
    return *this;
  }
  static int64_t Steps(int64_t dim) { return dim; }
  HWY_INLINE V Step(int row, int64_t step) const {
    return hn::Set(d, at[row * stride + step]);
  }
  static constexpr bool HasRest(int64_t) { return false; }
  HWY_INLINE V Rest(int row, int64_t step) const { return Step(row, step); }
  static HWY_INLINE V MulAdd(V x, V b, V a, int) { return hn::MulAdd(x, b, a); }
  template <class Policy>
  HWY_INLINE V Score(const Policy& policy, V s, int, int, int64_t ahead,
                     const float* at) const {
    return policy.Score(s, ahead, at);
  }

  // Of values, a product's step: a + x b for vector j, everywhere or where
  // `seen`.
  using Mask = M;
  static constexpr int kKeys = 1;  // a step
  HWY_INLINE V Broadcast(int step, int column) const {
    return hn::Set(d, at[step * stride + column]);
  }
  static HWY_INLINE Mask Seen(V weight) {
    const hn::RebindToUnsigned<D> du;
    return hn::RebindMask(d, hn::Ne(hn::BitCast(du, weight), BitsOfHidden(du)));
  }
  static HWY_INLINE V Add(V x, V b, V a, int) { return hn::MulAdd(x, b, a); }
  // Of two keys' values the first where lanes of vector `vec` are before *cut.
  static HWY_INLINE V Choose(int vec, const float* cut, V x, V y) {
    const V lane = hn::Iota(d, static_cast<float>(vec * kLanes));
    return hn::IfThenElse(hn::Lt(lane, hn::Set(d, *cut)), x, y);
  }
  static HWY_INLINE V AddWhere(Mask seen, V x, V b, V a) {
    return MulAddWhere(seen, x, b, a);
  }
};

// a[i][j] += row i of keys . queries of vector j. Keys in other forms have
// steps of more elements, of which the last may lack some, or others for some
// lanes; MulAdd() takes what these steps are for vector j.
template <class Keys, int kRows, int kVecs>
HWY_INLINE void Dot(const Keys& keys, int64_t dim, const float* queries,
                    V (&a)[kRows][kVecs]) {
  const auto rows = keys.template Reader<kRows>();
  const int64_t steps = Keys::Steps(dim);
  HWY_UNROLL(1)
  for (int64_t c = 0; c < steps; ++c) {
    V b[kVecs];
    HWY_UNROLL(8)
    for (int j = 0; j < kVecs; ++j)
      b[j] = hn::Load(d, queries + c * kTile + j * kLanes);
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const auto x = rows.Step(i, c);
      HWY_UNROLL(8)
      for (int j = 0; j < kVecs; ++j)
        a[i][j] = Keys::MulAdd(x, b[j], a[i][j], j);
    }
  }
  if (!Keys::HasRest(dim)) return;
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    const auto x = rows.Rest(i, steps);
    HWY_UNROLL(8)
    for (int j = 0; j < kVecs; ++j)
      a[i][j] = Keys::MulAdd(
          x, hn::Load(d, queries + steps * kTile + j * kLanes), a[i][j], j);
  }
}

// Scores of keys r .. r + kRows - 1 of a strip, transformed, to `scores`, and
// the maximum of all so far to `max`. `ahead` is i - j of lane 0 and key r.
template <class Policy, int kRows, int kVecs, bool kMasked, class Keys>
HWY_INLINE void ScoreRows(const Policy& policy, Keys keys, int64_t dim,
                          const float* queries, float* scores, float* max,
                          int r, Sight sight, int64_t ahead) {
  V a[kRows][kVecs];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) HWY_UNROLL(8)
  for (int j = 0; j < kVecs; ++j) a[i][j] = hn::Zero(d);
  Dot(keys, dim, queries, a);
  HWY_UNROLL(8)
  for (int j = 0; j < kVecs; ++j) {
    V top = hn::Load(d, max + j * kLanes);
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      float* const at = scores + i * kTile + j * kLanes;
      V s = keys.Score(policy, a[i][j], i, j, j * kLanes + ahead - i, at);
      if constexpr (kMasked)
        s = hn::IfThenElse(sight.Of(r + i, j), s, hn::Set(d, Policy::kHidden));
      if constexpr (Policy::kRunning) top = hn::Max(top, s);
      hn::Store(s, d, at);
    }
    if constexpr (Policy::kRunning) hn::Store(top, d, max + j * kLanes);
  }
}

// The same for keys r .. n - 1, in ever smaller register tiles.
template <class Policy, int kRows, int kVecs, bool kMasked, class Keys>
HWY_INLINE void ScoreAll(const Policy& policy, Keys keys, int64_t dim,
                         const float* queries, float* scores, float* max, int r,
                         int n, Sight sight, int64_t ahead, Fetches& fetches) {
  for (; r + kRows <= n; r += kRows) {
    fetches.Next();
    ScoreRows<Policy, kRows, kVecs, kMasked>(policy, keys.From(r), dim, queries,
                                             scores + r * kTile, max, r, sight,
                                             ahead - r);
  }
  if constexpr (kRows > 1)
    if (r < n)
      ScoreAll<Policy, kRows / 2, kVecs, kMasked>(
          policy, keys, dim, queries, scores, max, r, n, sight, ahead, fetches);
}

template <class Policy, int kVecs, bool kMasked, class Keys>
HWY_NOINLINE void ScoreStrip(const Policy& policy, Keys keys, int64_t dim,
                             const float* queries, float* scores, float* max,
                             int n, Sight sight, int64_t ahead,
                             Fetches& fetches) {
  ScoreAll<Policy, RowsFor(kVecs), kVecs, kMasked>(
      policy, keys, dim, queries, scores, max, 0, n, sight, ahead, fetches);
}

// How scores are held: as weights take them, or, kRaw, as products leave them,
// and then Scaled() makes of their maximum what it is otherwise.
struct Held {
  static constexpr bool kRaw = false;
  HWY_INLINE V Exponent(V s, V top) const { return hn::Sub(s, top); }
};
struct HeldRaw {
  static constexpr bool kRaw = true;
  float factor;
  HWY_INLINE V Scaled(V s) const { return hn::Mul(s, hn::Set(d, factor)); }
  HWY_INLINE V Exponent(V s, V top) const {
    return hn::MulSub(s, hn::Set(d, factor), top);
  }
};

template <bool kCareful, class Scores>
HWY_INLINE V Weight(Scores held, V score, V top) {
  const V p = Exp2(d, held.Exponent(score, top));
  if constexpr (!kCareful) return p;
  const auto hidden =
      hn::Eq(score, hn::Set(d, -std::numeric_limits<float>::infinity()));
  return hn::IfThenElse(hidden, hn::Set(d, kHiddenWeight), p);
}

// Weights 2^(score - max) of n keys, in place; adds them to `sum`. Sums start
// anew every kSumKeys: of a plain sum of f32, the error grows with its length.
// kCareful: those that are not visible, of score -infinity, are kHiddenWeight.
template <int kVecs, bool kCareful, class Scores>
HWY_NOINLINE void WeighStrip(Scores held, float* scores, const float* max,
                             float* sum, int n) {
  constexpr int kSumKeys = 16;
  V top[kVecs], total[kVecs];
  for (int j = 0; j < kVecs; ++j) {
    top[j] = hn::Load(d, max + j * kLanes);
    total[j] = hn::Zero(d);
  }
  for (int i = 0; i < n;) {
    const int end = std::min(n, i + kSumKeys);
    V part[kVecs];
    for (int j = 0; j < kVecs; ++j) part[j] = hn::Zero(d);
    for (; i < end; ++i)
      for (int j = 0; j < kVecs; ++j) {
        float* const s = scores + i * kTile + j * kLanes;
        const V p = Weight<kCareful>(held, hn::Load(d, s), top[j]);
        part[j] = hn::Add(part[j], p);
        hn::Store(p, d, s);
      }
    for (int j = 0; j < kVecs; ++j) total[j] = hn::Add(total[j], part[j]);
  }
  for (int j = 0; j < kVecs; ++j)
    hn::Store(hn::Add(hn::Load(d, sum + j * kLanes), total[j]), d,
              sum + j * kLanes);
}

// out = rescale out + values^T weights for kRows value columns and n steps;
// kMasked: of what is visible, by its weight. `rescale` may be null. The sums
// start from zero, which costs no more than starting from `out`.
template <int kRows, int kVecs, bool kMasked, class Values>
HWY_INLINE void ValueRows(Values values, const float* weights,
                          const float* rescale, float* out, int n) {
  V a[kRows][kVecs];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) HWY_UNROLL(8)
  for (int j = 0; j < kVecs; ++j) a[i][j] = hn::Zero(d);
  HWY_UNROLL(1)
  for (int r = 0; r < n; ++r) {
    V b[kVecs];
    typename Values::Mask seen[kVecs];
    HWY_UNROLL(8)
    for (int j = 0; j < kVecs; ++j) {
      b[j] = hn::Load(d, weights + r * kTile + j * kLanes);
      if constexpr (kMasked) seen[j] = Values::Seen(b[j]);
    }
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const auto x = values.Broadcast(r, i);
      HWY_UNROLL(8)
      for (int j = 0; j < kVecs; ++j) {
        if constexpr (kMasked)
          a[i][j] = Values::AddWhere(seen[j], x, b[j], a[i][j]);
        else
          a[i][j] = Values::Add(x, b[j], a[i][j], j);
      }
    }
  }
  const auto add = [&](auto sum) HWY_ATTR {
    HWY_UNROLL(8)
    for (int j = 0; j < kVecs; ++j) HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      float* const o = out + i * kTile + j * kLanes;
      hn::Store(sum(j, hn::Load(d, o), a[i][j]), d, o);
    }
  };
  // Where additions run beside multiply-adds they cost nothing.
  if (rescale == nullptr)
    add([](int, V o, V x) HWY_ATTR { return hn::Add(o, x); });
  else
    add([&](int j, V o, V x) HWY_ATTR {
      return hn::MulAdd(hn::Load(d, rescale + j * kLanes), o, x);
    });
}

// The same for value columns c .. dim - 1, in ever smaller register tiles.
template <int kRows, int kVecs, bool kMasked, class Values>
HWY_INLINE void ValueAll(Values values, int64_t dim, const float* weights,
                         const float* rescale, float* out, int64_t c, int n) {
  for (; c + kRows <= dim; c += kRows)
    ValueRows<kRows, kVecs, kMasked>(values.Columns(c), weights, rescale,
                                     out + c * kTile, n);
  if constexpr (kRows > 1)
    if (c < dim)
      ValueAll<kRows / 2, kVecs, kMasked>(values, dim, weights, rescale, out, c,
                                          n);
}

// Of a plain sum of f32 the error grows with its length, from the largest term
// on: sums start anew every few steps, sooner where a product is rounded before
// it is added. Weights stay in L1 meanwhile, which pays for it: with 32 steps
// nothing is lost at width 64 (Zen 5; Zen 4: a point), with 16 two points are.
template <int kVecs, bool kMasked, class Values>
HWY_NOINLINE void ValueStrip(Values values, int64_t dim, const float* weights,
                             const float* rescale, float* out, int n) {
  constexpr int kSum = HWY_TARGET <= HWY_AVX2 ? 32 : 16;
  for (int r = 0; r < n; r += kSum)
    ValueAll<RowsFor(kVecs), kVecs, kMasked>(
        values.From(r), dim, weights + r * kTile, r == 0 ? rescale : nullptr,
        out, 0, std::min(kSum, n - r));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_PRODUCTS_INL_H_
