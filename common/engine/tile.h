// The tile engine: scores of a block of queries against a block of keys, a
// transform, a normaliser, a product with the values.
//
//   o_i = gate_i (.) sum_j w(s_ij) v_j / norm_i
//   s_ij = softcap(scale q_i.k_j) + bias + the caller's mask
//
// over visible (i, j) only. Nothing of size q_len x kv_len is ever held.
#ifndef SACCADE_COMMON_ENGINE_TILE_H_
#define SACCADE_COMMON_ENGINE_TILE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/bias_table.h"
#include "engine/pattern.h"
#include "saccade/variant.h"

namespace saccade {

enum class Normaliser : uint8_t {
  kSoftmax,          // w = exp(s), norm_i = sum_j w
  kReluSquared,      // w = relu(s)^2, norm_i = divisor
  kReluSquaredRows,  // w = relu(s)^2, norm_i = number of keys i sees
};

/// The weight of a pair that is not visible, where kernels must tell it from
/// one that has become 0: no visible one is negative.
constexpr float kHiddenWeight = -0.0f;

/// What is computed: a description, made once per plan.
struct TileSpec {
  int64_t batch = 0, q_heads = 0, kv_heads = 0;
  int64_t qk_dim = 0, v_dim = 0;
  DType dtype = DType::kF32;
  float scale = 1;
  Normaliser normaliser = Normaliser::kSoftmax;
  double divisor = 1;
  std::vector<float> slopes = {};  // ALiBi: s -= slope_h |i - j|; or empty
  /// Any other bias by distance, or null. For softmax, instead of slopes.
  std::shared_ptr<const DistanceBias> bias = nullptr;
  /// Softmax only: s = softcap tanh(s / softcap) before any bias; 0: none.
  float softcap = 0;
  bool masked = false;  // softmax only: TileCall::attn_mask is added to scores
  bool gated = false;   // out is multiplied by TileCall::gate
  /// Softmax only: each head has a logit beside its scores, TileCall::sinks,
  /// whose value is 0: lse = ln(e^sink + sum_j e^s_ij).
  bool sinks = false;
  Pattern pattern = {};
};

/// One pass's tensors and where they stand in the sequence. Key row r holds
/// position r when r < k_split, else r + k_shift: a cache may have forgotten
/// the positions between. ForKeys ranges never fall in the gap.
struct TileCall {
  ConstView q, k, v;
  ConstView gate = {};  // [B, Hq, Tq, v_dim] when gated
  View out = {};
  View ungated = {};      // when gated: the product before the gate, f32; or
                          //   null data
  float* lse = nullptr;   // [B, Hq] rows of lse_len, Tq of them used; or null
  int64_t lse_len = 0;    // 0: Tq
  ConstView slopes = {};  // [B, Hq, 1, 1] instead of spec.slopes, or null data
  ConstView sinks = {};   // [1, Hq, 1, 1], f32, when spec.sinks
  const BiasTable* bias = nullptr;  // spec.bias, times log2 e
  int64_t q_position = 0;           // of query row 0
  int64_t kv_end = 0;               // positions 0 .. kv_end - 1 exist
  int64_t k_split = kFar, k_shift = 0;
  /// When spec.masked: its strides are 0 where it repeats; key rows are
  /// positions.
  MaskView attn_mask = {};

  /// Instead of a gap: pages of keys, of `page` rows, or null. For patterns of
  /// step 1.
  const int32_t* pages = nullptr;
  int64_t page = 0;

  int64_t KeyRow(int64_t position) const {
    if (pages != nullptr)
      return pages[position / page] * page + position % page;
    return position < k_split ? position : position - k_shift;
  }
  /// Behind the last position of those from `position` to `end` whose rows
  /// follow each other in k and v.
  int64_t RowsEnd(int64_t position, int64_t end) const {
    if (pages != nullptr) return std::min(end, (position / page + 1) * page);
    return position < k_split ? std::min(end, k_split) : end;
  }
  float* Lse(const TileSpec& spec, int64_t b, int64_t h) const {
    return lse + (b * spec.q_heads + h) * (lse_len > 0 ? lse_len : q.len);
  }
  /// ALiBi's slope, when spec.slopes are not empty.
  float Slope(const TileSpec& spec, int64_t b, int64_t h) const {
    if (slopes.data != nullptr) return *slopes.Row<float>(b, h, 0);
    return spec.slopes[static_cast<size_t>(h)];
  }
};

/// Gradients of a gated spec treat dout as already multiplied by the gate: the
/// plan does that, and the gate's own gradient.
struct TileBackwardCall {
  TileCall forward;     // q, k, v, positions; lse as Forward wrote it. Key
                        //   rows are positions: k_split is not read
  ConstView out, dout;  // out: softmax only
  View dq, dk, dv;
  /// Of spec.bias, f32 [1, Hq, 1, n]; no gradient is made when its data is
  /// null.
  ConstView bias_parameters = {};
  View dbias = {};
};

/// `q_len`: the largest of any call.
size_t TileForwardScratch(const TileSpec& spec, int64_t q_len, int slots);
void TileForward(const TileSpec& spec, const TileCall& call, Bytes scratch,
                 Exec& exec);

/// Passes of several sequences; spec.batch is 1. Short ones share the loop: the
/// tiles, or heads, of all are dealt to the slots together.
size_t TileForwardAllScratch(const TileSpec& spec, int64_t q_len,
                             int64_t sequences, int slots);
void TileForwardAll(const TileSpec& spec, std::span<const TileCall> calls,
                    Bytes scratch, Exec& exec);

/// `q_len`, `kv_len`: the largest of any call.
size_t TileBackwardScratch(const TileSpec& spec, int64_t q_len, int64_t kv_len,
                           int slots);
void TileBackward(const TileSpec& spec, const TileBackwardCall& call,
                  Bytes scratch, Exec& exec);

/// Few queries (a decoding step): keys and values are read once per key head
/// and shared by its query heads; long contexts are split over the slots'
/// tasks and merged in order. q_len <= kDecodeRows.
constexpr int64_t kDecodeRows = 4;
size_t TileDecodeScratch(const TileSpec& spec, int64_t kv_len, int slots);
void TileDecode(const TileSpec& spec, const TileCall& call, Bytes scratch,
                Exec& exec);

/// Steps of several sequences; spec.batch is 1. kv_len: the longest.
size_t TileDecodeAllScratch(const TileSpec& spec, int64_t kv_len, int slots);
void TileDecodeAll(const TileSpec& spec, std::span<const TileCall> calls,
                   int64_t kv_len, Bytes scratch, Exec& exec);

/// The whole plan of a variant that is a TileSpec: forward, backward, and
/// decoding from a cache of keys and values. When spec.gated the gate is the
/// first of the extras; when spec.sinks these are Inputs::bias, by default 0.
std::unique_ptr<Plan> MakeTilePlan(const Problem& problem, TileSpec spec);

/// The description of a problem before a variant changes what it changes:
/// shapes, scale, the problem's mask and window as pattern, its bias.
TileSpec MakeTileSpec(const Problem& problem);

/// What a TileSpec's passes cost, from its visible pairs.
Cost TileCost(const Problem& problem, const TileSpec& spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_H_
