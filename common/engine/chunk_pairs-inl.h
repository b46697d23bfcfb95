// Pairs of tokens whose weights fade feature by feature: walks from token to
// token, multiplying by factors, so that nothing is divided by what vanished.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_CHUNK_PAIRS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_CHUNK_PAIRS_INL_H_
#undef SACCADE_COMMON_ENGINE_CHUNK_PAIRS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_CHUNK_PAIRS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "engine/chunk_buffers.h"
#include "engine/product-inl.h"
#include "engine/scan_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Rows [n][d] of queries, keys and factors; d a multiple of kChunkPad.
struct PairRows {
  int64_t n, d;
  const float *q, *k, *factor;
};

/// p[t][s] = scale sum_f q_tf k_sf prod_(s < r <= t) a_rf for s <= t, rows
/// kChunkTokens apart; `walk` [d].
inline void PairScores(const PairRows& x, float scale, float* walk, float* p) {
  const ProductTag d;
  for (int64_t s = 0; s < x.n; ++s) {
    std::copy_n(x.k + s * x.d, x.d, walk);
    for (int64_t t = s; t < x.n; t += 4) {
      // Four tokens share the walk; those beyond the last repeat it.
      const float *q[4], *a[4];
      for (int64_t m = 0; m < 4; ++m) {
        const int64_t at = std::min(t + m, x.n - 1);
        q[m] = x.q + at * x.d;
        a[m] = x.factor + at * x.d;
      }
      ProductVec sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      for (int64_t i = 0; i < x.d; i += kProductLanes) {
        auto w = hn::LoadU(d, walk + i);
        if (t > s) w = hn::Mul(w, hn::LoadU(d, a[0] + i));
        sum[0] = hn::MulAdd(w, hn::LoadU(d, q[0] + i), sum[0]);
        HWY_UNROLL(4)
        for (int m = 1; m < 4; ++m) {
          w = hn::Mul(w, hn::LoadU(d, a[m] + i));
          sum[m] = hn::MulAdd(w, hn::LoadU(d, q[m] + i), sum[m]);
        }
        hn::StoreU(w, d, walk + i);
      }
      HWY_ALIGN float sums[4];
      StoreSums(sum, sums);
      for (int64_t m = 0; m < std::min<int64_t>(4, x.n - t); ++m)
        p[(t + m) * kChunkTokens + s] = scale * sums[m];
    }
  }
}

/// From dp[t][s] = scale dout_t.v_s, s <= t: dq += and dk += of rows, and dlog
/// += of the factors' logarithms.
inline void PairGradients(const PairRows& x, const float* dp, float* dq,
                          float* dk, float* dlog) {
  const ProductTag d;
  for (int64_t i = 0; i < x.d; i += kProductLanes)
    for (int64_t t = 0; t < x.n; ++t) {
      // What query t meets of the keys up to s, as it stands at s.
      ProductVec sum[kChunkTokens / 2];
      auto y = hn::Zero(d);
      for (int64_t s = 0; s <= t; ++s) {
        const auto weight = hn::Set(d, dp[t * kChunkTokens + s]);
        if (s > 0) y = hn::Mul(y, hn::LoadU(d, x.factor + s * x.d + i));
        y = hn::MulAdd(weight, hn::LoadU(d, x.k + s * x.d + i), y);
        sum[s] = y;
      }
      float* const to = dq + t * x.d + i;
      hn::StoreU(hn::Add(y, hn::LoadU(d, to)), d, to);
      auto w = hn::LoadU(d, x.q + t * x.d + i);
      for (int64_t s = t; s >= 0; --s) {
        float* const key = dk + s * x.d + i;
        hn::StoreU(hn::MulAdd(hn::Set(d, dp[t * kChunkTokens + s]), w,
                              hn::LoadU(d, key)),
                   d, key);
        if (s == 0) break;
        w = hn::Mul(w, hn::LoadU(d, x.factor + s * x.d + i));
        float* const log = dlog + s * x.d + i;
        hn::StoreU(hn::MulAdd(w, sum[s - 1], hn::LoadU(d, log)), d, log);
      }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_CHUNK_PAIRS_INL_H_
