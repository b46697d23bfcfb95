// Products of the tile engine's forward pass in the CPU's bf16 dot product,
// which adds the products of two pairs of bf16 to a float (AVX512_BF16): keys
// as they stand, pairs along their width; weights rounded to bf16, and values,
// in pairs of keys. Scores, sums and the weights' own sum stay f32.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_PAIRS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_PAIRS_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_PAIRS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_PAIRS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "engine/tile_forward.h"
#include "engine/tile_products-inl.h"
#include "simd/bf16.h"
#include "simd/math-inl.h"
#include "simd/pairs-inl.h"
#include "simd/transpose-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

// Keys, in pairs along their width.
struct PairKeys {
  const BF16* at;
  int64_t stride;

  PairKeys From(int64_t row) const { return {at + row * stride, stride}; }

  template <int kRows>
  HWY_INLINE PairKeys Reader() const {
    return *this;
  }
  static int64_t Steps(int64_t dim) { return dim / 2; }
  HWY_INLINE V Step(int row, int64_t step) const {
    return BroadcastPair(at + row * stride + 2 * step);
  }
  // The last element of an odd width.
  static bool HasRest(int64_t dim) { return dim % 2 != 0; }
  HWY_INLINE V Rest(int row, int64_t step) const {
    return BroadcastBits(at[row * stride + 2 * step].bits);
  }
  static HWY_INLINE V MulAdd(V x, V b, V a, int) { return DotPairs(x, b, a); }
  template <class Policy>
  HWY_INLINE V Score(const Policy& policy, V s, int, int, int64_t ahead,
                     const float* at) const {
    return policy.Score(s, ahead, at);
  }
};

// Values, interleaved: pair r of column c is c of keys 2 r and 2 r + 1.
struct PairValues {
  const float* at;  // bits
  int64_t stride;

  PairValues From(int64_t step) const { return {at + step * stride, stride}; }
  PairValues Columns(int64_t c) const { return {at + c, stride}; }

  using Mask = V;  // bits of the keys that are seen
  static constexpr int kKeys = 2;
  HWY_INLINE V Broadcast(int step, int column) const {
    return hn::Set(d, at[step * stride + column]);
  }
  static HWY_INLINE Mask Seen(V weights) {
    const hn::Repartition<uint16_t, D> du16;
    const auto bits = hn::BitCast(du16, weights);
    return hn::BitCast(d,
                       hn::VecFromMask(du16, hn::Ne(bits, BitsOfHidden(du16))));
  }
  static HWY_INLINE V Add(V x, V b, V a, int) { return DotPairs(x, b, a); }
  static HWY_INLINE V AddWhere(Mask seen, V x, V b, V a) {
    return DotPairs(hn::And(seen, x), b, a);
  }
  // Each of a pair's keys has its own cut.
  static HWY_INLINE V Choose(int vec, const float* cut, V x, V y) {
    const V lane = hn::Iota(d, static_cast<float>(vec * kLanes));
    const auto bits = [&](int key, uint32_t half) HWY_ATTR {
      return hn::IfThenElseZero(hn::Lt(lane, hn::Set(d, cut[key])),
                                BroadcastBits(half));
    };
    const V first = hn::Or(bits(0, 0xffff), bits(1, 0xffff0000));
    constexpr int kSelect = 0xca;  // first ? x : y, bit by bit
    return V{_mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_castps_si512(first.raw), _mm512_castps_si512(x.raw),
        _mm512_castps_si512(y.raw), kSelect))};
  }
};

// Weights of n keys in place of their scores: pairs of keys 2 r and 2 r + 1 in
// row r. kRunning: 2^(score - max), and added to `sum` before they are rounded.
// kCareful as in WeighStrip.
template <bool kRunning, int kVecs, bool kCareful, class Scores>
HWY_NOINLINE void WeighPairs(Scores held, float* scores, const float* max,
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
    for (; i < end; i += 2)
      for (int j = 0; j < kVecs; ++j) {
        const auto weight = [&](int key) HWY_ATTR {
          const V s = hn::Load(d, scores + key * kTile + j * kLanes);
          if constexpr (!kRunning) return s;
          const V p = Weight<kCareful>(held, s, top[j]);
          part[j] = hn::Add(part[j], p);
          return p;
        };
        const V low = weight(i);
        const V high = i + 1 < n ? weight(i + 1) : hn::Zero(d);
        hn::Store(RoundToPairs(low, high), d,
                  scores + i / 2 * kTile + j * kLanes);
      }
    for (int j = 0; j < kVecs; ++j) total[j] = hn::Add(total[j], part[j]);
  }
  if constexpr (kRunning)
    for (int j = 0; j < kVecs; ++j)
      hn::Store(hn::Add(hn::Load(d, sum + j * kLanes), total[j]), d,
                sum + j * kLanes);
}

// The Arithmetic (see tile_floats-inl.h). Queries cannot carry the scale, which
// would round them: policies apply it to scores.
class Pairs {
 public:
  using Keys = PairKeys;
  using Values = PairValues;

  Pairs(const TileWork& work, const TileScratch& scratch)
      : w_(work), s_(scratch), kv_head_(work.KvHead()) {}

  void LoadQueries(float) const {
    const ConstView& q = w_.call->q;
    const int64_t step = w_.part->step * q.row_stride;
    const auto queries = static_cast<int>(w_.queries.size());
    const BF16* const rows = q.Row<BF16>(w_.batch, w_.head, w_.q_row);
    // Aligned, and an odd width filled up with zeros.
    const int64_t pairs = (q.dim + 1) / 2;
    for (int i = 0; i < queries; ++i) {
      float* const to = s_.scores + i * pairs;
      to[pairs - 1] = 0;
      std::memcpy(to, rows + i * step, q.dim * sizeof(BF16));
    }
    for (int g = 0; g < queries; g += kLanes)
      RowsToColumns(
          d, s_.scores + g * pairs, pairs, queries - 1 - g, pairs,
          [](auto bits) HWY_ATTR { return bits; }, s_.queries + g, kTile);
  }

  void Pack(const Strip& strip) const {
    const int64_t dim = w_.call->v.dim, end = strip.row + strip.keys;
    if (CanKeep(strip) && strip.row <= w_.kept->rows) {
      KeptValues& kept = *w_.kept;
      const int64_t row = kept.rows;
      kept.rows = std::max(row, end);
      return PackRows(row, static_cast<int>(kept.rows - row),
                      kept.at + row / 2 * dim);
    }
    float* const to = s_.values + strip.start * dim;
    PackRows(strip.row, strip.keys, to);
    // Pairs leave half of the room.
    if (strip.split)
      PackRows(strip.other_row, strip.others, to + strip.keys / 2 * dim);
  }

  static constexpr bool Splits() { return true; }
  PairKeys KeysOf(const Strip& strip) const { return KeysAt(strip.row); }
  PairKeys OtherKeysOf(const Strip& s) const { return KeysAt(s.other_row); }
  PairValues ValuesOf(const Strip& strip) const {
    const int64_t dim = w_.call->v.dim;
    if (CanKeep(strip) && strip.row + strip.keys <= w_.kept->rows)
      return {w_.kept->at + strip.row / 2 * dim, dim};
    return {s_.values + strip.start * dim, dim};
  }
  PairValues OtherValuesOf(const Strip& strip) const {
    return ValuesOf(strip).From(strip.keys / 2);
  }

  template <bool kRunning, int kVecs, bool kCareful, class Scores>
  static void Weigh(Scores held, float* scores, const float* max, float* sum,
                    int n) {
    WeighPairs<kRunning, kVecs, kCareful>(held, scores, max, sum, n);
  }
  static int Steps(int keys) { return (keys + 1) / 2; }

 private:
  // Whether its pairs have a place among those that are kept.
  bool CanKeep(const Strip& strip) const {
    return w_.kept != nullptr && w_.part->step == 1 && !strip.split &&
           strip.row % 2 == 0 && strip.keys % 2 == 0 &&
           strip.row + strip.keys <= w_.kept->room;
  }

  void PackRows(int64_t row, int rows, float* to) const {
    const ConstView& v = w_.call->v;
    PackPairs(v.Row<BF16>(w_.batch, kv_head_, row),
              w_.part->step * v.row_stride, rows, v.dim, to, v.dim);
  }

  PairKeys KeysAt(int64_t row) const {
    const ConstView& k = w_.call->k;
    return {k.Row<BF16>(w_.batch, kv_head_, row), w_.part->step * k.row_stride};
  }

  const TileWork& w_;
  const TileScratch& s_;
  const int64_t kv_head_;
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET == HWY_AVX3

#endif  // SACCADE_COMMON_ENGINE_TILE_PAIRS_INL_H_
