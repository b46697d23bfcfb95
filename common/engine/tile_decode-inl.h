// Kernels of a decoding step, for every SIMD target: rows of queries against a
// list of key rows, given by pointers so that strided and scattered keys cost
// no more than contiguous ones.
//
// Legend. L lanes; s [rows, kDecodeBlock] scores, then weights; m, l, o as in
// DecodePartial; T the storage type.
#if defined(SACCADE_ENGINE_TILE_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_ENGINE_TILE_DECODE_INL_H_
#undef SACCADE_ENGINE_TILE_DECODE_INL_H_
#else
#define SACCADE_ENGINE_TILE_DECODE_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <type_traits>

#include "engine/tile_decode.h"
#include "simd/bf16-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DecodeD = hn::ScalableTag<float>;
using DecodeV = hn::Vec<DecodeD>;
constexpr int64_t kDecodeLanes = HWY_LANES(float);

// Sixteen accumulators of 32 registers, or eight of 16.
constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3;
constexpr int kDotKeys = 8;
constexpr int kDotRows = kManyRegisters ? 2 : 1;

constexpr float kDecodeLowest = std::numeric_limits<float>::lowest();

// The first n of a vector's lanes from memory, 0 in the others; nothing behind
// them is read, which masked loads promise only here and there.
template <class T>
HWY_INLINE DecodeV LoadFirst(DecodeD d, const T* from, int64_t n) {
#if HWY_TARGET <= HWY_AVX2
  if constexpr (std::is_same_v<T, float>)
    return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n)), d, from);
#endif
  alignas(64) float lanes[kDecodeLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = AsFloat(from[i]);
  return hn::Load(d, lanes);
}

// Sums of the lanes of eight vectors, by transposing and adding: a third of
// the shuffles of eight reductions.
HWY_INLINE DecodeV Fold4(DecodeV a, DecodeV b, DecodeV c, DecodeV e) {
  const DecodeD d;
  // In every block of four lanes: half sums of a, c, a, c; then of all four.
  const DecodeV ac =
      hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const DecodeV be =
      hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  return hn::Add(hn::InterleaveLower(d, ac, be),
                 hn::InterleaveUpper(d, ac, be));
}
HWY_INLINE void Sums8(const DecodeV (&a)[kDotKeys], float* sums) {
  const DecodeD d;
#if HWY_TARGET <= HWY_AVX3
  DecodeV v[4];
  for (int i = 0; i < 4; ++i)
    v[i] = hn::Add(hn::ConcatLowerLower(d, a[i + 4], a[i]),
                   hn::ConcatUpperUpper(d, a[i + 4], a[i]));
  const DecodeV x = Fold4(v[0], v[1], v[2], v[3]);
  const hn::Half<DecodeD> dh;
  const auto low = hn::LowerHalf(dh, x), high = hn::UpperHalf(dh, x);
  hn::StoreU(hn::Add(hn::ConcatLowerLower(dh, high, low),
                     hn::ConcatUpperUpper(dh, high, low)),
             dh, sums);
#else
  const DecodeV x = Fold4(a[0], a[1], a[2], a[3]);
  const DecodeV y = Fold4(a[4], a[5], a[6], a[7]);
#if HWY_TARGET <= HWY_AVX2
  hn::StoreU(
      hn::Add(hn::ConcatLowerLower(d, y, x), hn::ConcatUpperUpper(d, y, x)), d,
      sums);
#else
  hn::StoreU(x, d, sums);
  hn::StoreU(y, d, sums + 4);
#endif
#endif
}

// Rows of keys or values by their addresses, and even rows, as far apart as
// each other: loads that wait for addresses to be loaded come too late to keep
// memory busy. (Zen 4, a loop of its own: 17 and 31 GB/s.)
template <class T>
struct ListedRows {
  using Element = T;
  const T* const* at;
  HWY_INLINE const T* operator[](int64_t j) const { return at[j]; }
  HWY_INLINE int64_t RunEnd(int64_t) const { return kNoEnd; }
  HWY_INLINE const T* Row(int64_t, int64_t j) const { return at[j]; }
  static constexpr int64_t kNoEnd = std::numeric_limits<int64_t>::max();
};
template <class T>
struct EvenRows {
  const T* first;
  int64_t stride;
  HWY_INLINE const T* operator[](int64_t j) const { return first + j * stride; }
};

// Listed rows of which runs are even: row j and those before run_end[j].
template <class T>
struct RowRuns {
  using Element = T;
  const T* const* at;
  const int16_t* run_end;
  int64_t stride;
  HWY_INLINE int64_t RunEnd(int64_t j) const { return run_end[j]; }
  // Row j of a run, of which row `first` is one.
  HWY_INLINE const T* Row(int64_t first, int64_t j) const {
    return at[first] + (j - first) * stride;
  }
};

// Scores of eight keys against kRows rows of q; of kVecs whole vectors, or of
// any width when 0. Row by row, as memory has them: the hardware's prefetcher
// finds no stream in eight rows read side by side. (Zen 4, from memory: 48 ->
// 93 % of stream bandwidth at width 64.)
template <int kRows, int kVecs, class Rows>
HWY_INLINE void Dot8(Rows keys, const float* q, int64_t q_ld, int64_t dim,
                     float* s) {
  const DecodeD d;
  DecodeV a[kRows][kDotKeys];
  HWY_UNROLL(8)
  for (int j = 0; j < kDotKeys; ++j) {
    const auto* const k = keys[j];
    for (int r = 0; r < kRows; ++r) a[r][j] = hn::Zero(d);
    const auto step = [&](int64_t c) HWY_ATTR {
      const DecodeV y = LoadAs(d, k + c);
      for (int r = 0; r < kRows; ++r)
        a[r][j] = hn::MulAdd(hn::Load(d, q + r * q_ld + c), y, a[r][j]);
    };
    if constexpr (kVecs > 0) {
      HWY_UNROLL(8)
      for (int v = 0; v < kVecs; ++v) step(v * kDecodeLanes);
      // Or the compiler reads eight rows side by side after all.
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      int64_t c = 0;
      for (; c + kDecodeLanes <= dim; c += kDecodeLanes) step(c);
      if (c == dim) continue;
      const DecodeV y = LoadFirst(d, k + c, dim - c);
      for (int r = 0; r < kRows; ++r)
        a[r][j] = hn::MulAdd(hn::Load(d, q + r * q_ld + c), y, a[r][j]);
    }
  }
  for (int r = 0; r < kRows; ++r) Sums8(a[r], s + r * kDecodeBlock);
}

template <int kVecs, class Rows>
HWY_NOINLINE void ScoreKeysOf(Rows keys, const float* q, int64_t q_ld,
                              int64_t rows, int64_t dim, float* s) {
  int64_t r = 0;
  for (; r + kDotRows <= rows; r += kDotRows)
    Dot8<kDotRows, kVecs>(keys, q + r * q_ld, q_ld, dim, s + r * kDecodeBlock);
  for (; r < rows; ++r)
    Dot8<1, kVecs>(keys, q + r * q_ld, q_ld, dim, s + r * kDecodeBlock);
}

// Scores of eight keys, s [rows, kDecodeBlock]. Keys come from memory once:
// eight of them meet all rows before the next eight.
template <class Rows>
HWY_INLINE void ScoreKeys(Rows keys, const float* q, int64_t q_ld, int64_t rows,
                          int64_t dim, float* s) {
  if (dim == 4 * kDecodeLanes)
    ScoreKeysOf<4>(keys, q, q_ld, rows, dim, s);
  else if (dim == 8 * kDecodeLanes)
    ScoreKeysOf<8>(keys, q, q_ld, rows, dim, s);
  else
    ScoreKeysOf<0>(keys, q, q_ld, rows, dim, s);
}

template <class T>
HWY_INLINE void FetchRow(const T* row, int64_t elements) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t c = 0; c < elements; c += kLine) hwy::Prefetch(row + c);
}

// The scores s = q k of a list of keys, padded to a multiple of eight, which
// are made eight at a time while values of the list before are read: memory
// then brings in two streams at once, each at a pace that the hardware's
// prefetcher can keep ahead of, and rows 4 KiB on are asked for. (Zen 5, one
// thread, from memory: 64-67 to 85-88 % of stream bandwidth in f32; asking for
// a whole list ahead, as before, is limited by the first level's line buffers.
// Zen 4's prefetcher does better without being asked.)
template <class T>
struct Scores {
  RowRuns<T> keys = {};
  const T* const* values = nullptr;
  int64_t n = 0;
  const float* q = nullptr;
  int64_t q_ld = 0, rows = 0, dim = 0, v_dim = 0;
  float* s = nullptr;
  bool asks = false;  // for rows ahead
  bool wide = false;  // rows of many lines: asked for one by one
  int64_t ahead = 0;  // rows in 4 KiB

  /// When value j of the list before, of `old_n` values, is read.
  HWY_INLINE void Turn(const T* const* old, int64_t old_n, int64_t j) const {
    if (n == 0) return;
    if (asks) Ask(old, old_n, j);
    if (j % kDotKeys == 0 && j < n) Make(j);
  }

  /// Those from key `from` on.
  HWY_INLINE void MakeRest(int64_t from) const {
    for (int64_t j = PadTo(from, kDotKeys); j < n; j += kDotKeys) Make(j);
  }

 private:
  HWY_INLINE void Ask(const T* const* old, int64_t old_n, int64_t j) const {
    const int64_t v = j + ahead;
    FetchRow(v < old_n ? old[v] : values[std::min(v - old_n, n - 1)], v_dim);
    if (wide) FetchRow(keys.at[std::min(j + ahead, n - 1)], dim);
    if (!wide && j % kDotKeys == 0 && j + ahead + kDotKeys <= n)
      for (int64_t i = 0; i < kDotKeys; ++i)
        FetchRow(keys.at[j + ahead + i], dim);
  }
  HWY_INLINE void Make(int64_t j) const {
    const T* const* const at = keys.at + j;
    if (j + kDotKeys <= keys.run_end[j])
      ScoreKeys(EvenRows<T>{*at, keys.stride}, q, q_ld, rows, dim, s + j);
    else
      ScoreKeys(ListedRows<T>{at}, q, q_ld, rows, dim, s + j);
  }
};

// s = cap tanh(s / cap)
HWY_INLINE void DecodeCap(float cap, int64_t n, float* s) {
  const DecodeD d;
  const DecodeV c = hn::Set(d, cap);
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    const DecodeV x = hn::Div(hn::Load(d, s + j), c);
    hn::Store(hn::Mul(c, TanhAndSlope<DecodeD>(d, x).value), d, s + j);
  }
}

// s -= slope |distance|, distance = back + t for query t.
HWY_INLINE void DecodeBias(const float* back, int64_t t, float slope, int64_t n,
                           float* s) {
  const DecodeD d;
  const DecodeV shift = hn::Set(d, static_cast<float>(t));
  const DecodeV minus = hn::Set(d, -slope);
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    const DecodeV far = hn::Abs(hn::Add(hn::Load(d, back + j), shift));
    hn::Store(hn::MulAdd(minus, far, hn::Load(d, s + j)), d, s + j);
  }
}

// Scores to weights, n a multiple of the lanes. Raises m; returns what sums
// made before must be multiplied by.
HWY_INLINE float SoftmaxWeights(float* s, int64_t n, float& m, float& l) {
  const DecodeD d;
  // Max returns its second argument when one is NaN: m never becomes NaN, and
  // a NaN score is a NaN weight.
  DecodeV top = hn::Set(d, m);
  for (int64_t j = 0; j < n; j += kDecodeLanes)
    top = hn::Max(hn::Load(d, s + j), top);
  top = hn::MaxOfLanes(d, top);
  const float alpha = hn::GetLane(Exp2(d, hn::Sub(hn::Set(d, m), top)));
  DecodeV sum = hn::Zero(d);
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    const DecodeV p = Exp2(d, hn::Sub(hn::Load(d, s + j), top));
    sum = hn::Add(sum, p);
    hn::Store(p, d, s + j);
  }
  m = hn::GetLane(top);
  l = l * alpha + hn::GetLane(hn::SumOfLanes(d, sum));
  return alpha;
}
HWY_INLINE void ReluSquaredWeights(float* s, int64_t n) {
  const DecodeD d;
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    const DecodeV x = hn::Max(hn::Zero(d), hn::Load(d, s + j));  // keeps NaN
    hn::Store(hn::Mul(x, x), d, s + j);
  }
}

// o = alpha o + w v for kRows rows and kVecs vectors of columns, the last of
// them `tail` wide when kTail; `rest` elements of a row stand behind them, and
// are asked for, so that memory reads whole rows. The sum of every few keys is
// made apart and then added: errors do not grow with the length of a block or
// of the context.
template <int kRows, int kVecs, bool kTail, class Rows, class T>
HWY_INLINE void ValueTile(Rows values, int64_t n, int64_t column, int64_t tail,
                          int64_t rest, const float* w, const float* alpha,
                          float* o, int64_t o_ld, const Scores<T>& next) {
  const DecodeD d;
  constexpr int64_t kSumKeys = 32;
  const bool alone = next.n == 0 && rest == 0;
  for (int64_t j = 0; j < n;) {
    const int64_t end = std::min(n, j + kSumKeys);
    const bool first = j == 0;
    DecodeV a[kRows][kVecs];
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kVecs; ++c) a[r][c] = hn::Zero(d);
    const auto take = [&](const T* v) HWY_ATTR {
      DecodeV x[kRows];
      for (int r = 0; r < kRows; ++r)
        x[r] = hn::Set(d, w[r * kDecodeBlock + j]);
      for (int c = 0; c < kVecs; ++c) {
        const DecodeV y =
            kTail ? LoadFirst(d, v, tail) : LoadAs(d, v + c * kDecodeLanes);
        for (int r = 0; r < kRows; ++r) a[r][c] = hn::MulAdd(x[r], y, a[r][c]);
      }
    };
    while (j < end) {
      const int64_t run = j, run_end = std::min(end, values.RunEnd(j));
      // The loop must hold nothing else, or memory waits. (Zen 4, f32, width
      // 128: 70 -> 93 % of stream bandwidth.)
      if (alone) {
        HWY_UNROLL(1)
        for (; j < run_end; ++j) take(values.Row(run, j) + column);
        continue;
      }
      for (; j < run_end; ++j) {
        const T* const v = values.Row(run, j) + column;
        next.Turn(values.at, n, j);
        FetchRow(v + kVecs * kDecodeLanes, rest);
        take(v);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      const DecodeV f = hn::Set(d, first ? alpha[r] : 1.0f);
      for (int c = 0; c < kVecs; ++c) {
        float* const at = o + r * o_ld + column + c * kDecodeLanes;
        hn::Store(hn::MulAdd(f, hn::Load(d, at), a[r][c]), d, at);
      }
    }
  }
}

// All columns from `column` on, in ever narrower tiles.
template <int kRows, int kVecs, class Rows, class T>
HWY_INLINE void ValueRows(Rows values, int64_t n, int64_t column, int64_t dim,
                          const float* w, const float* alpha, float* o,
                          int64_t o_ld, const Scores<T>& next) {
  const auto rest = [&](int64_t end) { return column == 0 ? dim - end : 0; };
  for (; column + kVecs * kDecodeLanes <= dim; column += kVecs * kDecodeLanes) {
    ValueTile<kRows, kVecs, false>(values, n, column, 0,
                                   rest(kVecs * kDecodeLanes), w, alpha, o,
                                   o_ld, column == 0 ? next : Scores<T>());
  }
  if constexpr (kVecs > 1) {
    if (column < dim)
      ValueRows<kRows, kVecs / 2>(values, n, column, dim, w, alpha, o, o_ld,
                                  column == 0 ? next : Scores<T>());
  } else {
    if (column < dim)
      ValueTile<kRows, 1, true>(values, n, column, dim - column, 0, w, alpha, o,
                                o_ld, column == 0 ? next : Scores<T>());
  }
}

// o = alpha o + w v.
template <class Rows, class T = typename Rows::Element>
HWY_NOINLINE void DecodeValues(Rows values, int64_t n, int64_t rows,
                               int64_t dim, const float* w, const float* alpha,
                               float* o, int64_t o_ld, const Scores<T>& next) {
  constexpr int kWide = kManyRegisters ? 16 : 8;  // accumulators
  int64_t r = 0;
  const auto pass = [&]<int kRows, int kVecs>() HWY_ATTR {
    for (; r + kRows <= rows; r += kRows) {
      ValueRows<kRows, kVecs>(values, n, 0, dim, w + r * kDecodeBlock,
                              alpha + r, o + r * o_ld, o_ld,
                              r == 0 ? next : Scores<T>());
    }
  };
  // Whole rows at once; a second time they come from a cache.
  if (dim <= kWide / 4 * kDecodeLanes) pass.template operator()<4, kWide / 4>();
  pass.template operator()<2, kWide / 2>();
  pass.template operator()<1, 8>();
  next.MakeRest(n);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_ENGINE_TILE_DECODE_INL_H_
