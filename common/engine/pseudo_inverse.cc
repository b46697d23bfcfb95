#include "engine/pseudo_inverse.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/pseudo_inverse.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using DoubleTag = hn::ScalableTag<double>;
constexpr int64_t kDoubles = hn::MaxLanes(DoubleTag());
static_assert(kDoublePad % kDoubles == 0);
constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

struct Args {
  DoubleFactor a;
  const double *b;
  double *c;
  int64_t b_stride, c_stride, inner;
  double factor;
  bool add;
};

template <int kCount, int kVectors>
HWY_NOINLINE void DoubleTile(const Args &x, int64_t i) {
  const DoubleTag d;
  hn::Vec<DoubleTag> sum[kCount][kVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kCount; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  const double *a = x.a.at + i * x.a.row, *b = x.b;
  HWY_UNROLL(1)
  for (int64_t p = 0; p < x.inner; ++p) {
    hn::Vec<DoubleTag> right[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v)
      right[v] = hn::LoadU(d, b + v * kDoubles);
    HWY_UNROLL(8)
    for (int r = 0; r < kCount; ++r) {
      const auto left = hn::Set(d, a[r * x.a.row]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
    b += x.b_stride;
    a += x.a.column;
  }
  const auto factor = hn::Set(d, x.factor);
  HWY_UNROLL(8)
  for (int r = 0; r < kCount; ++r) HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    double *const to = x.c + (i + r) * x.c_stride + v * kDoubles;
    const auto y = hn::Mul(factor, sum[r][v]);
    hn::StoreU(x.add ? hn::Add(hn::LoadU(d, to), y) : y, d, to);
  }
}

template <int kVectors>
void DoubleColumns(const Args &x, int64_t rows) {
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) DoubleTile<kRows, kVectors>(x, i);
  for (; i < rows; ++i) DoubleTile<1, kVectors>(x, i);
}

void DoubleProductOf(int64_t rows, int64_t inner, int64_t columns,
                     const DoubleFactor &a, const double *b, int64_t b_stride,
                     double factor, bool add, double *c, int64_t c_stride) {
  int64_t at = 0;
  const auto args = [&] {
    return Args{a, b + at, c + at, b_stride, c_stride, inner, factor, add};
  };
  for (; at + 2 * kDoubles <= columns; at += 2 * kDoubles)
    DoubleColumns<2>(args(), rows);
  for (; at < columns; at += kDoubles) DoubleColumns<1>(args(), rows);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {
HWY_EXPORT(DoubleProductOf);
}  // namespace

void DoubleProduct(int64_t rows, int64_t inner, int64_t columns,
                   const DoubleFactor &a, const double *b, int64_t b_stride,
                   double factor, bool add, double *c, int64_t c_stride) {
  HWY_DYNAMIC_DISPATCH(DoubleProductOf)
  (rows, inner, columns, a, b, b_stride, factor, add, c, c_stride);
}

void TransposeDoubles(int64_t rows, int64_t columns, const double *from,
                      int64_t from_stride, double *to, int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r)
      to[c * to_stride + r] = from[r * from_stride + c];
    std::fill(to + c * to_stride + rows, to + (c + 1) * to_stride, 0.0);
  }
}

PseudoInverse::PseudoInverse(Arena &arena, int64_t n, int64_t steps)
    : n_(n), steps_(steps), stride_(PadDoubles(n)), size_(n * stride_) {
  a_ = arena.Take<double>(size_);
  z_ = arena.Take<double>((steps + 1) * size_);
  for (double **x :
       {&az_, &t1_, &t2_, &t3_, &da_, &daz_, &dt_, &turned_, &next_})
    *x = arena.Take<double>(size_);
}

void PseudoInverse::Multiply(const DoubleFactor &a, const double *b,
                             double factor, bool add, double *c) const {
  DoubleProduct(n_, n_, stride_, a, b, stride_, factor, add, c, stride_);
}

// Of a's columns, the one with the largest sum.
int64_t PseudoInverse::MostColumn(double *sum) const {
  int64_t most = 0;
  for (int64_t c = 0; c < n_; ++c) {
    double own = 0;
    for (int64_t r = 0; r < n_; ++r) own += a_[r * stride_ + c];
    if (c > 0 && !(own > *sum)) continue;
    *sum = own;
    most = c;
  }
  return most;
}

// a Z and the brackets of a step from Z.
void PseudoInverse::Factors(const double *z) const {
  const auto minus_from = [&](double number, double *x) {
    for (int64_t i = 0; i < n_; ++i) x[i * stride_ + i] += number;
  };
  Multiply(Left(a_), z, 1, false, az_);
  for (int64_t i = 0; i < size_; ++i) t1_[i] = -az_[i];
  minus_from(7, t1_);
  Multiply(Left(az_), t1_, -1, false, t2_);
  minus_from(15, t2_);
  Multiply(Left(az_), t2_, -1, false, t3_);
  minus_from(13, t3_);
}

void PseudoInverse::Run() const {
  double most = 0;
  MostColumn(&most);
  TransposeDoubles(n_, n_, a_, stride_, z_, stride_);
  for (int64_t i = 0; i < size_; ++i) z_[i] /= most;
  for (int64_t step = 0; step < steps_; ++step) {
    Factors(Z(step));
    Multiply(Left(Z(step)), t3_, 0.25, false, z_ + (step + 1) * size_);
  }
}

// dz by Z_(step + 1) becomes that by Z_step; da and daz grow by a's part.
void PseudoInverse::BackStep(int64_t step, double *dz) const {
  const auto turn = [&](const double *x) {
    TransposeDoubles(n_, n_, x, stride_, turned_, stride_);
    return turned_;
  };
  const double *const z = Z(step);
  Factors(z);
  Multiply(Left(dz), turn(t3_), 0.25, false, next_);     // dZ
  Multiply(Left(z).Transposed(), dz, 0.25, false, dt_);  // dt3
  Multiply(Left(dt_), turn(t2_), -1, false, daz_);       // d(a Z)
  Multiply(Left(az_).Transposed(), dt_, -1, false, dz);  // dt2
  Multiply(Left(dz), turn(t1_), -1, true, daz_);
  Multiply(Left(az_).Transposed(), dz, -1, false, dt_);  // dt1
  for (int64_t i = 0; i < size_; ++i) daz_[i] -= dt_[i];
  Multiply(Left(daz_), turn(z), 1, true, da_);
  Multiply(Left(a_).Transposed(), daz_, 1, true, next_);
  std::copy_n(next_, size_, dz);
}

void PseudoInverse::Backward(double *dz) const {
  std::fill_n(da_, size_, 0.0);
  for (int64_t step = steps_ - 1; step >= 0; --step) BackStep(step, dz);
  double most = 0, by_most = 0;
  const int64_t column = MostColumn(&most);
  for (int64_t r = 0; r < n_; ++r)
    for (int64_t c = 0; c < n_; ++c) {
      da_[r * stride_ + c] += dz[c * stride_ + r] / most;
      by_most -= dz[c * stride_ + r] * a_[r * stride_ + c] / (most * most);
    }
  for (int64_t r = 0; r < n_; ++r) da_[r * stride_ + column] += by_most;
}

}  // namespace saccade
#endif  // HWY_ONCE
