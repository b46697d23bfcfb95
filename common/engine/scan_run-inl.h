// One run of a scan: first what all columns share (scores of tokens of the same
// tile, decays, denominators), then tile by tile over each panel of the state.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_RUN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_RUN_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_RUN_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_RUN_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "engine/scan_state.h"
#include "engine/scan_tile-inl.h"
#include "simd/target.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

// Calls visit(tile, first token, tokens of the tile).
template <class F>
HWY_INLINE void ForTiles(int64_t count, F visit) {
  int64_t tile = 0, t = 0;
  for (; t + kScanTile <= count; t += kScanTile) visit(tile++, t, kScanTile);
  for (; t < count; ++t) visit(tile++, t, int64_t{1});
}

// The nearest float to a factor that is owed; the next one owes the rest. So a
// product of thousands of factors is as exact as one, where rounding each for
// itself would add up a power's errors.
inline float Round(double factor, double& owed) {
  const auto rounded = static_cast<float>(factor * owed);
  owed = rounded > 0 ? factor * owed / rounded : 1;
  return rounded;
}

// The decays of a tile.
inline void SetDecay(const float* decay, int64_t tokens,
                     ScanState::Level& level, ScanDecay& to) {
  double product = 1;
  for (int64_t t = tokens; t-- > 0; product *= decay[t]) {
    to.past[t] = static_cast<float>(product);
    to.back[t] = static_cast<float>(1 / product);
  }
  product = 1;
  for (int64_t t = 0; t < tokens; ++t) {
    product *= decay[t];
    to.to[t] = static_cast<float>(product);
  }
  to.total = static_cast<float>(level.fade);
  to.tile = Round(product, level.owed);
  level.fade *= product;
}

// The same in a frame, the state before the run, of which `product` is what
// has passed.
inline void SetFramed(const float* decay, int64_t tokens, double& product,
                      ScanDecay& to) {
  for (int64_t t = 0; t < tokens; ++t) {
    product *= decay[t];
    to.past[t] = static_cast<float>(1 / product);
    to.back[t] = static_cast<float>(product);
  }
}

// The decays of pairs of tokens, onto their scores.
inline void FadeScores(const float* decay, int64_t tokens, float* scores) {
  for (int64_t s = 0; s < tokens; ++s) {
    double product = 1;
    for (int64_t t = s + 1; t < tokens; ++t) {
      product *= decay[t];
      scores[8 * t + s] *= static_cast<float>(product);
    }
  }
}

// scores[8 t + s] = query_t . key_s for s <= t (and some others), and
// with_z[t] = query_t . z, when z is not null.
inline void ScoreTile(const float* query, int64_t query_stride,
                      const float* key, int64_t key_stride, const float* z,
                      int64_t tokens, int64_t n, float* scores, float* with_z) {
  const auto k = [&](int64_t s) { return key + s * key_stride; };
  const float* const first = z != nullptr ? z : key;
  float dots[12];
  if (tokens == 1) {
    Dots<1>(query, query_stride, {first, key, key, key}, n, dots);
    scores[0] = dots[1];
    with_z[0] = dots[0];
    return;
  }
  for (int64_t t = 0; t < kScanTile; t += 3) {
    Dots<3>(query + t * query_stride, query_stride, {first, k(0), k(1), k(2)},
            n, dots);
    for (int r = 0; r < 3; ++r) {
      with_z[t + r] = dots[4 * r];
      for (int s = 0; s < 3; ++s) scores[8 * (t + r) + s] = dots[4 * r + 1 + s];
    }
  }
  Dots<3>(query + 3 * query_stride, query_stride, {k(3), k(4), k(5), k(5)}, n,
          dots);
  for (int r = 0; r < 3; ++r)
    for (int s = 0; s < 3; ++s) scores[8 * (3 + r) + 3 + s] = dots[4 * r + s];
}

// with_z[t] = query_t . z.
inline void DotsWithZ(const float* query, int64_t stride, const float* z,
                      int64_t tokens, int64_t n, float* with_z) {
  for (int64_t t = 0; t < tokens; t += 4) {
    const auto q = [&](int64_t r) {
      return query + std::min(t + r, tokens - 1) * stride;
    };
    float dots[4];
    Dots<1>(z, 0, {q(0), q(1), q(2), q(3)}, n, dots);
    for (int64_t r = 0; r < std::min<int64_t>(4, tokens - t); ++r)
      with_z[t + r] = dots[r];
  }
}

// z = total_fade z_total + z_recent.
inline void SumZ(const ScanState& state, float total_fade, float* z) {
  const ScanTag d;
  const auto fade = hn::Set(d, total_fade);
  for (int64_t i = 0; i < state.z_floats; i += kScanLanes)
    hn::Store(hn::MulAdd(fade, hn::Load(d, state.z_total + i),
                         hn::Load(d, state.z_recent + i)),
              d, z + i);
}

// z_recent = fade z_recent + sum_t past_t key_t.
inline void UpdateZ(const float* key, int64_t stride, int64_t tokens,
                    const ScanDecay* decay, const ScanState& state) {
  const ScanTag d;
  for (int64_t i = 0; i < state.z_floats; i += kScanLanes) {
    auto sum = hn::Zero(d);
    for (int64_t t = 0; t < tokens; ++t) {
      auto x = hn::LoadU(d, key + t * stride + i);
      if (decay != nullptr) x = hn::Mul(x, hn::Set(d, decay->past[t]));
      sum = hn::Add(sum, x);
    }
    auto z = hn::Load(d, state.z_recent + i);
    if (decay != nullptr) z = hn::Mul(z, hn::Set(d, decay->tile));
    hn::Store(hn::Add(z, sum), d, state.z_recent + i);
  }
}

// Of a tile where readers see: the scores that SeeingTile() wants, and with kZ
// with_z[t] = query_t . (z and the keys up to t), while z_recent takes in all.
template <bool kZ>
inline void ScoreSeeing(const float* query, int64_t query_stride,
                        const float* key, int64_t key_stride, int64_t n,
                        const ScanState& state, float* scores, float* with_z) {
  const ScanTag d;
  constexpr int kTokens = kScanTile;
  constexpr int kSums = ((kZ ? kTokens : 0) + kSeeingScores + 3) / 4 * 4;
  ScanVec sum[kSums];
  HWY_UNROLL(16)
  for (int t = 0; t < kSums; ++t) sum[t] = hn::Zero(d);
  HWY_UNROLL(1)
  for (int64_t i = 0; i < n; i += kScanLanes) {
    ScanVec recent, z, seen, update = hn::Zero(d), k[kTokens];
    if constexpr (kZ) {
      recent = hn::Load(d, state.z_recent + i);
      z = seen = hn::Add(hn::Load(d, state.z_total + i), recent);
    }
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) {
      const auto q = hn::LoadU(d, query + t * query_stride + i);
      k[t] = hn::LoadU(d, key + t * key_stride + i);
      HWY_UNROLL(2)
      for (int s = t / 2 * 2; s <= t; ++s)
        sum[SeeingScore(t, s)] = hn::MulAdd(q, k[s], sum[SeeingScore(t, s)]);
      if constexpr (!kZ) continue;
      if (t > 0 && t % 2 == 0) seen = hn::Add(z, update);
      update = hn::Add(update, k[t]);
      sum[kSeeingScores + t] = hn::MulAdd(q, seen, sum[kSeeingScores + t]);
    }
    if constexpr (kZ) hn::Store(hn::Add(recent, update), d, state.z_recent + i);
  }
  float sums[kSums];
  HWY_UNROLL(4)
  for (int t = 0; t < kSums; t += 4)
    StoreSums({sum[t], sum[t + 1], sum[t + 2], sum[t + 3]}, sums + t);
  std::copy_n(sums, kSeeingScores, scores);
  for (int t = 0; kZ && t < kTokens; ++t) {
    with_z[t] = sums[kSeeingScores + t];
    for (int s = t / 2 * 2; s <= t; ++s) with_z[t] += sums[SeeingScore(t, s)];
  }
}

// with_z[0] = query . (z and the key), which z_recent takes in.
inline void SeeZ(const float* query, const float* key, const ScanState& state,
                 float* with_z) {
  const ScanTag d;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < state.z_floats; i += kScanLanes) {
    const auto recent =
        hn::Add(hn::Load(d, state.z_recent + i), hn::LoadU(d, key + i));
    sum = hn::MulAdd(hn::LoadU(d, query + i),
                     hn::Add(hn::Load(d, state.z_total + i), recent), sum);
    hn::Store(recent, d, state.z_recent + i);
  }
  *with_z = hn::GetLane(hn::SumOfLanes(d, sum));
}

// Beyond, what is divided by decays could be too much for a float.
constexpr float kLeastDecay = 1e-3f;     // of a token, in a tile
constexpr double kLeastFrame = 0x1p-60;  // of a run

// Whether a run's reader sees its writer token by token, see SeeingTile().
inline bool Sees(const ScanRun& run) {
  if (HWY_TARGET > HWY_AVX3 || !OnZen4()) return false;
  if (run.readers != 1 || run.writers != 1) return false;
  if (run.decay == nullptr) return true;
  return run.factor == nullptr &&
         *std::min_element(run.decay, run.decay + run.count) >= kLeastDecay;
}

// Whether such a run's tiles share a frame, with `total` as it is in it.
inline bool Frames(const ScanRun& run, const ScanState::Level& level) {
  constexpr double kNear = 0x1p-20;  // to 1: what rounding a factor left
  if (run.decay == nullptr || run.count < 2 * kScanTile) return false;
  if (std::abs(level.fade - 1) > kNear) return false;
  double product = 1;
  for (int64_t t = 0; t < run.count; ++t) product *= run.decay[t];
  return product >= kLeastFrame;
}

// Scores of tiles where readers see, and with kZ factors of tokens, and their
// share of z.
template <bool kZ>
inline void ScoresOfSeeing(const ScanRun& run, const ScanScratch& scratch,
                           const ScanState& state) {
  const int64_t n = ScanRoundUp(run.rows, kScanPad);
  ForTiles(run.count, [&](int64_t tile, int64_t first, int64_t tokens) {
    const float* const query = run.query.At(0, first);
    const float* const key = run.key.At(0, first);
    float with_z[kScanTile];
    if (tokens == kScanTile)
      ScoreSeeing<kZ>(query, run.query.stride, key, run.key.stride, n, state,
                      scratch.scores + tile * kScanScores, with_z);
    else if (kZ)
      SeeZ(query, key, state, with_z);
    for (int64_t t = 0; kZ && t < tokens; ++t)
      // In this order, so that max keeps a NaN.
      run.factor[first + t] =
          1 / (std::max(with_z[t], run.least) + run.epsilon);
  });
}

// Decays of tiles where readers see; returns whether they share a frame.
inline bool FadesOfSeeing(const ScanRun& run, const ScanScratch& scratch,
                          ScanState::Level& level) {
  const bool frames = Frames(run, level);
  double product = 1;
  ForTiles(run.count, [&](int64_t tile, int64_t first, int64_t tokens) {
    ScanDecay& to = scratch.decays[tile];
    if (!frames)
      SetDecay(run.decay + first, tokens, level, to);
    else
      SetFramed(run.decay + first, tokens, product, to);
    if (frames && first + tokens == run.count) {
      to.tile = Round(product, level.owed);
      level.fade *= product;
    }
  });
  return frames;
}

// One tile's scores, decays, factors, and its share of z.
inline void PrepareTile(const ScanRun& run, int64_t tile, int64_t first,
                        int64_t tokens, const ScanScratch& scratch,
                        const ScanState& state) {
  const int64_t n = ScanRoundUp(run.rows, kScanPad);
  const float* const decay = run.decay ? run.decay + first : nullptr;
  ScanDecay& fade = scratch.decays[tile];
  if (decay) {
    SetDecay(decay, tokens, *state.level, fade);
  }
  const bool z = run.factor != nullptr;
  if (z) SumZ(state, decay ? fade.total : 1, scratch.z);
  for (int r = 0; r < run.readers; ++r) {
    const float* const query = run.query.At(r, first);
    float with_z[kScanTile], own[kScanTile] = {};
    if (run.writers == 0 && z)
      DotsWithZ(query, run.query.stride, scratch.z, tokens, n, with_z);
    for (int w = 0; w < run.writers; ++w) {
      float* const scores =
          scratch.scores + ((r + w) * kScanTiles + tile) * kScanScores;
      ScoreTile(query, run.query.stride, run.key.At(w, first), run.key.stride,
                z ? scratch.z : nullptr, tokens, n, scores, with_z);
      if (decay) FadeScores(decay, tokens, scores);
      for (int64_t t = 0; z && t < tokens; ++t)
        for (int64_t s = 0; s <= t; ++s) own[t] += scores[8 * t + s];
    }
    for (int64_t t = 0; z && t < tokens; ++t) {
      const float old = decay ? with_z[t] * fade.to[t] : with_z[t];
      // In this order, so that max keeps a NaN.
      const float sum = std::max(old + own[t], run.least);
      run.factor[r * kScanRun + first + t] = 1 / (sum + run.epsilon);
    }
  }
  if (z && run.writers > 0)
    UpdateZ(run.key.At(0, first), run.key.stride, tokens,
            decay ? &fade : nullptr, state);
}

template <int kTokens, int kVectors, bool kDecay>
inline void DispatchTile(const ScanTileArgs& a, bool read, bool write) {
  if (read && write)
    ScanTile<kTokens, kVectors, true, true, kDecay>(a);
  else if (read)
    ScanTile<kTokens, kVectors, true, false, kDecay>(a);
  else
    ScanTile<kTokens, kVectors, false, true, kDecay>(a);
}

// A tile at some columns; `wide`: of more than one vector.
struct TileAt {
  int64_t index, first, tokens, column;
  bool wide;
};

// All readers and writers of a tile. Reads come before the one update that they
// may be fused with. `a` has what does not depend on these.
template <int kVectors, bool kDecay>
inline void ApplyTile(const ScanRun& run, const TileAt& at,
                      const ScanScratch& scratch, ScanTileArgs a) {
  const float* const factors = a.factor;
  const int steps = std::max(run.readers, run.writers);
  // The state fades once, with the first writer.
  ScanDecay faded;
  if (kDecay && run.writers > 1) {
    faded = *a.decay;
    faded.tile = 1;
  }
  for (int x = 0; x < steps; ++x) {
    const bool read = run.readers > 0 && (run.writers <= 1 || x == 0);
    const bool write = run.writers > 0 && (run.readers <= 1 || x == steps - 1);
    const int r = run.readers > 1 ? x : 0, w = run.writers > 1 ? x : 0;
    if (kDecay && x == 1 && run.writers > 1) a.decay = &faded;
    if (run.readers > 0) {
      a.query = run.query.At(r, at.first);
      a.out = run.out.At(r, at.first) + at.column;
      a.add = x > 0 && run.writers > 1;
      a.factor = run.factor ? run.factor + r * kScanRun + at.first : factors;
    }
    if (run.writers > 0) {
      a.key = run.key.At(w, at.first);
      a.value = run.value.At(w, at.first) + at.column;
      if (run.readers > 0)
        a.scores = scratch.scores + (x * kScanTiles + at.index) * kScanScores;
    }
    if (x > 0) a.fetch = {};
    if (at.tokens == kScanTile)
      DispatchTile<kScanTile, kVectors, kDecay>(a, read, write);
    else
      DispatchTile<1, kVectors, kDecay>(a, read, write);
  }
}

// The same where the reader sees the writer, and for one vector.
template <Fade kFade, bool kSettle>
inline void ApplySeeing(const ScanRun& run, const TileAt& at, ScanTileArgs& a) {
  a.query = run.query.At(0, at.first);
  a.key = run.key.At(0, at.first);
  a.value = run.value.At(0, at.first) + at.column;
  a.out = run.out.At(0, at.first) + at.column;
  if (run.factor != nullptr) a.factor = run.factor + at.first;
  if (at.tokens == kScanTile)
    SeeingTile<kScanTile, kFade, kSettle>(a);
  else
    SeeingTile<1, kFade, kSettle>(a);
}

// Columns of the state that a kernel takes at once.
inline int64_t ScanStep() { return (OnZen4() ? 1 : kScanVectors) * kScanLanes; }

// Calls of a run's kernel.
inline int64_t TileCalls(const ScanRun& run) {
  const int64_t step = ScanStep();
  const int64_t columns = std::min(run.columns, run.panel_end * kScanPanel) -
                          run.panel_begin * kScanPanel;
  return (run.count / kScanTile + run.count % kScanTile) *
         ((columns + step - 1) / step);
}

// Calls apply(TileAt, ScanTileArgs) for a run's tiles at each step of columns.
// What apply sets stays set, but for where a tile stands.
template <class F>
HWY_INLINE void ForSteps(const ScanRun& run, const ScanScratch& scratch,
                         const ScanState& state, F apply) {
  float factors[kScanTile];
  std::fill_n(factors, kScanTile, run.scale);
  ScanTileArgs a = {};
  a.query_stride = run.query.stride;
  a.key_stride = run.key.stride;
  a.value_stride = run.value.stride;
  a.out_stride = run.out.stride;
  a.factor = run.scale != 1 ? factors : nullptr;
  a.rows = run.rows;
  const int64_t step = ScanStep();
  for (int64_t p = run.panel_begin; p < run.panel_end; ++p) {
    const int64_t width = std::min(kScanPanel, run.columns - p * kScanPanel);
    for (int64_t c = 0; c < width; c += step) {
      const int64_t at =
          ScanAt(run.rows, 0, (p - run.panel_begin) * kScanPanel + c);
      a.total = state.total + at;
      a.recent = state.recent + at;
      const bool wide = std::min(step, width - c) > kScanLanes;
      ForTiles(run.count, [&](int64_t tile, int64_t first, int64_t tokens) {
        a.decay = &scratch.decays[tile];
        a.fetch = run.ahead ? run.ahead->Next() : LineFetch();
        apply(TileAt{tile, first, tokens, p * kScanPanel + c, wide}, a);
      });
    }
  }
}

template <bool kDecay>
inline void ApplyRun(const ScanRun& run, const ScanScratch& scratch,
                     const ScanState& state) {
  ForSteps(run, scratch, state, [&](const TileAt& at, const ScanTileArgs& a) {
    if (at.wide)
      ApplyTile<kScanVectors, kDecay>(run, at, scratch, a);
    else
      ApplyTile<1, kDecay>(run, at, scratch, a);
  });
}

// `settle`: what the state's total is multiplied by as the first tile settles
// it, or null.
template <Fade kFade>
inline void ApplySeeingRun(const ScanRun& run, const ScanScratch& scratch,
                           const ScanState& state, const float* settle) {
  ForSteps(run, scratch, state, [&](const TileAt& at, ScanTileArgs& a) {
    a.scores = scratch.scores + at.index * kScanScores;
    if (settle != nullptr && at.index == 0) {
      a.settle = *settle;
      return ApplySeeing<kFade, true>(run, at, a);
    }
    if constexpr (kFade == Fade::kFrame)
      if (at.first + at.tokens == run.count)
        return ApplySeeing<Fade::kFrameEnd, false>(run, at, a);
    ApplySeeing<kFade, false>(run, at, a);
  });
}

// total = fade total + recent, and recent is what rounding lost, so that no
// run's error stays: a third of an ulp a run adds up when tokens repeat, 75 of
// the smallest budget at 64k tokens.
inline void Settle(float fade, int64_t n, float* total, float* recent) {
  const ScanTag d;
  for (int64_t i = 0; i < n; i += kScanLanes) {
    const auto old = hn::Mul(hn::Set(d, fade), hn::Load(d, total + i));
    const auto add = hn::Load(d, recent + i);
    const auto sum = hn::Add(old, add);
    hn::Store(sum, d, total + i);
    hn::Store(LostBySum(d, old, add, sum), d, recent + i);
  }
}

/// Runs one run, of which the state then holds the tokens.
inline void ScanOneRun(const ScanRun& run, const ScanScratch& scratch,
                       const ScanState& state) {
  ScanState::Level& level = *state.level;
  if (level.started == 0) level = {1, 0, 1, 1};
  const bool sees = Sees(run);
  float fade = 1;
  const bool full = level.held + std::max(run.count, run.stretch) > kScanRun;
  if (full) {
    double owed = 1;
    fade = Round(level.fade, owed);
    if (!sees) Settle(fade, state.floats, state.total, state.recent);
    Settle(fade, state.z_floats, state.z_total, state.z_recent);
    level.held = 0;
    level.fade = owed;
  }
  if (!sees) {
    ForTiles(run.count, [&](int64_t tile, int64_t first, int64_t tokens) {
      PrepareTile(run, tile, first, tokens, scratch, state);
    });
    (run.decay != nullptr ? ApplyRun<true> : ApplyRun<false>)(run, scratch,
                                                              state);
  } else {
    auto apply = ApplySeeingRun<Fade::kNone>;
    if (run.decay != nullptr)
      apply = FadesOfSeeing(run, scratch, level) ? ApplySeeingRun<Fade::kFrame>
                                                 : ApplySeeingRun<Fade::kTile>;
    (run.factor != nullptr ? ScoresOfSeeing<true>
                           : ScoresOfSeeing<false>)(run, scratch, state);
    apply(run, scratch, state, full ? &fade : nullptr);
  }
  if (run.writers > 0) level.held += run.count;
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_RUN_INL_H_
