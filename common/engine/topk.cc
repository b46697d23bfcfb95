#include "engine/topk.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/topk.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/tile_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

int64_t TopKLanes() { return kDecodeLanes; }

template <class T>
void TopKScores(const T* const* keys, int64_t n, const float* q, int64_t ld,
                int64_t rows, int64_t dim, float* s) {
  for (int64_t j = 0; j < n; j += kDotKeys)
    ScoreKeys(keys + j, q, ld, rows, dim, s + j);
}
void TopKScoresF32(const float* const* keys, int64_t n, const float* q,
                   int64_t ld, int64_t rows, int64_t dim, float* s) {
  TopKScores(keys, n, q, ld, rows, dim, s);
}
void TopKScoresBF16(const BF16* const* keys, int64_t n, const float* q,
                    int64_t ld, int64_t rows, int64_t dim, float* s) {
  TopKScores(keys, n, q, ld, rows, dim, s);
}

int64_t TopKTakeAbove(const float* s, int64_t begin, int64_t end, float least,
                      int64_t first, Candidate* candidates, int64_t count) {
  const DecodeD d;
  const DecodeV bound = hn::Set(d, least);
  for (int64_t j = begin / kDecodeLanes * kDecodeLanes; j < end;
       j += kDecodeLanes) {
    const auto above = hn::Not(hn::Le(hn::Load(d, s + j), bound));
    if (hn::AllFalse(d, above)) continue;
    uint8_t bytes[8] = {};
    hn::StoreMaskBits(d, above, bytes);
    uint32_t bits = bytes[0] | static_cast<uint32_t>(bytes[1]) << 8;
    for (; bits != 0; bits &= bits - 1) {
      const int64_t at = j + __builtin_ctz(bits);
      if (at < begin || at >= end) continue;
      candidates[count++] = {s[at], static_cast<int32_t>(first + at)};
    }
  }
  return count;
}

float TopKExponentials(float* s, int64_t n, float top) {
  const DecodeD d;
  DecodeV sum = hn::Zero(d);
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    const auto mine = hn::FirstN(d, static_cast<size_t>(n - j));
    const DecodeV w = hn::IfThenElseZero(
        mine, saccade::HWY_NAMESPACE::Exp(
                  d, hn::Sub(hn::Load(d, s + j), hn::Set(d, top))));
    hn::Store(w, d, s + j);
    sum = hn::Add(sum, w);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class T>
void TopKSum(const T* const* rows, const float* w, int64_t n, int64_t dim,
             float* out) {
  const float alpha = 0;
  std::fill_n(out, PadTo(dim, kDecodeLanes), 0.0f);
  DecodeValues(rows, n, 1, dim, w, &alpha, out, dim, Scores<T>());
}
void TopKSumF32(const float* const* rows, const float* w, int64_t n,
                int64_t dim, float* out) {
  TopKSum(rows, w, n, dim, out);
}
void TopKSumBF16(const BF16* const* rows, const float* w, int64_t n,
                 int64_t dim, float* out) {
  TopKSum(rows, w, n, dim, out);
}

void TopKAddScaled(float a, const float* x, int64_t dim, float* y) {
  const DecodeD d;
  const DecodeV by = hn::Set(d, a);
  for (int64_t c = 0; c < dim; c += kDecodeLanes)
    hn::Store(hn::MulAdd(by, hn::Load(d, x + c), hn::Load(d, y + c)), d, y + c);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::topk {
namespace {
HWY_EXPORT(TopKLanes);
HWY_EXPORT(TopKScoresF32);
HWY_EXPORT(TopKScoresBF16);
HWY_EXPORT(TopKTakeAbove);
HWY_EXPORT(TopKExponentials);
HWY_EXPORT(TopKSumF32);
HWY_EXPORT(TopKSumBF16);
HWY_EXPORT(TopKAddScaled);
}  // namespace

int64_t Padded(int64_t dim) {
  return PadTo(dim, HWY_DYNAMIC_DISPATCH(TopKLanes)());
}

template <>
void Scores(const float* const* keys, int64_t n, const float* q, int64_t ld,
            int64_t rows, int64_t dim, float* s) {
  HWY_DYNAMIC_DISPATCH(TopKScoresF32)(keys, n, q, ld, rows, dim, s);
}
template <>
void Scores(const BF16* const* keys, int64_t n, const float* q, int64_t ld,
            int64_t rows, int64_t dim, float* s) {
  HWY_DYNAMIC_DISPATCH(TopKScoresBF16)(keys, n, q, ld, rows, dim, s);
}
int64_t TakeAbove(const float* s, int64_t begin, int64_t end, float least,
                  int64_t first, Candidate* candidates, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(TopKTakeAbove)(s, begin, end, least, first,
                                             candidates, count);
}
float Exponentials(float* s, int64_t n, float top) {
  return HWY_DYNAMIC_DISPATCH(TopKExponentials)(s, n, top);
}
template <>
void WeightedSum(const float* const* rows, const float* w, int64_t n,
                 int64_t dim, float* out) {
  HWY_DYNAMIC_DISPATCH(TopKSumF32)(rows, w, n, dim, out);
}
template <>
void WeightedSum(const BF16* const* rows, const float* w, int64_t n,
                 int64_t dim, float* out) {
  HWY_DYNAMIC_DISPATCH(TopKSumBF16)(rows, w, n, dim, out);
}
void AddScaled(float a, const float* x, int64_t dim, float* y) {
  HWY_DYNAMIC_DISPATCH(TopKAddScaled)(a, x, dim, y);
}

}  // namespace saccade::topk
#endif  // HWY_ONCE
