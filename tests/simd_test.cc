// The SIMD helpers, on every target the machine has.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "simd/bf16.h"
#include "simd/target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/simd_test.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd/bf16-inl.h"
#include "simd/math-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lengths are multiples of 16.
void Exp2Row(const float* x, size_t n, float* y) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::StoreU(Exp2(d, hn::LoadU(d, x + i)), d, y + i);
}

void ExpRow(const float* x, size_t n, float* y) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::StoreU(Exp(d, hn::LoadU(d, x + i)), d, y + i);
}

void ShortExpRow(const float* x, size_t n, float* y) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::StoreU(ShortExp(d, hn::LoadU(d, x + i)), d, y + i);
}

void TanhRow(const float* x, size_t n, float* y, float* slope) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const TanhAndSlope<decltype(d)> t(d, hn::LoadU(d, x + i));
    hn::StoreU(t.value, d, y + i);
    hn::StoreU(t.slope, d, slope + i);
  }
}

void ToBF16Row(const float* x, size_t n, BF16* y) { ConvertRow(x, n, y); }
void ToFloatRow(const BF16* x, size_t n, float* y) { ConvertRow(x, n, y); }

// There and back through lanes: rows -> columns -> rows, doubled.
void ThereAndBack(const float* rows, int64_t stride, int64_t last, int64_t dim,
                  float* columns, float* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float ones[16];
  std::fill(ones, ones + 16, 1.0f);
  for (int64_t r = 0; r <= last; r += lanes) {
    RowsToColumns(d, rows + r * stride, stride, last - r, dim, 2.0f, columns,
                  lanes);
    ColumnsToRows(d, columns, lanes, ones, dim, out + r * stride, stride,
                  last - r);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(Exp2Row);
HWY_EXPORT(ExpRow);
HWY_EXPORT(ShortExpRow);
HWY_EXPORT(TanhRow);
HWY_EXPORT(ToBF16Row);
HWY_EXPORT(ToFloatRow);
HWY_EXPORT(ThereAndBack);

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class F>
void OnEveryTarget(F check) {
  for (const std::string_view name : TargetNames()) {
    CAPTURE(std::string(name));
    const ScopedTarget scope(name);
    CHECK(ChosenTarget() == name);
    check();
  }
}

// The largest error of y = base^x, relative to the result.
double Worst(const std::vector<float>& x, const std::vector<float>& y,
             double base) {
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::pow(base, static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(y[i] - want) / want);
  }
  return worst;
}

std::vector<float> Ramp(float low, float high, size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i)
    x[i] =
        low + (high - low) * static_cast<float>(i) / static_cast<float>(n - 1);
  return x;
}

TEST_CASE("there is a target, and naming another changes nothing") {
  REQUIRE(!TargetNames().empty());
  const std::string_view before = ChosenTarget();
  {
    const ScopedTarget scope("Z80");
    CHECK(ChosenTarget() == before);
    const ScopedTarget inner(TargetNames().back());
    CHECK(ChosenTarget() == TargetNames().back());
  }
  CHECK(ChosenTarget() == before);
}

TEST_CASE("exp2 of what is not positive is right to an ulp and a half") {
  OnEveryTarget([] {
    const std::vector<float> x = Ramp(-125.9f, 0, 1 << 20);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(Exp2Row)(x.data(), x.size(), y.data());
    CHECK(Worst(x, y, 2) < 1.8e-7);
  });
}

TEST_CASE("exp2 is exact at its ends, keeps NaN, and never overflows") {
  OnEveryTarget([] {
    std::vector<float> x{0,      -0.0f, -1,     -2,     -126,    -kInf,
                         -3e38f, -150,  kNaN,   -0.5f,  -127.5f, -1e9f,
                         -1000,  -128,  1e-40f, -1e-40f};
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(Exp2Row)(x.data(), x.size(), y.data());
    CHECK(y[0] == 1);
    CHECK(y[1] == 1);
    CHECK(y[2] == 0.5f);
    CHECK(y[3] == 0.25f);
    CHECK(y[4] == 0x1p-126f);
    CHECK(y[5] == 0);
    CHECK(y[6] == 0);
    CHECK(y[7] == 0);
    CHECK(std::isnan(y[8]));
    CHECK(y[9] == doctest::Approx(std::sqrt(0.5)));
    for (const int i : {10, 11, 12, 13}) {
      CHECK(y[i] >= 0);
      CHECK(y[i] <= 0x1p-126f);
    }
    CHECK(y[14] == 1);
    CHECK(std::abs(y[15] - 1) <= 0x1p-23f);
  });
}

TEST_CASE("exp of what is not positive is right to an ulp") {
  OnEveryTarget([] {
    const std::vector<float> x = Ramp(-87, 0, 1 << 20);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(ExpRow)(x.data(), x.size(), y.data());
    CHECK(Worst(x, y, std::exp(1.0)) < 1.25e-7);
  });
}

TEST_CASE("the shorter exp is right to a few ulp, and has its limits") {
  OnEveryTarget([] {
    const auto worst = [](float from) {
      const std::vector<float> x = Ramp(from, 0, 1 << 20);
      std::vector<float> y(x.size());
      HWY_DYNAMIC_DISPATCH(ShortExpRow)(x.data(), x.size(), y.data());
      return Worst(x, y, std::exp(1.0));
    };
    CHECK(worst(-30) < 2.4e-7);
    CHECK(worst(-87) < 4e-7);
    std::vector<float> x{0, -0.0f, -kInf, kNaN, -3e38f, 3, 1e30f, kInf};
    x.resize(16);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(ShortExpRow)(x.data(), x.size(), y.data());
    CHECK(y[0] == 1);
    CHECK(y[1] == 1);
    CHECK(y[2] == 0);
    CHECK(std::isnan(y[3]));
    CHECK(y[4] == 0);
  });
}

TEST_CASE("tanh and its slope are right to a few ulp, near 0 as well") {
  OnEveryTarget([] {
    std::vector<float> x = Ramp(-40, 40, 1 << 20);
    for (int n = 0; n < 1 << 18; ++n)  // evenly by size, both signs
      x[n] = std::exp2(-static_cast<float>(n >> 1) / 4096) *
             (n % 2 ? 1.0f : -1.0f);
    std::vector<float> y(x.size()), slope(x.size());
    HWY_DYNAMIC_DISPATCH(TanhRow)(x.data(), x.size(), y.data(), slope.data());
    double worst = 0, steepest = 0;
    for (size_t n = 0; n < x.size(); ++n) {
      const double at = x[n], want = std::tanh(at);
      const double cosine = std::cosh(at);
      if (want != 0)
        worst = std::max(worst, std::abs(y[n] - want) / std::abs(want));
      steepest = std::max(steepest, std::abs(slope[n] * cosine * cosine - 1));
    }
    CHECK(worst < 3e-7);
    CHECK(steepest < 6e-7);

    std::vector<float> ends{0, -0.0f, kInf, -kInf, kNaN, 1e38f, -1e38f, 1e-40f};
    ends.resize(16, 0);
    std::vector<float> to(16), rise(16);
    HWY_DYNAMIC_DISPATCH(TanhRow)(ends.data(), 16, to.data(), rise.data());
    CHECK(to[0] == 0);
    CHECK(std::signbit(to[1]));
    CHECK(to[2] == 1);
    CHECK(to[3] == -1);
    CHECK(std::isnan(to[4]));
    CHECK(to[5] == 1);
    CHECK(to[6] == -1);
    CHECK(rise[0] == 1);
    CHECK(rise[2] == 0);
  });
}

TEST_CASE("exp has the limits of exp") {
  OnEveryTarget([] {
    std::vector<float> x{0,  -0.0f, -kInf,   kNaN, -3e38f,
                         -1, -104,  -110.0f, -95,  -kNaN};
    x.resize(16);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(ExpRow)(x.data(), x.size(), y.data());
    CHECK(y[0] == 1);
    CHECK(y[1] == 1);
    CHECK(y[2] == 0);
    CHECK(std::isnan(y[3]));
    CHECK(y[4] == 0);
    CHECK(y[5] == doctest::Approx(std::exp(-1.0)));
    CHECK(y[6] == 0);
    CHECK(y[7] == 0);
    CHECK(y[8] == doctest::Approx(std::exp(-95.0)).epsilon(1e-3));
    CHECK(std::isnan(y[9]));
  });
}

TEST_CASE("every bf16 survives the way to f32 and back") {
  OnEveryTarget([] {
    std::vector<BF16> all(65536), back(65536);
    for (uint32_t i = 0; i < 65536; ++i) all[i].bits = static_cast<uint16_t>(i);
    std::vector<float> wide(65536);
    HWY_DYNAMIC_DISPATCH(ToFloatRow)(all.data(), all.size(), wide.data());
    HWY_DYNAMIC_DISPATCH(ToBF16Row)(wide.data(), wide.size(), back.data());
    int wrong = 0;
    for (uint32_t i = 0; i < 65536; ++i) {
      wrong += std::bit_cast<uint32_t>(wide[i]) != i << 16;
      wrong += std::bit_cast<uint32_t>(ToFloat(all[i])) != i << 16;
      // A signalling NaN comes back quiet.
      const bool nan = std::isnan(wide[i]);
      const uint32_t want = nan ? i | 0x40 : i;
      wrong += back[i].bits != want;
      wrong += ToBF16(wide[i]).bits != want;
    }
    CHECK(wrong == 0);
  });
}

TEST_CASE("f32 rounds to the nearest bf16, halfway to even") {
  // Each finite bf16 and its neighbour away from zero, and what is between.
  std::vector<float> x;
  std::vector<uint16_t> want;
  for (uint32_t i = 0; i < 65536; ++i) {
    if ((i & 0x7fff) >= 0x7f80) continue;
    for (const uint32_t low : {1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      x.push_back(std::bit_cast<float>(i << 16 | low));
      const bool up = low > 0x8000 || (low == 0x8000 && (i & 1));
      want.push_back(static_cast<uint16_t>(i + (up ? 1 : 0)));
    }
  }
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu}) {
    x.push_back(std::bit_cast<float>(bits));  // NaN
    want.push_back(static_cast<uint16_t>(bits >> 16 | 0x40));
  }
  OnEveryTarget([&] {
    std::vector<BF16> got(x.size());
    HWY_DYNAMIC_DISPATCH(ToBF16Row)(x.data(), x.size(), got.data());
    int wrong = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      wrong += got[i].bits != want[i];
      wrong += ToBF16(x[i]).bits != want[i];
    }
    CHECK(wrong == 0);
  });
}

TEST_CASE("conversion of a row touches nothing beyond its end") {
  OnEveryTarget([] {
    for (size_t n = 0; n < 40; ++n) {
      std::vector<float> x(n, 1.5f), back(n + 1, 7.0f);
      std::vector<BF16> y(n + 1, BF16{0x1234});
      HWY_DYNAMIC_DISPATCH(ToBF16Row)(x.data(), n, y.data());
      HWY_DYNAMIC_DISPATCH(ToFloatRow)(y.data(), n, back.data());
      CHECK(std::count(back.begin(), back.end(), 1.5f) ==
            static_cast<int64_t>(n));
      CHECK(back[n] == 7.0f);
      CHECK(y[n].bits == 0x1234);
    }
  });
}

TEST_CASE("rows become columns and rows again, at every size") {
  OnEveryTarget([] {
    for (const int64_t count : {1, 3, 4, 15, 16, 17, 33})
      for (const int64_t dim : {1, 2, 4, 5, 8, 11, 64}) {
        const int64_t stride = dim + 3;
        std::vector<float> rows(count * stride), out(count * stride, -1.0f);
        for (size_t i = 0; i < rows.size(); ++i)
          rows[i] = static_cast<float>(i);
        alignas(64) std::array<float, 64 * 16> columns;
        HWY_DYNAMIC_DISPATCH(ThereAndBack)
        (rows.data(), stride, count - 1, dim, columns.data(), out.data());
        int wrong = 0;
        for (int64_t r = 0; r < count; ++r)
          for (int64_t c = 0; c < stride; ++c) {
            const int64_t at = r * stride + c;
            wrong += out[at] != (c < dim ? 2 * rows[at] : -1.0f);
          }
        CHECK(wrong == 0);
      }
  });
}

}  // namespace
}  // namespace saccade
#endif  // HWY_ONCE
