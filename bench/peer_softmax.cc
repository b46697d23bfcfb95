#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/peer_softmax.cc"
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "simd/math-inl.h"

#ifndef SACCADE_BENCH_PEER_SOFTMAX_ONCE
#define SACCADE_BENCH_PEER_SOFTMAX_ONCE

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "bench/peer_softmax.h"

#endif  // SACCADE_BENCH_PEER_SOFTMAX_ONCE

HWY_BEFORE_NAMESPACE();
namespace saccade::bench {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

float Row(float* s, int64_t visible, int64_t n, float scale) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  std::fill(s + visible, s + n, 0.0f);
  if (visible == 0) return 0;
  const int64_t whole = visible / lanes * lanes;
  V tops = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < whole; j += lanes)
    tops = hn::Max(tops, hn::LoadU(d, s + j));
  float top = hn::GetLane(hn::MaxOfLanes(d, tops));
  for (int64_t j = whole; j < visible; ++j) top = std::max(top, s[j]);
  const V factor = hn::Set(d, scale * saccade::HWY_NAMESPACE::kLog2E);
  const V most = hn::Set(d, top);
  V sums = hn::Zero(d);
  for (int64_t j = 0; j < whole; j += lanes) {
    const V w = saccade::HWY_NAMESPACE::Exp2(
        d, hn::Mul(hn::Sub(hn::LoadU(d, s + j), most), factor));
    sums = hn::Add(sums, w);
    hn::StoreU(w, d, s + j);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (int64_t j = whole; j < visible; ++j)
    sum += s[j] = std::exp(scale * (s[j] - top));
  return 1 / sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::bench {

HWY_EXPORT(Row);

float SoftmaxRow(float* scores, int64_t visible, int64_t n, float scale) {
  return HWY_DYNAMIC_DISPATCH(Row)(scores, visible, n, scale);
}

}  // namespace saccade::bench
#endif  // HWY_ONCE
