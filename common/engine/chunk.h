// The chunk engine: states whose update is more than a sum, by chunks of
// tokens, as products of matrices.
//
//   sum:    S_t = diag(a_t) S_(t-1) + k_t v_t^T
//   delta:  S_t = a_t S_(t-1) + k_t (b_t (v_t - a_t S_(t-1)^T k_t))^T
//   o_t = scale q_t S_t
//
// a_t is nothing, a number or a vector [qk_dim]; with the delta rule nothing or
// a number. One state serves all query heads of a key head. Causal; a query
// behind the last key sees the state that it left.
//
// Within a chunk, whose tokens see the state S before it, with D_ts what fades
// from s to t and G_t from the chunk's beginning:
//
//   O = scale (G (.) Q) S + P U        P = scale lower(Q K^T (.) D)
//   S' = G_end S + (fade to end (.) K)^T U
//
// In groups of tokens a query sees the state before its group only: O = scale Q
// S with S as the group found it.
//
// U are the values or, of the delta rule, b (.) Y, where
//   (1 + A diag(b)) Y = V - (G (.) K) S,   A = below diagonal(K K^T (.) D),
// the WY form: a triangular system instead of a token after the other (Yang et
// al. 2024, arXiv:2406.06484, section 3.2). All of G, D are products of
// factors, so that whatever factors are, nothing is divided by what vanished.
#ifndef SACCADE_COMMON_ENGINE_CHUNK_H_
#define SACCADE_COMMON_ENGINE_CHUNK_H_

#include <cstdint>
#include <memory>

#include "saccade/variant.h"

namespace saccade {

enum class ChunkDecay : uint8_t { kNone, kNumber, kVector };

constexpr int64_t kChunkTokens = 32;  // of a chunk, at most

/// What is computed: a description, made once per plan.
struct ChunkSpec {
  int64_t batch = 0, q_heads = 0, kv_heads = 0;
  int64_t qk_dim = 0, v_dim = 0;
  DType dtype = DType::kF32;
  float scale = 1;
  ChunkDecay decay = ChunkDecay::kNone;
  /// Which extra input holds x, a = e^(x sharpness).
  int decay_input = -1;
  float sharpness = 1;
  int beta_input = -1;  // which holds b: the delta rule; -1: a sum
  bool unit = false;    // rows of q and k are brought to length 1 first
  int64_t group = 0;    // tokens, a multiple of kChunkTokens; 0: no groups. Of
                        //   sums without factors
  /// Not 0: out is normalised row by row and multiplied by a gate; see
  /// scan_norm.h. This is its epsilon. Of MakeChunkPlan() only.
  float norm = 0;
  int gate_input = -1;
};

/// One pass's tensors. `out` may be f32 or of the spec's type.
struct ChunkCall {
  ConstView q, k, v;
  ConstView decay, beta;
  View out = {};
  int64_t offset = 0;  // position of query 0; key 0 is at 0
  int64_t first = 0;   // of key 0 in its sequence: where groups begin
  /// States before each chunk, ChunkSavedFloats() of them, or null. Backward
  /// reads them.
  float* states = nullptr;
};

struct ChunkBackwardCall {
  ChunkCall forward;
  ConstView dout;
  View dq, dk, dv, ddecay, dbeta;
};

/// `len`: positions up to the last query's.
int64_t ChunkSavedFloats(const ChunkSpec& spec, int64_t len);
/// `state` is that of the tokens before, and then of these too: null begins
/// with none and keeps none.
size_t ChunkForwardScratch(const ChunkSpec& spec, int slots);
void ChunkForward(const ChunkSpec& spec, const ChunkCall& call, float* state,
                  Bytes scratch, Exec& exec);
/// Of groups: the sum, then that which the last group found.
int64_t ChunkStateFloats(const ChunkSpec& spec);

size_t ChunkBackwardScratch(const ChunkSpec& spec, int64_t q_len,
                            int64_t kv_len, int slots);
void ChunkBackward(const ChunkSpec& spec, const ChunkBackwardCall& call,
                   Bytes scratch, Exec& exec);

/// The whole plan of a variant that is a ChunkSpec: forward, backward, and
/// decoding from the state.
std::unique_ptr<Plan> MakeChunkPlan(const Problem& problem,
                                    const ChunkSpec& spec);

/// The description of a problem before a variant says what is its own.
ChunkSpec MakeChunkSpec(const Problem& problem);

/// What a ChunkSpec's passes cost, counted from the recurrence: an update of
/// the state and a read-out are 2 d e flops each, the delta rule's second
/// read-out as many; backward does each twice.
Cost ChunkCost(const Problem& problem, const ChunkSpec& spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_CHUNK_H_
