// The backward pass of a block of keys in the CPU's bf16 dot product, where
// there is one: AVX3 with one more instruction set, as tile_forward_pairs.cc.
//
//   product       pairs of       scalars                vectors
//   S, dP         columns        rows of q, dO          K^T, V^T
//   dV, dK        queries        P, dS, interleaved     dO, q, interleaved
//   dQ            keys           rows of dS             K, interleaved
//
// P and dS are made in f32 and rounded once; all sums are f32.
#include "engine/tile_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_backward_pairs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Before all that has kernels.
#include "simd/bf16_target-inl.h"
// These have.
#include "engine/tile_backward_run-inl.h"
#include "simd/pairs-inl.h"
#include "simd/transpose-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace saccade::backward {
namespace HWY_NAMESPACE {
namespace {

// The arithmetic (see tile_backward-inl.h).
struct Pairs {
  using In = BF16;
  static constexpr int kTogether = 2;
  static constexpr bool kFolds = false;  // it would round K and V
  static constexpr ptrdiff_t kDSRow = kPairRow;

  static HWY_INLINE V Broadcast(const BF16* row, ptrdiff_t step) {
    return simd::BroadcastPair(row + 2 * step);
  }
  static HWY_INLINE V MulAdd(V y, V x, V acc) {
    return simd::DotPairs(y, x, acc);
  }

  // Where they stand, or a copy, an odd width filled up with a zero, in the
  // second half of `space`, which has room for as many floats. Strides are
  // even.
  static Rows<const BF16> Read(const AnyRows& rows, int n, int64_t dim,
                               float* space) {
    const auto* const from = static_cast<const BF16*>(rows.data);
    if (dim % 2 == 0 && rows.stride % 2 == 0) return {from, rows.stride};
    const int64_t even = RoundUp(dim, 2);
    auto* const to =
        reinterpret_cast<BF16*>(space + kQueries / 2 * RoundUp(dim, kStrip));
    for (int r = 0; r < n; ++r) {
      to[r * even + even - 1] = BF16{};
      std::memcpy(to + r * even, from + r * rows.stride, dim * sizeof(BF16));
    }
    return {to, even};
  }
  // Interleaved, in the first half.
  static Rows<const float> Steps(Rows<const BF16> rows, int n, int64_t dim,
                                 float* space) {
    const int64_t wide = RoundUp(dim, kStrip);
    simd::PackPairs(rows.data, rows.stride, n, dim, space, wide);
    for (int r = 0; r < (n + 1) / 2 && dim < wide; ++r)
      std::fill(space + r * wide + dim, space + (r + 1) * wide, 0.0f);
    return {space, wide};
  }

  // t[panel][pair of columns][key of panel], as in f32 but for the factor.
  static void Transpose(Rows<const BF16> rows, int n, int64_t dim, float,
                        float* t) {
    const int64_t steps = (dim + 1) / 2;
    const auto same = [](auto bits) HWY_ATTR { return bits; };
    for (int key = 0; key < n; key += kLanes)
      simd::RowsToColumns(d, reinterpret_cast<const float*>(rows[key]),
                          rows.stride / 2, n - 1 - key, steps, same,
                          t + key / kPanel * steps * kPanel + key % kPanel,
                          kPanel);
  }

  static void SetScores(const SlotScratch& s, BlockOf<Pairs>& b) {
    b.p_steps = s.p_pairs;
    b.ds_steps = s.ds_pairs;
    b.ds_rows = s.ds_rows;
  }

  static void Round(const BlockOf<Pairs>& b, const Cells& cells) {
    for (int s = 0; s * kStrip < b.n_queries; ++s)
      ForRuns(cells.scores[s], [&](int from, int to) {
        const int end = std::min((s + 1) * kStrip, b.n_queries);
        for (int r = s * kStrip; r < end; r += 2)
          RoundTwo(b, r, r + 1 < end, from * kStrip, to * kStrip);
      });
  }

  static float Rounded(float x) { return ToFloat(ToBF16(x)); }

 private:
  // Queries r and, when `both`, r + 1 against keys first .. end - 1.
  static HWY_INLINE void RoundTwo(const BlockOf<Pairs>& b, int r, bool both,
                                  int first, int end) {
    const hn::Half<D> dh;
    const float *const p = b.p + r * kScoreRow, *const ds =
                                                    b.ds + r * kScoreRow;
    auto* const p_to = b.p_steps + r / 2 * kScoreRow;
    auto* const ds_to = b.ds_steps + r / 2 * kScoreRow;
    auto* const rows = b.ds_rows + r * kDSRow;
    const auto second = [&](const float* at) HWY_ATTR {
      return both ? hn::Load(d, at + kScoreRow) : hn::Zero(d);
    };
    for (int key = first; key < end; key += kLanes) {
      hn::Store(simd::RoundToPairs(hn::Load(d, p + key), second(p + key)), d,
                p_to + key);
      const V two = simd::RoundToBF16(hn::Load(d, ds + key), second(ds + key));
      hn::Store(simd::Interleave(two), d, ds_to + key);
      hn::Store(hn::LowerHalf(dh, two), dh, rows + key / 2);
      hn::Store(hn::UpperHalf(dh, two), dh, rows + kDSRow + key / 2);
    }
  }
};

}  // namespace

void AddKeyPairs(const Pass& pass, const Job& job, SlotScratch& scratch,
                 Turn& turn) {
  AddKeysOf<Pairs>(pass, job, scratch, turn);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace saccade::backward
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET == HWY_AVX3

#if HWY_ONCE
namespace saccade::backward {

#if HWY_TARGETS & HWY_AVX3
void AddKeyPairBlock(const Pass& pass, const Job& job, SlotScratch& scratch,
                     Turn& turn) {
  N_AVX3::AddKeyPairs(pass, job, scratch, turn);
}
#else
void AddKeyPairBlock(const Pass&, const Job&, SlotScratch&, Turn&) {}
#endif

}  // namespace saccade::backward
#endif  // HWY_ONCE
