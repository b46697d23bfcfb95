#include "engine/topk.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/topk.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>
#include <limits>

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
    ScoreKeys(ListedRows<T>{keys + j}, q, ld, rows, dim, s + j);
}
void TopKScoresF32(const float* const* keys, int64_t n, const float* q,
                   int64_t ld, int64_t rows, int64_t dim, float* s) {
  TopKScores(keys, n, q, ld, rows, dim, s);
}
void TopKScoresBF16(const BF16* const* keys, int64_t n, const float* q,
                    int64_t ld, int64_t rows, int64_t dim, float* s) {
  TopKScores(keys, n, q, ld, rows, dim, s);
}

using OrderD = hn::RebindToSigned<DecodeD>;

void TopKTakeAbove(const float* s, int64_t begin, int64_t end, int64_t first,
                   topk::Candidates* to) {
  const DecodeD d;
  const DecodeV bound = hn::Set(d, to->least);
  const OrderD di;
  int64_t count = to->count;
  for (int64_t j = begin / kDecodeLanes * kDecodeLanes; j < end;
       j += kDecodeLanes) {
    const DecodeV x = hn::Load(d, s + j);
    auto above = hn::Not(hn::Le(x, bound));
    if (j + kDecodeLanes > end)
      above = hn::And(above, hn::FirstN(d, static_cast<size_t>(end - j)));
    if (j < begin)
      above = hn::AndNot(hn::FirstN(d, static_cast<size_t>(begin - j)), above);
    if (hn::AllFalse(d, above)) continue;
    const auto key = hn::Iota(di, static_cast<int32_t>(first + j));
    hn::CompressStore(key, hn::RebindMask(di, above), di, to->keys + count);
    count += static_cast<int64_t>(
        hn::CompressStore(x, above, d, to->scores + count));
  }
  to->count = count;
}

// How many are not below.
int64_t CountFrom(const int32_t* order, int64_t n, int32_t least) {
  const OrderD d;
  const auto bound = hn::Set(d, least);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < n; j += kDecodeLanes)
    sum =
        hn::Add(sum, hn::VecFromMask(d, hn::Lt(hn::Load(d, order + j), bound)));
  // Each that is below counts -1.
  return PadTo(n, kDecodeLanes) + hn::GetLane(hn::SumOfLanes(d, sum));
}

void TopKKeepBest(int64_t most, topk::Candidates* of) {
  const DecodeD d;
  const OrderD di;
  const int64_t n = of->count;
  if (n <= most) return;
  // Integers in the order of the scores; none behind the last is counted.
  constexpr int32_t kLowest = std::numeric_limits<int32_t>::min();
  for (int64_t j = 0; j < n; j += kDecodeLanes) {
    // -0 becomes 0.
    const DecodeV s = hn::Add(hn::Load(d, of->scores + j), hn::Zero(d));
    const auto bits = hn::BitCast(di, s);
    auto order = hn::Xor(
        bits, hn::And(hn::BroadcastSignBit(bits), hn::Set(di, 0x7FFFFFFF)));
    order = hn::IfThenElse(hn::RebindMask(di, hn::IsNaN(s)),
                           hn::Set(di, 0x7FFFFFFF), order);
    const auto mine = hn::FirstN(di, static_cast<size_t>(n - j));
    hn::Store(hn::IfThenElse(mine, order, hn::Set(di, kLowest)), di,
              of->order + j);
  }
  // The largest bound that `most` reach, bit by bit.
  uint32_t bound = 0;
  int64_t reach = n;
  for (int bit = 31; bit >= 0 && reach != most; --bit) {
    const uint32_t next = bound | uint32_t{1} << bit;
    const int64_t count =
        CountFrom(of->order, n, static_cast<int32_t>(next ^ uint32_t{1} << 31));
    if (count < most) continue;
    bound = next;
    reach = count;
  }
  const auto least = static_cast<int32_t>(bound ^ uint32_t{1} << 31);
  // Of those that are equal to it the last are too many.
  int64_t extra = reach - most, kept = 0, equal = 0;
  if (extra > 0)
    for (int64_t j = 0; j < n; ++j) equal += of->order[j] == least;
  for (int64_t j = 0; j < n; ++j) {
    const int32_t order = of->order[j];
    bool keep = order >= least;
    if (extra > 0 && order == least) keep = equal-- > extra;
    of->scores[kept] = of->scores[j];
    of->keys[kept] = of->keys[j];
    kept += keep;
  }
  of->count = kept;
  const int32_t below = least == kLowest ? least : least - 1;
  const int32_t bits = below ^ (below < 0 ? 0x7FFFFFFF : 0);
  std::memcpy(&of->least, &bits, sizeof bits);
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
  DecodeValues(ListedRows<T>{rows}, n, 1, dim, w, &alpha, out, dim,
               Scores<T>());
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
HWY_EXPORT(TopKKeepBest);
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
void TakeAbove(const float* s, int64_t begin, int64_t end, int64_t first,
               Candidates* to) {
  HWY_DYNAMIC_DISPATCH(TopKTakeAbove)(s, begin, end, first, to);
}
void KeepBest(int64_t most, Candidates* of) {
  HWY_DYNAMIC_DISPATCH(TopKKeepBest)(most, of);
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
