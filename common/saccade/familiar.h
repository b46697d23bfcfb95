// Attention as other libraries define it, by their names and conventions.
//
// Each family has a function that turns its arguments into a Problem, whose
// Attention is made once and called often, and a function that does both for a
// single call:
//
//   auto problem = saccade::torch::SdpaProblem(q, k, v, mask, {});
//   auto attention =
//       saccade::Attention::Make(saccade::FamiliarSpec(*problem), *problem);
//   attention->Forward({.q = q, .k = k, .v = v, .attn_mask = mask}, {out});
//
//   saccade::torch::ScaledDotProductAttention(q, k, v, mask, {}, out);
//
// Where all ours differ from theirs: a query that sees no key yields 0 and a
// log-sum-exp of -infinity, and a hidden key is never multiplied, whatever it
// holds. Tensors are f32 or bf16. Views say how they lie: Contiguous() for
// [B, H, T, D], TokenMajor() for [B, T, H, D] and for [B, T, H D].
#ifndef SACCADE_FAMILIAR_H_
#define SACCADE_FAMILIAR_H_

#include <cstdint>
#include <span>
#include <string>

#include "saccade/attention.h"
#include "saccade/export.h"
#include "saccade/problem.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// The spec that serves a problem made here: exact attention, with the ALiBi
/// that it may ask for.
SACCADE_API std::string FamiliarSpec(const Problem& problem);

namespace torch {

/// Arguments of torch.nn.functional.scaled_dot_product_attention.
struct SdpaOptions {
  double dropout_p = 0;     // anything else is kUnsupported
  bool is_causal = false;   // aligned at the top left: key j <= query i
  float scale = 0;          // 0: 1/sqrt(E)
  bool enable_gqa = false;  // fewer heads of k and v than of q
};

/// softmax(scale q k^T + mask) v of q [N, Hq, L, E], k [N, H, S, E] and
/// v [N, H, S, Ev]. mask: boolean, true where a query attends; or a number that
/// is added, f32 or of q's dtype; null data: none; any of its sizes may be 1.
/// As theirs, kInvalid with both a mask and is_causal, and where head numbers
/// differ without enable_gqa. A mask has no gradient; those of q, k and v come
/// from Attention::Backward. PyTorch 2.9, torch.nn.functional.
SACCADE_API Result<Problem> SdpaProblem(const ConstView& q, const ConstView& k,
                                        const ConstView& v,
                                        const MaskView& mask,
                                        const SdpaOptions& options);

/// The same at once: out [N, Hq, L, Ev]. threads as in Attention::Make.
SACCADE_API Status ScaledDotProductAttention(const ConstView& q,
                                             const ConstView& k,
                                             const ConstView& v,
                                             const MaskView& mask,
                                             const SdpaOptions& options,
                                             const View& out, int threads = 0);

}  // namespace torch

namespace flash {

/// Arguments of flash_attn_func and its kin (Dao et al., flash-attn 2.8).
/// Causal and windows are aligned at the bottom right: query i stands at p = i
/// + Tk - Tq and sees keys p - window_left .. p + window_right.
struct Options {
  double dropout_p = 0;                         // anything else is kUnsupported
  float softmax_scale = 0;                      // 0: 1/sqrt(D)
  bool causal = false;                          // window_right is 0
  int64_t window_left = -1, window_right = -1;  // keys; -1: no limit
  float softcap = 0;                            // 0: none
  /// f32 [1 or B, H, 1, 1]: scores lose slope |p - j|. Null data: none.
  ConstView alibi_slopes = {};
};

/// flash_attn_func: q [B, H, Tq, D], k [B, Hkv, Tk, D], v [B, Hkv, Tk, Dv].
/// Give the slopes to each pass as Inputs::bias, and Outputs::lse [B, H, Tq]
/// for their softmax_lse.
SACCADE_API Result<Problem> FlashProblem(const ConstView& q, const ConstView& k,
                                         const ConstView& v,
                                         const Options& options);

/// The same at once. lse may be null.
SACCADE_API Status FlashAttention(const ConstView& q, const ConstView& k,
                                  const ConstView& v, const Options& options,
                                  const Outputs& out, int threads = 0);

/// flash_attn_varlen_func: sequences one behind another, q [1, H, all, D] and
/// k, v likewise; cumulative lengths cu_seqlens_q, cu_seqlens_k [B + 1] say
/// where each begins. lse [H, all]. For Attention::ForwardSequences.
SACCADE_API Result<Problem> VarlenProblem(const ConstView& q,
                                          const ConstView& k,
                                          const ConstView& v, int64_t sequences,
                                          int64_t max_seqlen_q,
                                          int64_t max_seqlen_k,
                                          const Options& options);

/// The same at once.
SACCADE_API Status FlashAttentionVarlen(const ConstView& q, const ConstView& k,
                                        const ConstView& v,
                                        std::span<const int32_t> cu_seqlens_q,
                                        std::span<const int32_t> cu_seqlens_k,
                                        const Options& options,
                                        const Outputs& out, int threads = 0);

/// Caches of flash_attn_with_kvcache. Of all sequences one behind another,
/// k [1, Hkv, rows, D] and v [1, Hkv, rows, Dv]; the rows of sequence s are
/// those of its pages block_table[s][0], [1], ..., each `page` long. A cache
/// [B, capacity, H, D] is one of pages of `capacity`, block_table[s] = {s}.
struct KvCacheView {
  View k, v;
  std::span<const int32_t> block_table;  // [B][pages of a sequence]
  int64_t page = 0;                      // rows
};

/// flash_attn_with_kvcache: writes the rows of k and v [B, Hkv, Tnew, D] behind
/// the cache_seqlens[s] that the cache holds of sequence s, and attends to all
/// with q [B, H, Tq, D]; Tnew may be 0. q must be packed: a sequence's queries
/// follow those of the one before. out like q; lse [H, B Tq]. cache_seqlens is
/// left as it is, as theirs. kExhausted, before anything is written, where a
/// cache is full.
SACCADE_API Status FlashAttentionWithKvCache(
    const ConstView& q, const KvCacheView& cache, const ConstView& k,
    const ConstView& v, std::span<const int32_t> cache_seqlens,
    const Options& options, const Outputs& out, int threads = 0);

}  // namespace flash

namespace onnx {

/// Attributes of the ONNX operator Attention, opset 23.
struct AttentionOptions {
  bool is_causal = false;         // key j <= query i + the past's length
  float scale = 0;                // 0: 1/sqrt(head_size)
  float softcap = 0;              // of scaled scores, before the mask is added
  bool qk_matmul_output = false;  // kUnsupported: they are never held
};

/// Tensors of the operator. q [B, q_num_heads, Tq, head_size], k and v
/// [B, kv_num_heads, T, ...]: a 3D input [B, T, hidden] is TokenMajor(data,
/// dtype, B, heads, T, hidden / heads). attn_mask: boolean or added, for all
/// keys, past ones first; where it has fewer, those beyond are hidden; any size
/// may be 1, for all.
struct AttentionInputs {
  ConstView q, k, v;
  MaskView attn_mask = {};
  ConstView past_key = {}, past_value = {};  // [B, kv_num_heads, P, ...]
};

/// present_key and present_value, past and new keys together, are needed where
/// there is a past, and written where they are not null.
struct AttentionOutputs {
  View y;
  View present_key = {}, present_value = {};
};

/// softmax(softcap(scale q k^T) + mask) v. The order of softcap and mask is the
/// operator's as corrected in 2026, after which -infinity hides a key (with the
/// text of 1.18 it became -softcap).
SACCADE_API Result<Problem> AttentionProblem(const AttentionInputs& in,
                                             const AttentionOptions& options);

/// The same at once.
SACCADE_API Status Attention(const AttentionInputs& in,
                             const AttentionOptions& options,
                             const AttentionOutputs& out, int threads = 0);

}  // namespace onnx
}  // namespace saccade

#endif  // SACCADE_FAMILIAR_H_
