#include "engine/score_table.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/score_table.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "engine/product-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

using score_table::Block;
using score_table::kBlock;

int64_t TableLanes() { return kProductLanes; }

// The keys that row r sees.
Interval SeenBy(const Block &x, int64_t r) {
  return Interval{x.seen_first + r, x.seen_end + r}.Cut({0, x.keys});
}

// Lanes j, j + 1, ... that are in `seen`.
hn::Mask<ProductTag> Inside(int64_t j, Interval seen) {
  const ProductTag d;
  const auto before = [&](int64_t end) HWY_ATTR {
    return hn::FirstN(
        d, static_cast<size_t>(std::clamp<int64_t>(end - j, 0, kProductLanes)));
  };
  return hn::AndNot(before(seen.begin), before(seen.end));
}

// p = e^(table - lse) of what is seen, 0 of all else.
void TableWeights(const Block &x, float *p) {
  const ProductTag d;
  HWY_ALIGN float tail[kProductLanes] = {};
  for (int64_t r = 0; r < x.rows; ++r) {
    const float *const row = x.table + r * x.stride;
    const Interval seen = SeenBy(x, r);
    const auto lse = hn::Set(d, x.lse[r]);
    for (int64_t j = 0; j < kBlock; j += kProductLanes) {
      auto w = hn::Zero(d);
      if (j < seen.end && j + kProductLanes > seen.begin) {
        const float *from = row + j;
        if (j + kProductLanes > x.keys) {
          std::memcpy(tail, from, static_cast<size_t>(x.keys - j) * 4);
          from = tail;
        }
        w = hn::IfThenElseZero(
            Inside(j, seen),
            saccade::HWY_NAMESPACE::Exp(d, hn::Sub(hn::LoadU(d, from), lse)));
      }
      hn::Store(w, d, p + r * kBlock + j);
    }
  }
}

void AddProductsBlock(const Block &x, const score_table::Content &c, float *kt,
                      float *to) {
  const ProductTag d;
  const int64_t columns =
      (x.keys + kProductLanes - 1) / kProductLanes * kProductLanes;
  TransposeRows(c.k, c.k_stride, x.keys, c.dim, kt, kBlock);
  Product(x.rows, c.dim, columns, {c.q, c.q_stride, 1}, kt, kBlock, to, kBlock,
          Into::kSet);
  const auto scale = hn::Set(d, c.scale);
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t j = 0; j < x.keys; j += kProductLanes) {
      float *const at = to + r * kBlock + j;
      const float *const table = x.table + r * x.stride + j;
      HWY_ALIGN float tail[kProductLanes] = {};
      const int64_t n = std::min(kProductLanes, x.keys - j);
      if (n < kProductLanes) std::memcpy(tail, table, n * sizeof(float));
      const auto known = hn::LoadU(d, n < kProductLanes ? tail : table);
      hn::Store(hn::MulAdd(scale, hn::Load(d, at), known), d, at);
    }
}

void AddToTableBlock(const Block &x, const float *v, int64_t v_stride,
                     int64_t values, bool add, float *vt, float *p, float *dp,
                     float *dtable, int64_t dtable_stride) {
  const ProductTag d;
  TableWeights(x, p);
  const int64_t columns =
      (x.keys + kProductLanes - 1) / kProductLanes * kProductLanes;
  TransposeRows(v, v_stride, x.keys, values, vt, kBlock);
  Product(x.rows, values, columns, {x.dout, x.width, 1}, vt, kBlock, dp, kBlock,
          Into::kSet);
  HWY_ALIGN float tail[kProductLanes];
  for (int64_t r = 0; r < x.rows; ++r) {
    float *const to = dtable + r * dtable_stride;
    const Interval seen = SeenBy(x, r);
    const auto delta = hn::Set(d, x.delta[r]);
    for (int64_t j = 0; j < x.keys; j += kProductLanes) {
      auto y = hn::Zero(d);
      if (j < seen.end && j + kProductLanes > seen.begin)
        y = hn::IfThenElseZero(
            Inside(j, seen),
            hn::Mul(hn::Load(d, p + r * kBlock + j),
                    hn::Sub(hn::Load(d, dp + r * kBlock + j), delta)));
      const int64_t n = std::min(kProductLanes, x.keys - j);
      if (n == kProductLanes) {
        if (add) y = hn::Add(y, hn::LoadU(d, to + j));
        hn::StoreU(y, d, to + j);
        continue;
      }
      hn::Store(y, d, tail);
      for (int64_t i = 0; i < n; ++i)
        to[j + i] = add ? to[j + i] + tail[i] : tail[i];
    }
  }
}

void AddToValuesBlock(const Block &x, float *p, float *dv) {
  TableWeights(x, p);
  Product(x.keys, x.rows, x.width, {p, 1, kBlock}, x.dout, x.width, dv, x.width,
          Into::kAdd);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::score_table {
namespace {
HWY_EXPORT(TableLanes);
HWY_EXPORT(AddProductsBlock);
HWY_EXPORT(AddToTableBlock);
HWY_EXPORT(AddToValuesBlock);
}  // namespace

int64_t Lanes() { return HWY_DYNAMIC_DISPATCH(TableLanes)(); }
void AddProducts(const Block &block, const Content &content, float *kt,
                 float *to) {
  HWY_DYNAMIC_DISPATCH(AddProductsBlock)(block, content, kt, to);
}
void AddToTable(const Block &block, const float *v, int64_t v_stride,
                int64_t values, bool add, float *vt, float *p, float *dp,
                float *dtable, int64_t dtable_stride) {
  HWY_DYNAMIC_DISPATCH(AddToTableBlock)
  (block, v, v_stride, values, add, vt, p, dp, dtable, dtable_stride);
}
void AddToValues(const Block &block, float *p, float *dv) {
  HWY_DYNAMIC_DISPATCH(AddToValuesBlock)(block, p, dv);
}

}  // namespace saccade::score_table
#endif  // HWY_ONCE
