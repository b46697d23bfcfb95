#include "engine/lstm.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/lstm.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include "engine/product-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::lstm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using Tanh = saccade::HWY_NAMESPACE::TanhAndSlope<D>;
constexpr D d;
constexpr int64_t kLanes = hn::MaxLanes(D());
constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3;
// Sequences of a register tile, each with a vector of every gate.
constexpr int kTileRows = kManyRegisters ? 4 : 3;

int64_t LanesOf() { return kLanes; }

// The smaller of a sigmoid and what it lacks of 1, negative if the latter: both
// are known to all their digits, which 1 - sigmoid(x) would not be.
HWY_INLINE V NearerSide(V x) {
  const V one = hn::Set(d, 1.0f);
  const V t = saccade::HWY_NAMESPACE::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::CopySign(hn::Div(t, hn::Add(one, t)), hn::Neg(x));
}
HWY_INLINE V Sigmoid(V side) {
  return hn::IfNegativeThenElse(side, hn::Add(hn::Set(d, 1.0f), side), side);
}
HWY_INLINE V SigmoidSlope(V side) {
  const V size = hn::Abs(side);
  return hn::NegMulAdd(size, size, size);
}

// kPanels vectors of units of kRows sequences.
template <int kRows, int kPanels>
HWY_INLINE void StepTile(const Matrix& m, int64_t panel, int64_t row,
                         const Rows& gates, const ConstRows& c_before,
                         const Rows& c, const ConstRows& h_before,
                         const Rows& h) {
  V sum[kRows][kPanels][kGates];
  const float* before[kRows];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    before[r] = h_before[row + r];
    for (int p = 0; p < kPanels; ++p)
      for (int64_t g = 0; g < kGates; ++g) {
        const int64_t unit = (panel + p) * kLanes;
        sum[r][p][g] =
            hn::Add(hn::LoadU(d, gates[row + r] + g * m.padded + unit),
                    hn::LoadU(d, m.bias + g * m.bias_gate + unit));
      }
  }
  const float* u = m.u + panel * m.panel;
  HWY_UNROLL(1)
  for (int64_t k = 0; k < m.width; ++k, u += m.unit) {
    HWY_UNROLL(2)
    for (int p = 0; p < kPanels; ++p) {
      V right[kGates];
      HWY_UNROLL(4)
      for (int64_t g = 0; g < kGates; ++g)
        right[g] = hn::LoadU(d, u + p * m.panel + g * m.gate);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        const V left = hn::Set(d, before[r][k]);
        HWY_UNROLL(4)
        for (int64_t g = 0; g < kGates; ++g)
          sum[r][p][g] = hn::MulAdd(left, right[g], sum[r][p][g]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int p = 0; p < kPanels; ++p) {
      const int64_t unit = (panel + p) * kLanes;
      float* const to = gates[row + r] + unit;
      const V in = NearerSide(sum[r][p][0]), keep = NearerSide(sum[r][p][1]);
      const V out = NearerSide(sum[r][p][3]);
      hn::StoreU(in, d, to);
      hn::StoreU(keep, d, to + m.padded);
      hn::StoreU(sum[r][p][2], d, to + 2 * m.padded);
      hn::StoreU(out, d, to + 3 * m.padded);
      const V fresh = hn::Mul(Sigmoid(in), Tanh(d, sum[r][p][2]).value);
      const V cell = hn::MulAdd(Sigmoid(keep),
                                hn::LoadU(d, c_before[row + r] + unit), fresh);
      hn::StoreU(cell, d, c[row + r] + unit);
      hn::StoreU(hn::Mul(Sigmoid(out), Tanh(d, cell).value), d,
                 h[row + r] + unit);
    }
}

// Tiles of few sequences take two vectors of units: one alone would wait for
// its sums.
void StepOf(const Matrix& m, int64_t rows, Rows gates, ConstRows c_before,
            Rows c, ConstRows h_before, Rows h) {
  const int64_t panels = m.padded / kLanes;
  const auto tile = [&](auto n, auto p, int64_t panel, int64_t row) HWY_ATTR {
    StepTile<n, p>(m, panel, row, gates, c_before, c, h_before, h);
  };
  constexpr std::integral_constant<int, 1> kOne;
  constexpr std::integral_constant<int, 2> kTwo;
  constexpr std::integral_constant<int, kTileRows> kAll;
  if (rows == 1) {
    int64_t panel = 0;
    for (; panel + 2 <= panels; panel += 2) tile(kOne, kTwo, panel, 0);
    if (panel < panels) tile(kOne, kOne, panel, 0);
    return;
  }
  for (int64_t panel = 0; panel < panels; ++panel) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows)
      tile(kAll, kOne, panel, row);
    for (; row + 2 <= rows; row += 2) tile(kTwo, kOne, panel, row);
    if (row < rows) tile(kOne, kOne, panel, row);
  }
}

constexpr int64_t kBackVectors = 4;  // of a panel

int64_t BackPanels(int64_t padded) {
  const int64_t step = kBackVectors * kLanes;
  return (padded + step - 1) / step;
}

void PackBackTo(const float* learned, int64_t width, float* to) {
  const int64_t all = kGates * width;
  for (int64_t p = 0; p < BackPanels(Padded(width)); ++p)
    for (int64_t n = 0; n < all; ++n)
      for (int64_t x = 0; x < kBackVectors * kLanes; ++x, ++to) {
        const int64_t k = p * kBackVectors * kLanes + x;
        *to = k < width ? learned[k * all + n] : 0;
      }
}

// A panel of dh = dz u of kRows sequences.
template <int kRows>
HWY_INLINE void BackTile(const float* packed, int64_t panel, int64_t width,
                         int64_t row, const Rows& dz, const Rows& dh) {
  const int64_t padded = Padded(width);
  V sum[kRows][kBackVectors];
  for (auto& of_row : sum)
    for (V& x : of_row) x = hn::Zero(d);
  const float* u = packed + panel * kGates * width * kBackVectors * kLanes;
  for (int64_t g = 0; g < kGates; ++g) {
    const float* from[kRows];
    for (int r = 0; r < kRows; ++r) from[r] = dz[row + r] + g * padded;
    HWY_UNROLL(1)
    for (int64_t n = 0; n < width; ++n, u += kBackVectors * kLanes) {
      V right[kBackVectors];
      HWY_UNROLL(4)
      for (int64_t v = 0; v < kBackVectors; ++v)
        right[v] = hn::LoadU(d, u + v * kLanes);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        const V left = hn::Set(d, from[r][n]);
        HWY_UNROLL(4)
        for (int64_t v = 0; v < kBackVectors; ++v)
          sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int64_t v = 0; v < kBackVectors; ++v) {
      const int64_t k = (panel * kBackVectors + v) * kLanes;
      if (k < padded) hn::StoreU(sum[r][v], d, dh[row + r] + k);
    }
}

void StepBackOf(const float* packed, int64_t width, int64_t rows,
                ConstRows gates, ConstRows c_before, ConstRows c, Rows dh,
                Rows dc, Rows dz) {
  const int64_t padded = Padded(width);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t n = 0; n < padded; n += kLanes) {
      const float* const from = gates[r] + n;
      float* const to = dz[r] + n;
      const V in = hn::LoadU(d, from), keep = hn::LoadU(d, from + padded);
      const V out = hn::LoadU(d, from + 3 * padded);
      const Tanh fresh(d, hn::LoadU(d, from + 2 * padded));
      const Tanh cell(d, hn::LoadU(d, c[r] + n));
      const V of_h = hn::LoadU(d, dh[r] + n);
      const V of_c = hn::MulAdd(hn::Mul(of_h, Sigmoid(out)), cell.slope,
                                hn::LoadU(d, dc[r] + n));
      const V before = hn::LoadU(d, c_before[r] + n);
      hn::StoreU(hn::Mul(hn::Mul(of_c, fresh.value), SigmoidSlope(in)), d, to);
      hn::StoreU(hn::Mul(hn::Mul(of_c, before), SigmoidSlope(keep)), d,
                 to + padded);
      hn::StoreU(hn::Mul(hn::Mul(of_c, Sigmoid(in)), fresh.slope), d,
                 to + 2 * padded);
      hn::StoreU(hn::Mul(hn::Mul(of_h, cell.value), SigmoidSlope(out)), d,
                 to + 3 * padded);
      hn::StoreU(hn::Mul(of_c, Sigmoid(keep)), d, dc[r] + n);
    }
  for (int64_t panel = 0; panel < BackPanels(padded); ++panel) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows)
      BackTile<kTileRows>(packed, panel, width, row, dz, dh);
    for (; row < rows; ++row) BackTile<1>(packed, panel, width, row, dz, dh);
  }
}

void AddOuterOf(const float* h, const float* dz, int64_t tokens, int64_t width,
                int64_t dz_stride, int64_t columns, float* sum) {
  using saccade::HWY_NAMESPACE::Factor;
  using saccade::HWY_NAMESPACE::Into;
  saccade::HWY_NAMESPACE::Product(width, tokens, columns,
                                  Factor{h, 1, Padded(width)}, dz, dz_stride,
                                  sum, columns, Into::kAdd);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade::lstm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::lstm {
namespace {
HWY_EXPORT(LanesOf);
HWY_EXPORT(StepOf);
HWY_EXPORT(PackBackTo);
HWY_EXPORT(StepBackOf);
HWY_EXPORT(AddOuterOf);
}  // namespace

int64_t PackedFloats(int64_t width) {
  return kGates * Padded(width) * (width + 1);
}

void Pack(const float* learned, int64_t width, float* to) {
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(LanesOf)();
  const int64_t padded = Padded(width);
  const auto copy = [&](const float* from, int64_t unit, int64_t n) {
    const int64_t have = std::clamp<int64_t>(width - unit, 0, n);
    if (have > 0) std::copy_n(from + unit, have, to);
    std::fill_n(to + have, n - have, 0.0f);
    to += n;
  };
  for (int64_t unit = 0; unit < padded; unit += lanes)
    for (int64_t k = 0; k < width; ++k)
      for (int64_t g = 0; g < kGates; ++g)
        copy(learned + (k * kGates + g) * width, unit, lanes);
  for (int64_t g = 0; g < kGates; ++g)
    copy(learned + (width * kGates + g) * width, 0, padded);
}

Matrix Packed(const float* pack, int64_t width) {
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(LanesOf)();
  const int64_t padded = Padded(width);
  return {.u = pack,
          .panel = width * kGates * lanes,
          .unit = kGates * lanes,
          .gate = lanes,
          .bias = pack + kGates * padded * width,
          .bias_gate = padded,
          .width = width,
          .padded = padded};
}

Matrix InPlace(const float* learned, int64_t width) {
  return {.u = learned,
          .panel = HWY_DYNAMIC_DISPATCH(LanesOf)(),
          .unit = kGates * width,
          .gate = width,
          .bias = learned + width * kGates * width,
          .bias_gate = width,
          .width = width,
          .padded = width};
}

void Step(const Matrix& m, int64_t rows, Rows gates, ConstRows c_before, Rows c,
          ConstRows h_before, Rows h) {
  HWY_DYNAMIC_DISPATCH(StepOf)(m, rows, gates, c_before, c, h_before, h);
}

// Enough for any target: panels are at most 64 wide.
int64_t PackedBackFloats(int64_t width) {
  return kGates * width * ((width + 63) / 64 * 64);
}

void PackBack(const float* learned, int64_t width, float* to) {
  HWY_DYNAMIC_DISPATCH(PackBackTo)(learned, width, to);
}

void StepBack(const float* packed, int64_t width, int64_t rows, ConstRows gates,
              ConstRows c_before, ConstRows c, Rows dh, Rows dc, Rows dz) {
  HWY_DYNAMIC_DISPATCH(StepBackOf)
  (packed, width, rows, gates, c_before, c, dh, dc, dz);
}

void AddOuter(const float* h, const float* dz, int64_t tokens, int64_t width,
              int64_t dz_stride, int64_t columns, float* sum) {
  HWY_DYNAMIC_DISPATCH(AddOuterOf)
  (h, dz, tokens, width, dz_stride, columns, sum);
}

}  // namespace saccade::lstm
#endif  // HWY_ONCE
