// The scan engine: a state carried along the sequence, so that time is linear
// in its length and decoding needs no past keys.
//
//   S_p = decay S_(p-1) + phi(k_p) v_p^T       z_p likewise, without v
//   plain:       o_p = scale phi(q_p) S_p
//   normalised:  o_p = phi(q_p) S_p / (phi(q_p).z_p + epsilon / scale)
//   clamped:     o_p = phi(q_p) S_p / max(phi(q_p).z_p, epsilon / scale)
//
// which is the sum over visible keys j of weights scale decay^(i-j)
// phi(q_i).phi(k_j), over their own sum where normalised. One state serves all
// query heads of a key head.
#ifndef SACCADE_COMMON_ENGINE_SCAN_H_
#define SACCADE_COMMON_ENGINE_SCAN_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

/// phi, applied to each element of q and k.
enum class FeatureMap : uint8_t {
  kIdentity,
  kEluPlusOne,  // x + 1 for x > 0, else exp(x)
  kRelu,
  /// max(x, 0) twice, times the cosine and the sine of position times `turn`;
  /// in turns for 16 elements, which zeros fill up.
  kTurnedRelu,
  /// Of a query its softmax, of a key e^x over the sum of those of all keys up
  /// to the query, each element by itself.
  kSoftmax,
  /// Positive random features, see SetRandomFeatures().
  kRandom,
  /// 1, the first `elements` of x times `root`, and their products, those with
  /// themselves over the root of 2: phi(q).phi(k) = 1 + s + s^2 / 2, s the dot
  /// product of what is multiplied by root. To be read normalised.
  kTaylor,
};

enum class ReadOut : uint8_t { kPlain, kNormalised, kClamped };

/// The table of kRandom: half of sqrt(scale) w, and its transpose, laid out as
/// a state is, for the kernel that reads a state adds two halves.
struct ScanRandom {
  struct alignas(64) Line {
    float x[16];
  };
  std::vector<Line> to_features;  // a state [qk_dim, features]
  std::vector<Line> to_elements;  // a state [features, qk_dim]
  float scale, beside;
};

/// What is computed: a description, made once per plan.
struct ScanSpec {
  int64_t batch = 0, q_heads = 0, kv_heads = 0;
  int64_t qk_dim = 0, v_dim = 0;
  DType dtype = DType::kF32;
  Mask mask = Mask::kNone;
  float scale = 1;
  FeatureMap feature = FeatureMap::kIdentity;
  ReadOut read_out = ReadOut::kPlain;
  float epsilon = 0;  // in a normalised or clamped read-out
  std::vector<float> decay =
      {};  // in [0, 1], one per key head; or empty: none.
           //   Only for causal masks
  /// Not 0: out is normalised row by row and multiplied by a gate, Inputs::
  /// extra[0]; see scan_norm.h. This is its epsilon. Of MakeScanPlan() only.
  float norm = 0;
  int64_t elements = 0;  // of kTaylor
  float root = 1;
  int64_t features = 0;  // of kRandom
  std::shared_ptr<const ScanRandom> random = nullptr;
  double turn = 0;                 // radians a position, of kTurnedRelu; with
  std::vector<double> turns = {};  //   the table that SetTurn() makes
};

/// Gives a spec its features kTurnedRelu.
void SetTurn(double radians, ScanSpec* spec);

/// Gives a spec its features kRandom, of rows w_r [features, qk_dim]:
///   phi(x)_r = e^(l_r) + beside e^(max_r l_r)
///   l_r = sqrt(scale) w_r.x - scale |x|^2 / 2
/// to be read normalised: a common factor of a row is left out.
void SetRandomFeatures(const std::vector<float>& rows, float scale,
                       double beside, ScanSpec* spec);

/// How many features phi makes of a row of q or k.
int64_t ScanFeatures(const ScanSpec& spec);

/// One pass's tensors. Masks align queries and keys as QueryOffset() says.
struct ScanCall {
  ConstView q, k, v;
  View out = {};
  /// What the rows of a normalised read-out were multiplied by, one over the
  /// denominator: contiguous [B, Hq, Tq], or null. Backward reads it.
  float* factor = nullptr;
  /// What keys' powers of e were relative to: ScanFrameFloats() of them, or
  /// null. Backward reads them.
  float* frames = nullptr;
  int64_t first = 0;  // position of key 0: in decoding, the tokens so far
};

/// Gradients; forward.out is not used, `out` is.
struct ScanBackwardCall {
  ScanCall forward;
  ConstView out, dout;
  View dq, dk, dv;
};

/// Scratch does not depend on the sequence's length.
size_t ScanForwardScratch(const ScanSpec& spec, int slots);
void ScanForward(const ScanSpec& spec, const ScanCall& call, Bytes scratch,
                 Exec& exec);

/// Of kSoftmax it does: two more rows of features a query.
size_t ScanBackwardScratch(const ScanSpec& spec, int slots, int64_t q_len = 0);
void ScanBackward(const ScanSpec& spec, const ScanBackwardCall& call,
                  Bytes scratch, Exec& exec);

int64_t ScanFrameFloats(const ScanSpec& spec, int64_t kv_len);

/// Decoding: `state`, ScanStateBytes() of a causal spec, holds the sum of the
/// tokens so far; all zeros are an empty sequence. q, k, v and out have the
/// same number of rows, the tokens that follow.
size_t ScanStateBytes(const ScanSpec& spec);
size_t ScanExtendScratch(const ScanSpec& spec, int slots);
void ScanExtend(const ScanSpec& spec, const ScanCall& call, Bytes state,
                Bytes scratch, Exec& exec);

/// The whole plan of a variant that is a ScanSpec: forward, backward, and
/// decoding from the state.
std::unique_ptr<Plan> MakeScanPlan(const Problem& problem, ScanSpec spec);

/// The description of a problem before a variant says what is its own: shapes,
/// mask, scale.
ScanSpec MakeScanSpec(const Problem& problem);

/// What a ScanSpec's passes cost: an update of the state is 2 d e flops a key,
/// a read-out 2 d e a query; backward does each three times.
Cost ScanCost(const Problem& problem, const ScanSpec& spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCAN_H_
