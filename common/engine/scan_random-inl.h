// Positive random features: exponents by a product with a table of rows, and
// back. See SetRandomFeatures() in scan.h.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_RANDOM_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_RANDOM_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_RANDOM_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_RANDOM_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "engine/scan_frame-inl.h"
#include "engine/scan_passes.h"
#include "engine/scan_rows-inl.h"
#include "engine/scan_run-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

// to [count, columns] = from [count, rows] table, by the kernel that reads a
// state: `table` holds its halves, for both of the state's levels.
inline void ReadTable(const std::vector<ScanRandom::Line>& table, int64_t rows,
                      int64_t columns, const ScanRows<float>& from,
                      int64_t count, const ScanRows<float>& to,
                      const ScanScratch& scratch) {
  Arena none;
  ScanState state(none, 0, 0, false);
  state.total = state.recent =
      const_cast<float*>(table.data()->x);  // only read
  ScanRun run;
  run.count = count;
  run.rows = rows;
  run.columns = columns;
  run.panel_end = ScanPanels(columns);
  run.readers = 1;
  run.query = ReadOnly(from);
  run.out = to;
  ApplyRun<false>(run, scratch, state);
}

/// Rows of exponents l, -infinity beyond them, and each one's largest.
inline void RandomExponents(const ScanSpec& spec, const ScanRandomRows& rows,
                            int64_t count, const ScanRows<float>& to,
                            const ScanScratch& scratch) {
  const ScanTag d;
  const int64_t m = ScanFeatures(spec), end = ScanRoundUp(m, kScanPad);
  ReadTable(spec.random->to_features, spec.qk_dim, m, rows.elements, count, to,
            scratch);
  for (int64_t t = 0; t < count; ++t) {
    const float* const x = rows.elements.At(0, t);
    auto square = hn::Zero(d);
    for (int64_t i = 0; i < ScanRoundUp(spec.qk_dim, kScanPad);
         i += kScanLanes) {
      const auto v = hn::LoadU(d, x + i);
      square = hn::MulAdd(v, v, square);
    }
    const auto half =
        hn::Mul(hn::SumOfLanes(d, square), hn::Set(d, spec.random->scale / 2));
    float* const row = to.At(0, t);
    auto most = hn::Set(d, -std::numeric_limits<float>::infinity());
    std::fill(row + m, row + end, -std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < end; i += kScanLanes) {
      const auto l = hn::Sub(hn::LoadU(d, row + i), half);
      most = hn::Max(l, most);
      hn::StoreU(l, d, row + i);
    }
    most = hn::MaxOfLanes(d, most);
    for (int64_t i = 0; i < kScanPad; i += kScanLanes)
      hn::StoreU(most, d, rows.most.At(0, t) + i);
  }
}

/// row = e^(l - frame) + beside e^(most - frame), m elements; zeros after them.
inline void RandomPowers(const ScanSpec& spec, float most, float frame,
                         float* row) {
  const ScanTag d;
  const int64_t m = ScanFeatures(spec);
  const auto at = hn::Set(d, frame);
  const auto beside = hn::Mul(hn::Set(d, spec.random->beside),
                              Exp(d, hn::Sub(hn::Set(d, most), at)));
  for (int64_t i = 0; i < ScanRoundUp(m, kScanPad); i += kScanLanes) {
    auto x = hn::Add(Exp(d, hn::Sub(hn::LoadU(d, row + i), at)), beside);
    if (i + kScanLanes > m)
      x = hn::IfThenElseZero(
          hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, m - i))), x);
    hn::StoreU(x, d, row + i);
  }
}

/// A row's gradient by features becomes that by exponents, in place; returns
/// its sum. The largest feature tells e^most, of which all have a share.
inline float RandomSlopes(const ScanSpec& spec, const float* feature,
                          float* gradient) {
  const ScanTag d;
  const int64_t m = ScanFeatures(spec), end = ScanRoundUp(m, kScanPad);
  auto most = hn::Zero(d), all = hn::Zero(d), sum = hn::Zero(d);
  for (int64_t i = 0; i < end; i += kScanLanes)
    most = hn::Max(hn::LoadU(d, feature + i), most);
  most = hn::MaxOfLanes(d, most);
  const float share = spec.random->beside / (1 + spec.random->beside);
  const auto beside = hn::Mul(most, hn::Set(d, share));
  int64_t largest = 0;
  for (int64_t i = 0; i < end; i += kScanLanes) {
    const auto phi = hn::LoadU(d, feature + i);
    auto g = hn::LoadU(d, gradient + i);
    if (i + kScanLanes > m)
      g = hn::IfThenElseZero(
          hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, m - i))), g);
    const intptr_t found = hn::FindFirstTrue(d, hn::Eq(phi, most));
    if (found >= 0) largest = i + found;
    all = hn::Add(all, g);
    const auto slope = hn::Mul(g, hn::Sub(phi, beside));
    sum = hn::Add(sum, slope);
    hn::StoreU(slope, d, gradient + i);
  }
  const float own = hn::GetLane(beside) * hn::GetLane(hn::SumOfLanes(d, all));
  gradient[largest] += own;
  return hn::GetLane(hn::SumOfLanes(d, sum)) + own;
}

/// to = from - factor x, n elements.
template <class T>
inline void StoreMinus(const float* from, const T* x, float factor, int64_t n,
                       T* to) {
  const ScanTag d;
  const auto f = hn::Set(d, factor);
  for (int64_t i = 0; i < n; i += kScanLanes) {
    const auto own =
        i + kScanLanes <= n ? LoadAs(d, x + i) : LoadTail(d, x + i, n - i);
    const auto y = hn::NegMulAdd(f, own, hn::LoadU(d, from + i));
    if (i + kScanLanes <= n)
      StoreAs(d, y, to + i);
    else
      StoreTail(d, y, to + i, n - i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_RANDOM_INL_H_
