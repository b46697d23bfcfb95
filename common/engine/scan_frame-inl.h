// Features that are powers of e, and sums of them, where powers could be too
// large or too small for a float: they are held relative to a frame, exponents
// that only move up.
//
// A frame moves when an exponent passes it by more than kFrameSlack, and then
// to that exponent; what was summed before is multiplied by e^(old - new), so
// that at the next move no more than e^-kFrameSlack of it counts. A frame knows
// only what was before it: the end of a sequence says nothing to its beginning.
// Between moves nothing is done, and moves are rare: the first token makes one,
// and there are no more than the range of exponents over the slack.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_FRAME_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_FRAME_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_FRAME_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_FRAME_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "engine/scan_passes.h"
#include "engine/scan_run-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

constexpr float kFrameSlack = 8;

/// Moves a frame to a row of exponents, where they pass it. `factor` receives
/// e^(old - new). True when something moved.
inline bool MoveFrame(const float* row, const ScanFrame& frame, float* factor) {
  const ScanTag d;
  const auto slack = hn::Set(d, kFrameSlack);
  bool moved = false;
  for (int64_t i = 0; i < frame.width; i += kScanLanes) {
    const auto old = hn::LoadU(d, frame.at + i), x = hn::LoadU(d, row + i);
    const auto passes = hn::Gt(x, hn::Add(old, slack));
    const auto now = hn::IfThenElse(passes, x, old);
    hn::StoreU(
        hn::IfThenElse(passes, Exp(d, hn::Sub(old, now)), hn::Set(d, 1.0f)), d,
        factor + i);
    hn::StoreU(now, d, frame.at + i);
    moved |= !hn::AllFalse(d, passes);
  }
  return moved;
}

/// How many of `count` rows of exponents from row `first` on the frame holds.
inline int64_t RowsInFrame(const ScanRows<float>& rows, int64_t first,
                           int64_t count, const ScanFrame& frame) {
  const ScanTag d;
  const auto slack = hn::Set(d, kFrameSlack);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < frame.width; i += kScanLanes) {
      const auto most = hn::Add(hn::LoadU(d, frame.at + i), slack);
      if (!hn::AllFalse(d,
                        hn::Gt(hn::LoadU(d, rows.At(0, first + t) + i), most)))
        return t;
    }
  return count;
}

/// Multiplies row i of a state by factor[i].
inline void FadeRows(const float* factor, int64_t rows, int64_t panels,
                     const ScanState& state) {
  const ScanTag d;
  const auto fade = [&](float* x, hn::Vec<ScanTag> f) HWY_ATTR {
    hn::Store(hn::Mul(f, hn::Load(d, x)), d, x);
  };
  for (int64_t c = 0; c < panels * kScanPanel; c += kScanLine)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t v = 0; v < kScanLine; v += kScanLanes) {
        const int64_t at = ScanAt(rows, i, c + v);
        fade(state.total + at, hn::Set(d, factor[i]));
        fade(state.recent + at, hn::Set(d, factor[i]));
      }
  for (int64_t i = 0; i < state.z_floats; i += kScanLanes) {
    fade(state.z_total + i, hn::LoadU(d, factor + i));
    fade(state.z_recent + i, hn::LoadU(d, factor + i));
  }
}

/// Multiplies column c of a state by factor[c]; column 0 is the first panel's.
inline void FadeColumns(const float* factor, int64_t rows, int64_t panels,
                        const ScanState& state) {
  const ScanTag d;
  for (int64_t c = 0; c < panels * kScanPanel; c += kScanLanes) {
    const auto f = hn::LoadU(d, factor + c);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = ScanAt(rows, i, c);
      for (float* const x : {state.total + at, state.recent + at})
        hn::Store(hn::Mul(f, hn::Load(d, x)), d, x);
    }
  }
}

/// The frame's sums, for features that are divided by them one by one.
inline void FadeSums(const float* factor, const ScanFrame& frame) {
  const ScanTag d;
  for (int64_t i = 0; i < frame.sums; i += kScanLanes)
    for (float* const x : {frame.sum + i, frame.lost + i})
      hn::StoreU(hn::Mul(hn::LoadU(d, factor + i), hn::LoadU(d, x)), d, x);
}

/// sum += row, and what rounding lost of it (Knuth's exact sum).
inline void AddToSums(const float* row, const ScanFrame& frame) {
  const ScanTag d;
  for (int64_t i = 0; i < frame.sums; i += kScanLanes) {
    const auto old = hn::LoadU(d, frame.sum + i), add = hn::LoadU(d, row + i);
    const auto sum = hn::Add(old, add), part = hn::Sub(sum, old);
    const auto lost =
        hn::Add(hn::Sub(old, hn::Sub(sum, part)), hn::Sub(add, part));
    hn::StoreU(sum, d, frame.sum + i);
    hn::StoreU(hn::Add(lost, hn::LoadU(d, frame.lost + i)), d, frame.lost + i);
  }
}

/// to = row / sums, zeros beyond the sums' own n.
inline void DivideBySums(const float* row, int64_t n, const ScanFrame& frame,
                         float* to) {
  const ScanTag d;
  for (int64_t i = 0; i < frame.sums; i += kScanLanes) {
    const auto sum =
        hn::Add(hn::LoadU(d, frame.sum + i), hn::LoadU(d, frame.lost + i));
    const auto ratio = hn::Div(hn::LoadU(d, row + i), sum);
    hn::StoreU(i + kScanLanes <= n
                   ? ratio
                   : hn::IfThenElseZero(
                         hn::FirstN(d, static_cast<size_t>(
                                           std::max<int64_t>(0, n - i))),
                         ratio),
               d, to + i);
  }
}

/// row -= sums.
inline void SubtractSums(const ScanFrame& frame, float* row) {
  const ScanTag d;
  for (int64_t i = 0; i < frame.sums; i += kScanLanes) {
    const auto sum =
        hn::Add(hn::LoadU(d, frame.sum + i), hn::LoadU(d, frame.lost + i));
    hn::StoreU(hn::Sub(hn::LoadU(d, row + i), sum), d, row + i);
  }
}

/// to = a b, n floats, a multiple of kScanPad.
inline void Multiply(const float* a, const float* b, int64_t n, float* to) {
  const ScanTag d;
  for (int64_t i = 0; i < n; i += kScanLanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, to + i);
}

/// row = e^(row - frame), n elements; zeros after them.
inline void PowersInFrame(int64_t n, const ScanFrame& frame, float* row) {
  const ScanTag d;
  for (int64_t i = 0; i < ScanRoundUp(n, kScanPad); i += kScanLanes) {
    auto x = Exp(d, hn::Sub(hn::LoadU(d, row + i), hn::LoadU(d, frame.at + i)));
    if (i + kScanLanes > n)
      x = hn::IfThenElseZero(
          hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, n - i))), x);
    hn::StoreU(x, d, row + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_FRAME_INL_H_
