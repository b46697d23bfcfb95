// The kernel of the scan engine: a tile of tokens against a panel of the state.
//
// Each row of the state is loaded once, read by kTokens queries, updated by
// kTokens keys and stored once, so that all but one of 2 kTokens + 1 operations
// are multiply-adds and their operands are broadcasts:
//
//   out_t  = query_t (total + recent) + sum_(s <= t) score_ts value_s
//   recent = recent + sum_t key_t value_t^T
//
// Six tokens by two vectors of columns fill AVX3's registers: 12 of out, 12 of
// values, the state. Broadcasts are then half of the multiply-adds; by one
// vector they are as many, and loading them is the limit (Zen 5, width 64: 91 %
// of the FMA peak against 70). Zen 4 wants it the other way: a broadcast from
// memory is part of a multiply-add there, one into a register is not (98
// against 88), and SeeingTile() is its kernel. The other targets have registers
// for one vector.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_TILE_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_TILE_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_TILE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

#include "engine/scan_state.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using ScanTag = hn::ScalableTag<float>;
using ScanVec = hn::Vec<ScanTag>;
constexpr int64_t kScanLanes = hn::MaxLanes(ScanTag());
constexpr int kScanVectors = HWY_TARGET <= HWY_AVX3 ? 2 : 1;
static_assert(kScanVectors == 1 || kScanLanes == kScanLine);

/// One tile of one reader and one writer, at its columns.
struct ScanTileArgs {
  const float *query, *key, *value;
  float* out;
  int64_t query_stride, key_stride, value_stride, out_stride;
  const float* scores;  // null: the writer says nothing to the reader
  const float* factor;  // [kTokens], or null: 1
  bool add;             // to out
  float* total;
  float* recent;
  int64_t rows;
  const ScanDecay* decay;
  float settle;  // what `total` lacks when it takes in `recent`
  LineFetch fetch;
};

template <int kTokens, int kVectors>
HWY_INLINE void LoadValues(const ScanTileArgs& a,
                           ScanVec (&value)[kTokens][kVectors]) {
  const ScanTag d;
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) HWY_UNROLL(2)
  for (int c = 0; c < kVectors; ++c)
    value[t][c] = hn::LoadU(d, a.value + t * a.value_stride + c * kScanLanes);
}

// out += scores value, then as the arguments ask.
template <int kTokens, int kVectors>
HWY_INLINE void FinishTile(const ScanTileArgs& a,
                           const ScanVec (&value)[kTokens][kVectors],
                           ScanVec (&out)[kTokens][kVectors]) {
  const ScanTag d;
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) HWY_UNROLL(2)
  for (int c = 0; c < kVectors; ++c) {
    if (a.scores != nullptr) HWY_UNROLL(8)
    for (int s = 0; s <= t; ++s)
      out[t][c] =
          hn::MulAdd(hn::Set(d, a.scores[8 * t + s]), value[s][c], out[t][c]);
    if (a.factor != nullptr)
      out[t][c] = hn::Mul(out[t][c], hn::Set(d, a.factor[t]));
    float* const to = a.out + t * a.out_stride + c * kScanLanes;
    if (a.add) out[t][c] = hn::Add(out[t][c], hn::LoadU(d, to));
    hn::StoreU(out[t][c], d, to);
  }
}

template <int kTokens, int kVectors, bool kRead, bool kWrite, bool kDecay>
HWY_NOINLINE void ScanTile(const ScanTileArgs& a) {
  const ScanTag d;
  ScanVec value[kTokens][kVectors];
  ScanVec out[kTokens][kVectors];
  ScanVec fade = hn::Zero(d), total_fade = hn::Zero(d);
  if constexpr (kWrite) LoadValues(a, value);
  if constexpr (kDecay) {
    fade = hn::Set(d, a.decay->tile);
    total_fade = hn::Set(d, a.decay->total);
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) HWY_UNROLL(2)
  for (int c = 0; c < kVectors; ++c) {
    out[t][c] = hn::Zero(d);
    if constexpr (kWrite && kDecay)
      value[t][c] = hn::Mul(value[t][c], hn::Set(d, a.decay->past[t]));
  }

  const float* query = a.query;
  const float* key = a.key;
  const float* total = a.total;
  float* recent = a.recent;
  const int64_t apart = a.rows * kScanLine;  // from one vector's columns on
  const LineFetch fetch = a.fetch;
  HWY_UNROLL(1)
  for (int64_t i = 0; i < a.rows; ++i) {
    fetch.Fetch(i);
    // The update is summed apart: `recent` then rounds once a tile.
    ScanVec sum[kVectors], update[kVectors];
    HWY_UNROLL(2)
    for (int c = 0; c < kVectors; ++c) {
      if constexpr (kRead) {
        const auto old = hn::Load(d, total + c * apart);
        const auto young = hn::Load(d, recent + c * apart);
        if constexpr (kDecay)
          sum[c] = hn::MulAdd(old, total_fade, young);
        else
          sum[c] = hn::Add(old, young);
      }
    }
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) {
      if constexpr (kWrite) {
        const auto x = hn::Set(d, key[t * a.key_stride + i]);
        HWY_UNROLL(2)
        for (int c = 0; c < kVectors; ++c)
          update[c] = t == 0 ? hn::Mul(x, value[t][c])
                             : hn::MulAdd(x, value[t][c], update[c]);
      }
      if constexpr (kRead) {
        const auto x = hn::Set(d, query[t * a.query_stride + i]);
        HWY_UNROLL(2)
        for (int c = 0; c < kVectors; ++c)
          out[t][c] = hn::MulAdd(x, sum[c], out[t][c]);
      }
    }
    if constexpr (kWrite) {
      HWY_UNROLL(2)
      for (int c = 0; c < kVectors; ++c) {
        const auto young = hn::Load(d, recent + c * apart);
        hn::Store(kDecay ? hn::MulAdd(young, fade, update[c])
                         : hn::Add(young, update[c]),
                  d, recent + c * apart);
      }
    }
    total += kScanLine;
    recent += kScanLine;
  }
  for (int64_t i = a.rows; i < fetch.lines; ++i) fetch.Fetch(i);

  if (!kRead && a.scores == nullptr) return;
  if constexpr (kRead && kDecay) HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) HWY_UNROLL(2)
  for (int c = 0; c < kVectors; ++c)
    out[t][c] = hn::Mul(out[t][c], hn::Set(d, a.decay->to[t]));
  // The values were scaled for the update, or never loaded.
  if (kDecay || !kWrite)
    if (a.scores != nullptr) LoadValues(a, value);
  FinishTile(a, value, out);
}

// What adding lost of the lesser of two (Knuth's exact sum); of infinities,
// nothing.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LostBySum(D, V a, V b, V sum) {
  const V part = hn::Sub(sum, a);
  const V lost = hn::Add(hn::Sub(a, hn::Sub(sum, part)), hn::Sub(b, part));
  return hn::IfThenElseZero(hn::Eq(lost, lost), lost);
}

// The same for one reader and one writer, one vector of columns and four rows
// of the state at a time. Each pair of tokens reads the state as it finds it,
// so that a tile needs three scores a pair and not 21, for one addition a row
// and pair: worth it where additions run beside multiply-adds (OnZen4()). A
// single token reads the state as it leaves it.
//
// With decays the state is meanwhile the one that the tile's end sees, or, in a
// frame, the one before the run: rows of the state then do not fade, but for
// the last tile's end, and two of 14 multiplications a row are gone.
// kSettle: `total` takes in `recent` on the way, as Settle() does.
enum class Fade : uint8_t { kNone, kTile, kFrame, kFrameEnd };

// Where the score of tokens t and s <= t of a pair stands.
constexpr int SeeingScore(int t, int s) { return t / 2 * 3 + t % 2 + s % 2; }
constexpr int kSeeingScores = kScanTile / 2 * 3;

template <int kTokens, Fade kFade, bool kSettle>
HWY_NOINLINE void SeeingTile(const ScanTileArgs& a) {
  constexpr bool kDecay = kFade != Fade::kNone;
  const ScanTag d;
  ScanVec value[kTokens][1], out[kTokens][1];
  ScanVec fade = hn::Zero(d), total_fade = hn::Zero(d);
  LoadValues(a, value);
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    out[t][0] = hn::Zero(d);
    if constexpr (kDecay)
      value[t][0] = hn::Mul(value[t][0], hn::Set(d, a.decay->past[t]));
  }
  if constexpr (kFade == Fade::kTile || kFade == Fade::kFrameEnd)
    fade = hn::Set(d, a.decay->tile);
  if constexpr (kFade == Fade::kTile)
    total_fade = hn::Set(d, a.decay->total * a.decay->tile);

  const float* const query = a.query;
  const float* const key = a.key;
  float* const total = a.total;
  float* const recent = a.recent;
  const auto rows = [&](int64_t i, auto count) HWY_ATTR {
    constexpr int kRows = count();
    ScanVec young[kRows], sum[kRows], update[kRows], seen[kRows];
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = (i + r) * kScanLine;
      auto old = hn::Load(d, total + at);
      young[r] = hn::Load(d, recent + at);
      if constexpr (kSettle) {
        if constexpr (kDecay) old = hn::Mul(old, hn::Set(d, a.settle));
        const auto both = hn::Add(old, young[r]);
        young[r] = LostBySum(d, old, young[r], both);
        old = both;
        hn::Store(old, d, total + at);
      }
      if constexpr (kFade == Fade::kTile) {
        young[r] = hn::Mul(young[r], fade);
        sum[r] = hn::MulAdd(old, total_fade, young[r]);
      } else {
        sum[r] = hn::Add(old, young[r]);
      }
      seen[r] = sum[r];
    }
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const auto x = hn::Set(d, key[t * a.key_stride + i + r]);
      const auto y = hn::Set(d, query[t * a.query_stride + i + r]);
      if constexpr (kTokens > 1) out[t][0] = hn::MulAdd(y, seen[r], out[t][0]);
      update[r] = t == 0 ? hn::Mul(x, value[t][0])
                         : hn::MulAdd(x, value[t][0], update[r]);
      if (t % 2 == 1) seen[r] = hn::Add(sum[r], update[r]);
      if constexpr (kTokens == 1)
        out[t][0] = hn::MulAdd(y, hn::Add(sum[r], update[r]), out[t][0]);
    }
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      auto now = hn::Add(young[r], update[r]);
      if constexpr (kFade == Fade::kFrameEnd) now = hn::Mul(now, fade);
      hn::Store(now, d, recent + (i + r) * kScanLine);
    }
  };
  const LineFetch fetch = a.fetch;
  // As even as can be.
  const int64_t pace = (4 * fetch.lines + a.rows - 1) / a.rows;
  int64_t i = 0, line = 0;
  HWY_UNROLL(1)
  for (; i + 4 <= a.rows; i += 4) {
    for (const int64_t end = line + pace; line < end; ++line) fetch.Fetch(line);
    rows(i, std::integral_constant<int, 4>());
  }
  HWY_UNROLL(1)
  for (; i < a.rows; ++i) rows(i, std::integral_constant<int, 1>());
  for (; line < fetch.lines; ++line) fetch.Fetch(line);

  const auto store = [&](auto factor) HWY_ATTR {
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) {
      auto x = out[t][0];
      if constexpr (kTokens > 1) HWY_UNROLL(2)
      for (int s = t / 2 * 2; s <= t; ++s)
        x = hn::MulAdd(value[s][0], hn::Set(d, a.scores[SeeingScore(t, s)]), x);
      if constexpr (kDecay) x = hn::Mul(x, hn::Set(d, a.decay->back[t]));
      hn::StoreU(factor(t, x), d, a.out + t * a.out_stride);
    }
  };
  if (a.factor == nullptr)
    store([](int, ScanVec x) HWY_ATTR { return x; });
  else
    store([&](int t, ScanVec x)
              HWY_ATTR { return hn::Mul(x, hn::Set(d, a.factor[t])); });
}

/// The sum of a vector's blocks of four lanes.
template <class D>
HWY_INLINE auto SumBlocks(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return SumBlocks(half,
                     hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// Sums of the lanes of four vectors, by transposing and adding.
HWY_INLINE void StoreSums(const ScanVec (&sum)[4], float* to) {
  const ScanTag d;
  const hn::CappedTag<float, 4> d4;
  const hn::Repartition<double, ScanTag> dd;
  // Within blocks of four lanes: two rounds of add and interleave.
  const auto pair = [&](ScanVec a, ScanVec b) HWY_ATTR {
    return hn::BitCast(dd, hn::Add(hn::InterleaveLower(d, a, b),
                                   hn::InterleaveUpper(d, a, b)));
  };
  const auto low = pair(sum[0], sum[1]);
  const auto high = pair(sum[2], sum[3]);
  const auto blocks =
      hn::Add(hn::BitCast(d, hn::InterleaveLower(dd, low, high)),
              hn::BitCast(d, hn::InterleaveUpper(dd, low, high)));
  hn::StoreU(SumBlocks(d, blocks), d4, to);
}

/// Dot products of kRows rows x, `stride` apart, with four rows y, all of n
/// floats, a multiple of kScanPad: to[4 r + c] = x_r . y_c.
template <int kRows>
HWY_INLINE void Dots(const float* x, int64_t stride, const float* const (&y)[4],
                     int64_t n, float* to) {
  const ScanTag d;
  ScanVec sum[kRows][4];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) HWY_UNROLL(4)
  for (int c = 0; c < 4; ++c) sum[r][c] = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kScanLanes) {
    ScanVec left[kRows];
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) left[r] = hn::LoadU(d, x + r * stride + i);
    HWY_UNROLL(4)
    for (int c = 0; c < 4; ++c) {
      const auto right = hn::LoadU(d, y[c] + i);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r)
        sum[r][c] = hn::MulAdd(left[r], right, sum[r][c]);
    }
  }
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) StoreSums(sum[r], to + 4 * r);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_TILE_INL_H_
