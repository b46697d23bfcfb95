// The tile engine's forward pass in f32: where queries, keys and values come
// from.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_FLOATS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_FLOATS_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_FLOATS_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_FLOATS_INL_H_
#endif

#include <hwy/highway.h>

#include "engine/tile_forward.h"
#include "engine/tile_products-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

// Rows `step` apart of a tensor, as floats in `to`, [rows][dim].
template <class T>
HWY_INLINE void GatherRows(const T* from, int64_t step, int64_t rows,
                           int64_t dim, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    ConvertRow(from + r * step, static_cast<size_t>(dim), to + r * dim);
}

// columns = factor * rows, transposed.
HWY_INLINE void LoadColumns(Rows rows, int queries, int64_t dim, float factor,
                            float* columns) {
  for (int g = 0; g < queries; g += kLanes)
    RowsToColumns(d, rows.at + g * rows.stride, rows.stride, queries - 1 - g,
                  dim, factor, columns + g, kTile);
}

// An Arithmetic says how queries, keys and values are multiplied:
//   LoadQueries(factor)  the tile's queries to scratch, times factor or not
//   Pack(strip)          what a strip's keys and values need before
//   KeysOf, ValuesOf     of a strip, as tile_products-inl.h wants them
//   OtherKeysOf, OtherValuesOf  of a split strip; Splits(): whether it can
//   Weigh                scores to weights, as the product with values wants
//   Steps(keys)          of that product

// Products in f32. bf16 is widened first.
class Floats {
 public:
  using Keys = Rows;
  using Values = Rows;

  Floats(const TileWork& work, const TileScratch& scratch)
      : w_(work),
        s_(scratch),
        kv_head_(work.KvHead()),
        bf16_(work.spec->dtype == DType::kBF16) {}

  void LoadQueries(float factor) const {
    const ConstView& q = w_.call->q;
    const int64_t step = w_.part->step * q.row_stride;
    const auto queries = static_cast<int>(w_.queries.size());
    Rows rows;
    if (bf16_) {
      GatherRows(q.Row<BF16>(w_.batch, w_.head, w_.q_row), step, queries, q.dim,
                 s_.scores);
      rows = {s_.scores, q.dim};
    } else {
      rows = {q.Row<float>(w_.batch, w_.head, w_.q_row), step};
    }
    LoadColumns(rows, queries, q.dim, factor, s_.queries);
  }

  void Pack(const Strip& strip) const {
    if (!bf16_) return;
    const auto pack = [&](const ConstView& from, float* to) {
      GatherRows(from.Row<BF16>(w_.batch, kv_head_, strip.row),
                 w_.part->step * from.row_stride, strip.keys, from.dim,
                 to + strip.start * from.dim);
    };
    pack(w_.call->k, s_.keys);
    pack(w_.call->v, s_.values);
  }

  Rows KeysOf(const Strip& s) const { return Of(w_.call->k, s, s_.keys); }
  Rows ValuesOf(const Strip& s) const { return Of(w_.call->v, s, s_.values); }
  // What is packed has no room for others.
  bool Splits() const { return !bf16_; }
  Rows OtherKeysOf(const Strip& s) const { return At(w_.call->k, s.other_row); }
  Rows OtherValuesOf(const Strip& s) const {
    return At(w_.call->v, s.other_row);
  }

  template <bool kRunning, int kVecs, bool kCareful, class Scores>
  static void Weigh(Scores held, float* scores, const float* max, float* sum,
                    int n) {
    if constexpr (kRunning)
      WeighStrip<kVecs, kCareful>(held, scores, max, sum, n);
  }
  static int Steps(int keys) { return keys; }

 private:
  Rows Of(const ConstView& from, const Strip& strip,
          const float* packed) const {
    if (bf16_) return {packed + strip.start * from.dim, from.dim};
    return At(from, strip.row);
  }
  Rows At(const ConstView& from, int64_t row) const {
    return {from.Row<float>(w_.batch, kv_head_, row),
            w_.part->step * from.row_stride};
  }

  const TileWork& w_;
  const TileScratch& s_;
  const int64_t kv_head_;
  const bool bf16_;
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_FLOATS_INL_H_
