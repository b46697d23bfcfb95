// The tile engine: scores of a block of queries against a block of keys, a
// transform, a normaliser, a product with the values.
//
//   o_i = gate_i (.) sum_j w(s_ij) v_j / norm_i,   s_ij = scale q_i.k_j + bias
//
// over visible (i, j) only. Nothing of size q_len x kv_len is ever held.
#ifndef SACCADE_COMMON_ENGINE_TILE_H_
#define SACCADE_COMMON_ENGINE_TILE_H_

#include <cstdint>
#include <memory>
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
  bool gated = false;  // out is multiplied by TileCall::gate
  Pattern pattern = {};
};

/// One pass's tensors and where they stand in the sequence. Key row r holds
/// position r when r < k_split, else r + k_shift: a cache may have forgotten
/// the positions between. ForKeys ranges never fall in the gap.
struct TileCall {
  ConstView q, k, v;
  ConstView gate = {};  // [B, Hq, Tq, v_dim] when gated
  View out = {};
  View ungated = {};     // when gated: the product before the gate, f32; or
                         //   null data
  float* lse = nullptr;  // contiguous [B, Hq, Tq], or null
  const BiasTable* bias = nullptr;  // spec.bias, times log2 e
  int64_t q_position = 0;           // of query row 0
  int64_t kv_end = 0;               // positions 0 .. kv_end - 1 exist
  int64_t k_split = kFar, k_shift = 0;

  int64_t KeyRow(int64_t position) const {
    return position < k_split ? position : position - k_shift;
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

/// The whole plan of a variant that is a TileSpec: forward, backward, and
/// decoding from a cache of keys and values. When spec.gated the gate is the
/// first of the extras.
std::unique_ptr<Plan> MakeTilePlan(const Problem& problem, TileSpec spec);

/// The description of a problem before a variant changes what it changes:
/// shapes, scale, the problem's mask and window as pattern, its bias.
TileSpec MakeTileSpec(const Problem& problem);

/// What a TileSpec's passes cost, from its visible pairs.
Cost TileCost(const Problem& problem, const TileSpec& spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_H_
