#include "row_scale.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "row_scale.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "simd/bf16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// In double, as squares of floats pass their range.
using RowTag = hn::ScalableTag<double>;
using RowFloats = hn::Rebind<float, RowTag>;

template <class T>
HWY_INLINE hn::Vec<RowTag> LoadDoubles(const T *x, int64_t left) {
  const RowTag d;
  const RowFloats df;
  if (left >= static_cast<int64_t>(hn::MaxLanes(d)))
    return hn::PromoteTo(d, LoadAs(df, x));
  HWY_ALIGN T some[hn::MaxLanes(RowFloats())] = {};
  std::copy_n(x, left, some);
  return hn::PromoteTo(d, LoadAs(df, some));
}

template <class T>
double InnerOf(const T *x, const T *y, int64_t n) {
  const RowTag d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  for (int64_t i = 0; i < n; i += 2 * kLanes) {
    even =
        hn::MulAdd(LoadDoubles(x + i, n - i), LoadDoubles(y + i, n - i), even);
    if (const int64_t j = i + kLanes; j < n)
      odd =
          hn::MulAdd(LoadDoubles(x + j, n - j), LoadDoubles(y + j, n - j), odd);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

// to = a x + b y; y is not read where b is 0.
template <class T>
void CombineOf(double a, const T *x, double b, const T *y, int64_t n, T *to) {
  const RowTag d;
  const RowFloats df;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < n; i += kLanes) {
    auto z = hn::Mul(hn::Set(d, a), LoadDoubles(x + i, n - i));
    if (b != 0) z = hn::MulAdd(hn::Set(d, b), LoadDoubles(y + i, n - i), z);
    const auto f = hn::DemoteTo(df, z);
    if (n - i >= kLanes) {
      StoreAs(df, f, to + i);
    } else {
      HWY_ALIGN T some[hn::MaxLanes(RowFloats())];
      StoreAs(df, f, some);
      std::copy_n(some, n - i, to + i);
    }
  }
}

double InnerF32(const float *x, const float *y, int64_t n) {
  return InnerOf(x, y, n);
}
double InnerBF16(const BF16 *x, const BF16 *y, int64_t n) {
  return InnerOf(x, y, n);
}
void CombineF32(double a, const float *x, double b, const float *y, int64_t n,
                float *to) {
  CombineOf(a, x, b, y, n, to);
}
void CombineBF16(double a, const BF16 *x, double b, const BF16 *y, int64_t n,
                 BF16 *to) {
  CombineOf(a, x, b, y, n, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(InnerF32);
HWY_EXPORT(InnerBF16);
HWY_EXPORT(CombineF32);
HWY_EXPORT(CombineBF16);

double Inner(const float *x, const float *y, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(InnerF32)(x, y, n);
}
double Inner(const BF16 *x, const BF16 *y, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(InnerBF16)(x, y, n);
}
void Combine(double a, const float *x, double b, const float *y, int64_t n,
             float *to) {
  HWY_DYNAMIC_DISPATCH(CombineF32)(a, x, b, y, n, to);
}
void Combine(double a, const BF16 *x, double b, const BF16 *y, int64_t n,
             BF16 *to) {
  HWY_DYNAMIC_DISPATCH(CombineBF16)(a, x, b, y, n, to);
}

// One over the row's length; 0 for a row of zeros.
template <class T>
double Inverse(const T *x, int64_t n) {
  const double square = Inner(x, x, n);
  return square == 0 ? 0 : 1 / std::sqrt(square);
}

// Calls row(b, h, t) for every row of every head, in tasks of a fixed size.
template <class F>
void ForRows(const ConstView &x, Exec &exec, F row) {
  constexpr int64_t kRows = 256;
  const int64_t blocks = (x.len + kRows - 1) / kRows;
  exec.For(x.batch * x.heads * blocks, [&](int64_t task, int) {
    const int64_t b = task / blocks / x.heads, h = task / blocks % x.heads;
    const int64_t begin = task % blocks * kRows;
    for (int64_t t = begin; t < std::min(x.len, begin + kRows); ++t)
      row(b, h, t);
  });
}

template <class T>
class ScaledRows final : public RowMap {
 public:
  explicit ScaledRows(RowScale scale) : scale_(std::move(scale)) {}

  std::string Describe() const override {
    return scale_.unit ? "unit rows" : "scaled rows";
  }
  bool maps_keys() const override { return scale_.unit; }

  void Apply(const Stretch &at, Bytes, const Inputs &in, Bytes, const View &q,
             const View &k, Exec &exec) const override {
    const auto scale = [](const T *x, double by, int64_t n, T *y) {
      Combine(by, x, 0, x, n, y);
    };
    ForRows(in.q, exec, [&](int64_t b, int64_t h, int64_t t) {
      const T *const x = in.q.Row<T>(b, h, t);
      double by = Gain(at, t) * Factor(in, b, h, t);
      if (scale_.unit) by *= Inverse(x, in.q.dim);
      scale(x, by, in.q.dim, q.Row<T>(b, h, t));
    });
    if (!scale_.unit) return;
    ForRows(in.k, exec, [&](int64_t b, int64_t h, int64_t t) {
      const T *const x = in.k.Row<T>(b, h, t);
      scale(x, Inverse(x, in.k.dim), in.k.dim, k.Row<T>(b, h, t));
    });
  }

  // Of y = g x / |x|, a gradient dy gives
  //   dx = g (dy - (x.dy) x / |x|^2) / |x|,   dg = x.dy / |x|.
  void Return(const Stretch &at, Bytes, const Inputs &in, const View &,
              const View &, const Gradients &grad, Exec &exec) const override {
    ForRows(in.q, exec, [&](int64_t b, int64_t h, int64_t t) {
      const T *const x = in.q.Row<T>(b, h, t);
      T *const dx = grad.dq.Row<T>(b, h, t);
      const double gain = Gain(at, t), factor = Factor(in, b, h, t);
      const double along = Back(x, gain * factor, in.q.dim, dx);
      if (scale_.factor >= 0)
        Put(static_cast<float>(gain * along),
            grad.dextra[static_cast<size_t>(scale_.factor)].Row<T>(b, h, t));
    });
    if (!scale_.unit) return;
    ForRows(in.k, exec, [&](int64_t b, int64_t h, int64_t t) {
      Back(in.k.Row<T>(b, h, t), 1, in.k.dim, grad.dk.Row<T>(b, h, t));
    });
  }

 private:
  double Gain(const Stretch &at, int64_t t) const {
    return scale_.gain ? double{scale_.gain(at.queries.begin + t)} : 1;
  }
  double Factor(const Inputs &in, int64_t b, int64_t h, int64_t t) const {
    if (scale_.factor < 0) return 1;
    return Get(*in.extra[static_cast<size_t>(scale_.factor)].Row<T>(b, h, t));
  }

  // dx in place of dy; returns dg.
  double Back(const T *x, double g, int64_t n, T *dx) const {
    // A row that nobody sees may hold anything.
    if (Inner(dx, dx, n) == 0) return 0;
    const double inverse = scale_.unit ? Inverse(x, n) : 1;
    const double along = Inner(x, dx, n) * inverse;
    const double own = scale_.unit ? along * inverse : 0;
    Combine(g * inverse, dx, -g * inverse * own, x, n, dx);
    return along;
  }

  RowScale scale_;
};

}  // namespace

std::unique_ptr<Plan> MakeScaledPlan(const Problem &problem, RowScale scale,
                                     std::unique_ptr<Plan> inner) {
  std::unique_ptr<const RowMap> map;
  if (problem.dtype == DType::kF32)
    map = std::make_unique<ScaledRows<float>>(std::move(scale));
  else
    map = std::make_unique<ScaledRows<BF16>>(std::move(scale));
  return MakeMappedPlan(problem, std::move(map), std::move(inner));
}

}  // namespace saccade
#endif  // HWY_ONCE
