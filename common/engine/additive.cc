#include "engine/additive.h"

#include <algorithm>
#include <cmath>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/additive.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::additive {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;

// Whole vectors that cover `keys`; blocks are a multiple of any vector.
Interval Cover(Interval keys) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  return {keys.begin / lanes * lanes, (keys.end + lanes - 1) / lanes * lanes};
}

int64_t Step() { return static_cast<int64_t>(hn::Lanes(d)); }

// True for lanes of keys j, j + 1, ... that lie in `keys`.
auto Inside(int64_t j, Interval keys) {
  const V at = hn::Iota(d, static_cast<float>(j));
  return hn::And(hn::Ge(at, hn::Set(d, static_cast<float>(keys.begin))),
                 hn::Lt(at, hn::Set(d, static_cast<float>(keys.end))));
}

void PowersOf(const float* x, int64_t all, float* power) {
  constexpr float kTwoLog2E = 2.88539008f, kFar = 120;
  const auto power_of = [&](auto tag, int64_t i) {
    auto y = hn::Mul(hn::LoadU(tag, x + i), hn::Set(tag, kTwoLog2E));
    y = hn::Min(hn::Set(tag, kFar), hn::Max(hn::Set(tag, -kFar), y));
    hn::StoreU(saccade::HWY_NAMESPACE::Exp2(tag, y), tag, power + i);
  };
  int64_t i = 0;
  for (; i + Step() <= all; i += Step()) power_of(d, i);
  for (; i < all; ++i) power_of(hn::CappedTag<float, 1>(), i);
}

// Lanes whose pairs are too far from 0 for the short way. Each pair goes its
// own way, whatever is beside it, so that results do not depend on keys that a
// query does not see.
HWY_INLINE hn::Mask<D> Far(const QueryRows& q, const KeyBlock& k, int64_t j) {
  return hn::Not(hn::Le(hn::Add(hn::Set(d, *q.most), hn::Load(d, k.most + j)),
                        hn::Set(d, kMostSum)));
}

HWY_INLINE V Tanh(const QueryRows& q, const KeyBlock& k, int64_t u, int64_t j) {
  const V x = hn::Add(hn::Set(d, q.raw[u]), hn::Load(d, k.raw + u * kUnit + j));
  return saccade::HWY_NAMESPACE::TanhAndSlope<D>(d, x).value;
}

// 1 + e^2(q+k) of unit u.
HWY_INLINE V Denominator(const QueryRows& q, const float* power, int64_t u) {
  return hn::MulAdd(hn::Set(d, q.power[u]), hn::Load(d, power + u * kUnit),
                    hn::Set(d, 1.0f));
}

// sum_u w_u / (1 + e^2(q+k)) of kRows queries for the keys whose powers begin
// at `power`.
template <int kRows>
HWY_INLINE void Shares(const Weights& w, const QueryRows& q, const float* power,
                       V (&sum)[kRows]) {
  for (V& x : sum) x = hn::Zero(d);
  for (int64_t u = 0; u < w.units; u += 4) {
    V k[4];
    for (int n = 0; n < 4; ++n) k[n] = hn::Load(d, power + (u + n) * kUnit);
    HWY_UNROLL(2)
    for (int r = 0; r < kRows; ++r) {
      const float* const by = q.power + r * w.units + u;
      V x[4];
      HWY_UNROLL(4)
      for (int n = 0; n < 4; ++n)
        x[n] = hn::MulAdd(hn::Set(d, by[n]), k[n], hn::Set(d, 1.0f));
      const V ab = hn::MulAdd(hn::Set(d, w.w[u]), x[1],
                              hn::Mul(hn::Set(d, w.w[u + 1]), x[0]));
      const V ce = hn::MulAdd(hn::Set(d, w.w[u + 2]), x[3],
                              hn::Mul(hn::Set(d, w.w[u + 3]), x[2]));
      const V under = hn::Mul(x[0], x[1]), other = hn::Mul(x[2], x[3]);
      const V over = hn::MulAdd(ab, other, hn::Mul(ce, under));
      sum[r] = hn::Add(sum[r], hn::Div(over, hn::Mul(under, other)));
    }
  }
}

// Of the keys in one vector.
template <int kRows>
HWY_INLINE void ScoresAt(const Weights& w, const QueryRows& q,
                         const KeyBlock& k, int64_t j, float* s) {
  V sum[kRows];
  Shares<kRows>(w, q, k.power + j, sum);
  for (int r = 0; r < kRows; ++r) {
    V score = hn::NegMulAdd(hn::Set(d, 2.0f), sum[r], hn::Set(d, w.sum));
    const QueryRows row = q.At(r, w.units);
    const auto far = Far(row, k, j);
    if (HWY_UNLIKELY(!hn::AllFalse(d, far))) {
      V exact = hn::Zero(d);
      for (int64_t u = 0; u < w.units; ++u)
        exact = hn::MulAdd(hn::Set(d, w.w[u]), Tanh(row, k, u, j), exact);
      score = hn::IfThenElse(far, exact, score);
    }
    hn::Store(score, d, s + r * kKeys + j);
  }
}

void ScoresOf(const Weights& w, const QueryRows& q, int64_t rows,
              const KeyBlock& k, Interval keys, float* s) {
  const Interval whole = Cover(keys);
  for (int64_t j = whole.begin; j < whole.end; j += Step()) {
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2)
      ScoresAt<2>(w, q.At(r, w.units), k, j, s + r * kKeys);
    for (; r < rows; ++r) ScoresAt<1>(w, q.At(r, w.units), k, j, s + r * kKeys);
  }
}

float LargestOf(const float* s, Interval keys) {
  const Interval whole = Cover(keys);
  const V least = hn::Set(d, -INFINITY);
  V top = least;
  for (int64_t j = whole.begin; j < whole.end; j += Step())
    top = hn::Max(top,
                  hn::IfThenElse(Inside(j, keys), hn::Load(d, s + j), least));
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

float ExponentialsOf(float* s, Interval keys, float top) {
  const Interval whole = Cover(keys);
  V sum = hn::Zero(d);
  for (int64_t j = whole.begin; j < whole.end; j += Step()) {
    const V x = hn::Sub(hn::Load(d, s + j), hn::Set(d, top));
    const V w =
        hn::IfThenElseZero(Inside(j, keys), saccade::HWY_NAMESPACE::Exp(d, x));
    hn::Store(w, d, s + j);
    sum = hn::Add(sum, w);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <int kRows>
HWY_INLINE void AddRows(const float* p, const float* v, Interval keys,
                        int64_t dim, float* out) {
  // Sums start anew every 32 keys: after one large value the error of a single
  // one would grow with the number of keys.
  constexpr int64_t kPart = 32;
  for (int64_t c = 0; c < dim; c += Step())
    for (int64_t first = keys.begin; first < keys.end; first += kPart) {
      const int64_t end = std::min(keys.end, first + kPart);
      V sum[kRows];
      for (V& x : sum) x = hn::Zero(d);
      for (int64_t j = first; j < end; ++j) {
        const V value = hn::Load(d, v + j * dim + c);
        for (int r = 0; r < kRows; ++r)
          sum[r] = hn::MulAdd(hn::Set(d, p[r * kKeys + j]), value, sum[r]);
      }
      for (int r = 0; r < kRows; ++r) {
        float* const to = out + r * dim + c;
        hn::Store(hn::Add(hn::Load(d, to), sum[r]), d, to);
      }
    }
}

void AddValuesTo(const float* p, int64_t rows, const float* v, Interval keys,
                 int64_t dim, float* out) {
  if (rows == kQueries) return AddRows<kQueries>(p, v, keys, dim, out);
  for (int64_t r = 0; r < rows; ++r)
    AddRows<1>(p + r * kKeys, v, keys, dim, out + r * dim);
}

void MultiplyAll(float by, int64_t n, float* x) {
  for (int64_t i = 0; i < n; i += Step())
    hn::Store(hn::Mul(hn::Set(d, by), hn::Load(d, x + i)), d, x + i);
}

void ScoreGradientsOf(const float* p, const float* dout, const float* delta,
                      const float* v, int64_t values, Interval keys,
                      float* ds) {
  const Interval whole = Cover(keys);
  for (int64_t j = whole.begin; j < whole.end; j += Step()) {
    V sum = hn::Set(d, -*delta);
    for (int64_t c = 0; c < values; ++c)
      sum =
          hn::MulAdd(hn::Set(d, dout[c]), hn::Load(d, v + c * kKeys + j), sum);
    hn::Store(
        hn::IfThenElseZero(Inside(j, keys), hn::Mul(hn::Load(d, p + j), sum)),
        d, ds + j);
  }
}

void AddValueGradientsTo(const float* p, const float* dout, Interval keys,
                         int64_t dim, float* dv) {
  for (int64_t j = keys.begin; j < keys.end; ++j)
    for (int64_t c = 0; c < dim; c += Step()) {
      float* const to = dv + j * dim + c;
      hn::Store(
          hn::MulAdd(hn::Set(d, p[j]), hn::Load(d, dout + c), hn::Load(d, to)),
          d, to);
    }
}

// Of one unit: r = 1 / (1 + e^2x) = (1 - tanh x) / 2, of which r (1 - r) is a
// quarter of tanh's slope.
struct UnitSums {
  V slope, share;

  HWY_INLINE UnitSums() : slope(hn::Zero(d)), share(hn::Zero(d)) {}

  HWY_INLINE void Add(V ds, V r, V by, float* dk) {
    const V own = hn::Mul(ds, r);
    const V bent = hn::NegMulAdd(own, r, own);
    share = hn::Add(share, own);
    slope = hn::Add(slope, bent);
    hn::Store(hn::MulAdd(by, bent, hn::Load(d, dk)), d, dk);
  }
  HWY_INLINE void Store(float w, float total, float* dq, double* dw) const {
    *dq += 4 * w * hn::GetLane(hn::SumOfLanes(d, slope));
    *dw += double{total} - 2 * double{hn::GetLane(hn::SumOfLanes(d, share))};
  }
};

void AddUnitsTo(const Weights& w, const QueryRows& q, const KeyBlock& k,
                Interval keys, const float* ds, float* dq, float* dk,
                double* dw) {
  const Interval whole = Cover(keys);
  V all = hn::Zero(d);
  for (int64_t j = whole.begin; j < whole.end; j += Step())
    all = hn::Add(all, hn::Load(d, ds + j));
  const float total = hn::GetLane(hn::SumOfLanes(d, all));
  const V one = hn::Set(d, 1.0f), half = hn::Set(d, 0.5f);
  for (int64_t u = 0; u < w.units; u += 4) {
    UnitSums sums[4];
    V by[4];
    for (int n = 0; n < 4; ++n) by[n] = hn::Set(d, 4 * w.w[u + n]);
    for (int64_t j = whole.begin; j < whole.end; j += Step()) {
      const V own = hn::Load(d, ds + j);
      V r[4];
      // One division for four: of the product of all.
      for (int n = 0; n < 4; ++n) r[n] = Denominator(q, k.power + j, u + n);
      const V ab = hn::Mul(r[0], r[1]), ce = hn::Mul(r[2], r[3]);
      const V inverse = hn::Div(one, hn::Mul(ab, ce));
      const V of_ab = hn::Mul(inverse, ce), of_ce = hn::Mul(inverse, ab);
      std::swap(r[0], r[1]);
      std::swap(r[2], r[3]);
      for (int n = 0; n < 4; ++n) r[n] = hn::Mul(n < 2 ? of_ab : of_ce, r[n]);
      const auto far = Far(q, k, j);
      if (HWY_UNLIKELY(!hn::AllFalse(d, far)))
        for (int n = 0; n < 4; ++n)
          r[n] = hn::IfThenElse(
              far, hn::NegMulAdd(half, Tanh(q, k, u + n, j), half), r[n]);
      // What is hidden may hold anything.
      const auto none = hn::Eq(own, hn::Zero(d));
      for (int n = 0; n < 4; ++n)
        sums[n].Add(own, hn::IfThenZeroElse(none, r[n]), by[n],
                    dk + (u + n) * kUnit + j);
    }
    for (int n = 0; n < 4; ++n)
      sums[n].Store(w.w[u + n], total, dq + u + n, dw + u + n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade::additive
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::additive {
namespace {
HWY_EXPORT(PowersOf);
HWY_EXPORT(ScoresOf);
HWY_EXPORT(LargestOf);
HWY_EXPORT(ExponentialsOf);
HWY_EXPORT(AddValuesTo);
HWY_EXPORT(MultiplyAll);
HWY_EXPORT(ScoreGradientsOf);
HWY_EXPORT(AddValueGradientsTo);
HWY_EXPORT(AddUnitsTo);
}  // namespace

void Powers(const float* x, int64_t n, float* power) {
  HWY_DYNAMIC_DISPATCH(PowersOf)(x, n, power);
}
void Scores(const Weights& w, const QueryRows& q, int64_t rows,
            const KeyBlock& k, Interval keys, float* s) {
  HWY_DYNAMIC_DISPATCH(ScoresOf)(w, q, rows, k, keys, s);
}
float Largest(const float* s, Interval keys) {
  return HWY_DYNAMIC_DISPATCH(LargestOf)(s, keys);
}
float Exponentials(float* s, Interval keys, float top) {
  return HWY_DYNAMIC_DISPATCH(ExponentialsOf)(s, keys, top);
}
void AddValues(const float* p, int64_t rows, const float* v, Interval keys,
               int64_t dim, float* out) {
  HWY_DYNAMIC_DISPATCH(AddValuesTo)(p, rows, v, keys, dim, out);
}
void Multiply(float by, int64_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(MultiplyAll)(by, n, x);
}
void ScoreGradients(const float* p, const float* dout, const float* delta,
                    const float* v, int64_t values, Interval keys, float* ds) {
  HWY_DYNAMIC_DISPATCH(ScoreGradientsOf)(p, dout, delta, v, values, keys, ds);
}
void AddValueGradients(const float* p, const float* dout, Interval keys,
                       int64_t dim, float* dv) {
  HWY_DYNAMIC_DISPATCH(AddValueGradientsTo)(p, dout, keys, dim, dv);
}
void AddUnits(const Weights& w, const QueryRows& q, const KeyBlock& k,
              Interval keys, const float* ds, float* dq, float* dk,
              double* dw) {
  HWY_DYNAMIC_DISPATCH(AddUnitsTo)(w, q, k, keys, ds, dq, dk, dw);
}

}  // namespace saccade::additive
#endif  // HWY_ONCE
