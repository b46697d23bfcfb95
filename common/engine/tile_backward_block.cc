// The backward pass of a block of keys in f32, and what else the pass needs.
#include "engine/tile_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_backward_block.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/tile_backward_run-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::backward {
namespace HWY_NAMESPACE {
namespace {

// The arithmetic of f32 (see tile_backward-inl.h).
struct Floats {
  using In = float;
  static constexpr int kTogether = 1;
  static constexpr bool kFolds = true;
  static constexpr ptrdiff_t kDSRow = kScoreRow;

  static HWY_INLINE V Broadcast(const float* row, ptrdiff_t c) {
    return hn::Set(d, row[c]);
  }
  static HWY_INLINE V MulAdd(V y, V x, V acc) { return hn::MulAdd(y, x, acc); }

  // n rows whose whole vectors may be read: where they stand, or a copy in
  // `space`, padded with zeros.
  static Rows<const float> Read(const AnyRows& rows, int n, int64_t dim,
                                float* space) {
    if (rows.f32 && dim % kLanes == 0)
      return {static_cast<const float*>(rows.data), rows.stride};
    const int64_t wide = RoundUp(dim, kStrip);
    const auto copy = [&](const auto* from) {
      for (int r = 0; r < n; ++r) {
        float* to = space + r * wide;
        simd::ConvertRow(from + r * rows.stride, static_cast<size_t>(dim), to);
        std::fill(to + dim, to + wide, 0.0f);
      }
    };
    if (rows.f32)
      copy(static_cast<const float*>(rows.data));
    else
      copy(static_cast<const BF16*>(rows.data));
    return {space, wide};
  }
  static Rows<const float> Steps(Rows<const float> rows, int, int64_t, float*) {
    return rows;
  }

  // t[panel][c][key of panel] = factor rows[key][c]; keys past the last repeat
  // it, and what is computed from them is not read.
  static void Transpose(Rows<const float> rows, int n, int64_t dim,
                        float factor, float* t) {
    for (int key = 0; key < n; key += kLanes)
      simd::RowsToColumns(d, rows[key], rows.stride, n - 1 - key, dim, factor,
                          t + key / kPanel * dim * kPanel + key % kPanel,
                          kPanel);
  }

  static void SetScores(const SlotScratch&, BlockOf<Floats>& b) {
    b.p_steps = b.p;
    b.ds_steps = b.ds_rows = b.ds;
  }
  static void Round(const BlockOf<Floats>&, const Cells&) {}
  static float Rounded(float x) { return x; }
};

}  // namespace

void AddKeyBlock(const Pass& pass, const Job& job, SlotScratch& s, Turn& turn) {
  AddKeysOf<Floats>(pass, job, s, turn);
}

template <class TO, class TG>
float Inner(const TO* a, const TG* b, int64_t dim) {
  V sum = hn::Zero(d);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes)
    sum = hn::MulAdd(simd::LoadAs(d, a + c), simd::LoadAs(d, b + c), sum);
  float rest = 0;
  const hn::CappedTag<float, 1> d1;
  for (; c < dim; ++c)
    rest +=
        hn::GetLane(hn::Mul(simd::LoadAs(d1, a + c), simd::LoadAs(d1, b + c)));
  return hn::GetLane(hn::SumOfLanes(d, sum)) + rest;
}

template <class TO, class TG>
void InnerOfRows(const Pass& pass, int64_t pair, int64_t h, Interval rows) {
  const ConstView &out = pass.call->out, &dout = pass.call->dout;
  const int64_t b = pass.Batch(pair), head = pass.QueryHead(pair, h);
  float* to = pass.Inner(pair, h);
  for (int64_t i = rows.begin; i < rows.end; ++i)
    to[i] = Inner(out.Row<TO>(b, head, i), dout.Row<TG>(b, head, i), out.dim);
}

void InnerProducts(const Pass& pass, int64_t pair, int64_t h, Interval rows) {
  const bool out_f32 = pass.call->out.dtype == DType::kF32;
  const bool dout_f32 = pass.call->dout.dtype == DType::kF32;
  if (out_f32)
    (dout_f32 ? InnerOfRows<float, float>
              : InnerOfRows<float, BF16>)(pass, pair, h, rows);
  else
    (dout_f32 ? InnerOfRows<BF16, float> : InnerOfRows<BF16, BF16>)(pass, pair,
                                                                    h, rows);
}

void StoreRows(Rows<const float> from, Interval rows, int64_t dim, BF16* to,
               int64_t to_stride) {
  for (int64_t r = rows.begin; r < rows.end; ++r)
    simd::ConvertRow(from[r], static_cast<size_t>(dim), to + r * to_stride);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace saccade::backward
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::backward {

HWY_EXPORT(AddKeyBlock);
HWY_EXPORT(InnerProducts);
HWY_EXPORT(StoreRows);

void AddKeyBlock(const Pass& pass, const Job& job, SlotScratch& scratch,
                 Turn& turn) {
  HWY_DYNAMIC_DISPATCH(AddKeyBlock)(pass, job, scratch, turn);
}
void InnerProducts(const Pass& pass, int64_t pair, int64_t h, Interval rows) {
  HWY_DYNAMIC_DISPATCH(InnerProducts)(pass, pair, h, rows);
}
void StoreRows(Rows<const float> from, Interval rows, int64_t dim, BF16* to,
               int64_t to_stride) {
  HWY_DYNAMIC_DISPATCH(StoreRows)(from, rows, dim, to, to_stride);
}

}  // namespace saccade::backward
#endif  // HWY_ONCE
