// Split strips of the tile engine's forward pass. At a window's two borders
// keys are seen by some lanes of a vector only; but where queries follow each
// other, those that no longer see key i are those that see key i + window
// already, and the other way round. So a strip takes both keys in one row of
// scores: vectors before the one in which they meet multiply the first, those
// behind it the other, and that one each lane its own. No lane is idle, and
// none reads a value that it must not see.
//
// Windows of 64 keys take .8 of the multiply-adds of masked strips, and all of
// them in the widest register tile.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_SPLIT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_SPLIT_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_SPLIT_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_SPLIT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "engine/tile_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

// Keys: rows of `first` for lanes before cut[row], of `other` behind them; they
// meet in vector kMeet. Of `other` there are `others` rows, the last of which
// stands for those that no lane sees.
template <class Keys, int kMeet>
struct SplitKeys {
  Keys first, other;
  const float* cut;
  int others;
  int64_t apart;  // from a row's first key to its other

  SplitKeys From(int row) const {
    return {first.From(row), other.From(row), cut + row, others - row, apart};
  }

  static HWY_INLINE M Before(const float* cut) {
    return hn::Lt(hn::Iota(d, static_cast<float>(kMeet * kLanes)),
                  hn::Set(d, *cut));
  }

  struct Each {
    V first, meeting, other;
  };
  template <int kRows>
  struct Pairs {
    Keys first, other;
    M before[kRows];
    int at[kRows];

    HWY_INLINE Each Choose(int row, V x, V y) const {
      return {x, hn::IfThenElse(before[row], x, y), y};
    }
    HWY_INLINE Each Step(int row, int64_t step) const {
      return Choose(row, first.Step(row, step), other.Step(at[row], step));
    }
    HWY_INLINE Each Rest(int row, int64_t step) const {
      return Choose(row, first.Rest(row, step), other.Rest(at[row], step));
    }
  };
  template <int kRows>
  HWY_INLINE Pairs<kRows> Reader() const {
    Pairs<kRows> rows{first, other, {}, {}};
    for (int i = 0; i < kRows; ++i) {
      rows.before[i] = Before(cut + i);
      rows.at[i] = std::min(i, others - 1);
    }
    return rows;
  }
  static int64_t Steps(int64_t dim) { return Keys::Steps(dim); }
  static bool HasRest(int64_t dim) { return Keys::HasRest(dim); }
  static HWY_INLINE V MulAdd(const Each& x, V b, V a, int j) {
    return Keys::MulAdd(j < kMeet    ? x.first
                        : j == kMeet ? x.meeting
                                     : x.other,
                        b, a, j);
  }

  template <class Policy>
  HWY_INLINE V Score(const Policy& policy, V s, int row, int vec, int64_t ahead,
                     const float* at) const {
    if (vec < kMeet) return policy.Score(s, ahead, at);
    const V of_other = policy.Score(s, ahead - apart, at);
    if (vec > kMeet) return of_other;
    return hn::IfThenElse(Before(cut + row), policy.Score(s, ahead, at),
                          of_other);
  }
};

// Values likewise, by steps of the product with the weights.
template <class Values, int kMeet>
struct SplitValues {
  Values first, other;
  const float* cut;
  int others;  // steps

  SplitValues From(int step) const {
    return {first.From(step), other.From(step), cut + step * Values::kKeys,
            others - step};
  }
  SplitValues Columns(int64_t c) const {
    return {first.Columns(c), other.Columns(c), cut, others};
  }

  struct Each {
    V first, meeting, other;
  };
  HWY_INLINE Each Broadcast(int step, int column) const {
    const V x = first.Broadcast(step, column);
    const V y = other.Broadcast(std::min(step, others - 1), column);
    return {x, Values::Choose(kMeet, cut + step * Values::kKeys, x, y), y};
  }
  using Mask = typename Values::Mask;
  static constexpr int kKeys = Values::kKeys;
  static HWY_INLINE V Add(const Each& x, V b, V a, int j) {
    return Values::Add(j < kMeet    ? x.first
                       : j == kMeet ? x.meeting
                                    : x.other,
                       b, a, j);
  }
};

// Calls run(constant) for the vector in which a split strip's keys meet.
template <class F>
HWY_INLINE void ByMeeting(const Strip& strip, const float* cut, F run) {
  static_assert(!kShape.splits || kShape.vecs == 4);
  if constexpr (kShape.splits) {
    // The first key is seen one lane into that vector.
    switch (static_cast<int>(cut[strip.start]) / kLanes) {
      case 0:
        return run(std::integral_constant<int, 0>());
      case 1:
        return run(std::integral_constant<int, 1>());
      case 2:
        return run(std::integral_constant<int, 2>());
      default:
        return run(std::integral_constant<int, 3>());
    }
  }
}

// A split strip's scores; arguments as ScoreStrip's.
template <class Policy, class Arithmetic>
HWY_INLINE void ScoreSplit(const Policy& policy, const Arithmetic& arithmetic,
                           int64_t dim, const TileScratch& scratch,
                           const Batch& batch, const Strip& strip,
                           int64_t ahead, Fetches& fetches) {
  ByMeeting(strip, batch.seen_end, [&](auto meet) HWY_ATTR {
    using Keys = SplitKeys<typename Arithmetic::Keys, meet()>;
    ScoreStrip<Policy, kShape.vecs, false, Keys>(
        policy,
        {arithmetic.KeysOf(strip), arithmetic.OtherKeysOf(strip),
         batch.seen_end + strip.start, strip.others,
         strip.other_key - strip.key},
        dim, scratch.queries, scratch.scores + strip.start * kTile, scratch.max,
        strip.keys, {}, ahead, fetches);
  });
}

// Its values' product; arguments as ValueStrip's.
template <class Arithmetic>
HWY_INLINE void AddSplitValues(const Arithmetic& arithmetic, int64_t dim,
                               const TileScratch& scratch, const Batch& batch,
                               const Strip& strip, const float* rescale) {
  ByMeeting(strip, batch.seen_end, [&](auto meet) HWY_ATTR {
    using Values = SplitValues<typename Arithmetic::Values, meet()>;
    ValueStrip<kShape.vecs, false, Values>(
        {arithmetic.ValuesOf(strip), arithmetic.OtherValuesOf(strip),
         batch.seen_end + strip.start, Arithmetic::Steps(strip.others)},
        dim, scratch.scores + strip.start * kTile, rescale, scratch.out,
        Arithmetic::Steps(strip.keys));
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_SPLIT_INL_H_
