#include "row_scale.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "content_free.h"
#include "rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "row_scale.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "simd/unit_rows-inl.h"

#ifndef SACCADE_COMMON_ROW_SCALE_RUN
#define SACCADE_COMMON_ROW_SCALE_RUN
namespace saccade {
// Rows of one head: of `width` elements, `stride` elements apart.
struct RowRun {
  template <class T>
  T *Row(int64_t t) const {
    return static_cast<T *>(at) + t * stride;
  }
  void *at;
  int64_t stride, width;
};
}  // namespace saccade
#endif

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
// Rows of y: those of x times by[t], where null is 1, as unit rows if `unit`.
template <class T>
void ScaleRun(const RowRun &x, const RowRun &y, int64_t rows, const double *by,
              bool unit) {
  for (int64_t t = 0; t < rows; ++t) {
    const T *const from = x.template Row<T>(t);
    double f = by != nullptr ? by[t] : 1;
    if (unit) f *= InverseLength(from, x.width);
    CombineOf(f, from, 0, from, x.width, y.template Row<T>(t));
  }
}

// Of y = g x / |x|, a gradient dy gives
//   dx = g (dy - (x.dy) x / |x|^2) / |x|,   dg = x.dy / |x|.
// dy becomes dx, and g, unless it is null, which is 1, dg.
template <class T>
void ReturnRun(const RowRun &x, const RowRun &dy, int64_t rows, double *g,
               bool unit) {
  for (int64_t t = 0; t < rows; ++t) {
    const T *const at = x.Row<T>(t);
    const double inverse = unit ? InverseLength(at, x.width) : 1;
    const double by = g != nullptr ? g[t] * inverse : inverse;
    const double along =
        ReturnUnit(at, unit ? inverse * inverse : 0, by, x.width, dy.Row<T>(t));
    // Of a row that nobody sees the length may be anything too.
    if (g != nullptr) g[t] = along == 0 ? 0 : along * inverse;
  }
}

void ScaleF32(const RowRun &x, const RowRun &y, int64_t rows, const double *by,
              bool unit) {
  ScaleRun<float>(x, y, rows, by, unit);
}
void ScaleBF16(const RowRun &x, const RowRun &y, int64_t rows, const double *by,
               bool unit) {
  ScaleRun<BF16>(x, y, rows, by, unit);
}
void ReturnF32(const RowRun &x, const RowRun &dy, int64_t rows, double *g,
               bool unit) {
  ReturnRun<float>(x, dy, rows, g, unit);
}
void ReturnBF16(const RowRun &x, const RowRun &dy, int64_t rows, double *g,
                bool unit) {
  ReturnRun<BF16>(x, dy, rows, g, unit);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(ScaleF32);
HWY_EXPORT(ScaleBF16);
HWY_EXPORT(ReturnF32);
HWY_EXPORT(ReturnBF16);

void Scale(DType dtype, const RowRun &x, const RowRun &y, int64_t rows,
           const double *by, bool unit) {
  if (dtype == DType::kF32)
    HWY_DYNAMIC_DISPATCH(ScaleF32)(x, y, rows, by, unit);
  else
    HWY_DYNAMIC_DISPATCH(ScaleBF16)(x, y, rows, by, unit);
}
void Return(DType dtype, const RowRun &x, const RowRun &dy, int64_t rows,
            double *g, bool unit) {
  if (dtype == DType::kF32)
    HWY_DYNAMIC_DISPATCH(ReturnF32)(x, dy, rows, g, unit);
  else
    HWY_DYNAMIC_DISPATCH(ReturnBF16)(x, dy, rows, g, unit);
}

RowRun RunOf(const ConstView &x, int64_t b, int64_t h, int64_t first) {
  return {const_cast<void *>(RowAt(x, b, h, first)), x.row_stride, x.dim};
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
    ForRowRuns(in.q, exec,
               [&](int64_t b, int64_t h, int64_t first, int64_t end) {
                 double by[kRowRun];
                 for (int64_t t = first; t < end; ++t)
                   by[t - first] = Gain(at, t) * Factor(in, b, h, t);
                 Scale(in.q.dtype, RunOf(in.q, b, h, first),
                       RunOf(q, b, h, first), end - first, by, scale_.unit);
               });
    if (!scale_.unit) return;
    ForRowRuns(in.k, exec,
               [&](int64_t b, int64_t h, int64_t first, int64_t end) {
                 Scale(in.k.dtype, RunOf(in.k, b, h, first),
                       RunOf(k, b, h, first), end - first, nullptr, true);
               });
  }

  void Return(const Stretch &at, Bytes, const Inputs &in, const View &,
              const View &, const Gradients &grad, Exec &exec) const override {
    ForRowRuns(in.q, exec,
               [&](int64_t b, int64_t h, int64_t first, int64_t end) {
                 double g[kRowRun];
                 for (int64_t t = first; t < end; ++t)
                   g[t - first] = Gain(at, t) * Factor(in, b, h, t);
                 saccade::Return(in.q.dtype, RunOf(in.q, b, h, first),
                                 RunOf(grad.dq, b, h, first), end - first, g,
                                 scale_.unit);
                 for (int64_t t = first; scale_.factor >= 0 && t < end; ++t)
                   Put(static_cast<float>(Gain(at, t) * g[t - first]),
                       grad.dextra[static_cast<size_t>(scale_.factor)].Row<T>(
                           b, h, t));
               });
    if (!scale_.unit) return;
    ForRowRuns(in.k, exec,
               [&](int64_t b, int64_t h, int64_t first, int64_t end) {
                 saccade::Return(in.k.dtype, RunOf(in.k, b, h, first),
                                 RunOf(grad.dk, b, h, first), end - first,
                                 nullptr, true);
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
