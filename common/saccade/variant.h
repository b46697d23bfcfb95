// The interface every attention variant stands behind.
//
// Problem -> Variant -> Plan -> passes. A Problem says shapes, storage and
// mask; a Variant, found by name, makes a Plan for it or says why not; the Plan
// runs forward, backward and decoding passes in memory that the caller owns.
#ifndef SACCADE_VARIANT_H_
#define SACCADE_VARIANT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/exec.h"
#include "saccade/export.h"
#include "saccade/plan.h"
#include "saccade/problem.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// What a variant can do.
struct Traits {
  bool causal = true;         // Mask::kCausal, kCausalTopLeft
  bool bidirectional = true;  // Mask::kNone
  bool cross = true;          // q_len != kv_len
  bool grouped_heads = true;  // q_heads != kv_heads
  bool window = false;        // Problem::window, least_, most_distance
  bool bias = false;          // positions added to scores (alibi)
  bool rotary = true;         // positions that turn q and k (rope)
  bool scores = true;         // positions that multiply scores (logn)
  bool attn_mask = false;     // Problem::attn_mask, forward and backward
  bool softcap = false;       // Problem::softcap
  bool lse = false;           // writes Outputs::lse
  bool bf16 = true;
  bool rounds_weights = false;  // and gradients of scores, of bf16, where the CPU
                                // multiplies bf16
  bool rounds_copies = false;   // of bf16: q and k are scaled in it
  bool backward = true;
  bool extend = true;  // for causal problems
};

/// kSoftplus: ln(1 + e^x). kLogSigmoid: -ln(1 + e^-x).
enum class Activation : uint8_t {
  kNone,
  kSilu,
  kSigmoid,
  kSoftplus,
  kLogSigmoid,
  kRelu
};

/// An input beyond q, k and v, and how a layer makes it from its tokens x:
/// activation(x W).
struct ExtraInput {
  std::string_view name;
  std::string_view doc;
  bool per_query = true;    // rows of queries and q_heads, or of keys, kv_heads
  bool value_width = true;  // v_dim wide, or else 1
  bool key_width = false;   // or qk_dim wide
  Activation activation = Activation::kNone;
};

inline int64_t WidthOf(const ExtraInput& extra, int64_t qk_dim, int64_t v_dim) {
  return extra.key_width ? qk_dim : extra.value_width ? v_dim : 1;
}

/// How a layer makes q, k and v from its tokens x.
struct Layer {
  int heads = 0;        // 0: the model's
  bool reads_q = true;  // otherwise there is no projection for it
  bool reads_k = true;
  bool shared_qk = false;  // q, k = gamma z + beta of one z = activation(x W)
  Activation qk_activation = Activation::kNone;
  Activation v_activation = Activation::kNone;
  double value_expansion = 1;  // heads * v_dim over the model's width
  bool replaces_mlp = false;   // two of them stand for attention and MLP
};

/// Work of one call, counted from the equations on visible work only.
struct Cost {
  double forward_flops = 0;
  double backward_flops = 0;
  double forward_bytes = 0;  // inputs read and outputs written once
  double decode_flops = 0;   // one token, the context full (kv_len tokens)
  double decode_bytes = 0;
};

/// Dense float64 tensors, contiguous [B, H, T, D], for oracles.
struct OracleInputs {
  const double *q = nullptr, *k = nullptr, *v = nullptr;
  std::array<const double*, kMaxExtras> extra = {};
  const double* bias = nullptr;  // [Hq, n]; null: initial values
  /// [B, Hq, Tq, Tk], what is added to scores; null: none.
  const double* attn_mask = nullptr;
};

/// `out` as Outputs::out; `size`, of the same shape and never null, receives
/// the sum of the absolute values of all that was added up to make `out`, to
/// first order in a relative error of each intermediate: an implementation is
/// right when |got - out| <= kappa u size, u the unit roundoff.
struct OracleOutputs {
  double* out = nullptr;
  double* size = nullptr;
  double* lse = nullptr;  // may be null
};

/// A variant's one entry.
struct Variant {
  std::string_view name;    // "softmax.flash"
  std::string_view title;   // a sentence
  std::string_view source;  // author, year, equation
  double kappa = 8;         // the error budget, in units of u * size
  Traits traits = {};
  std::vector<Knob> knobs = {};
  std::vector<ExtraInput> inputs = {};
  Layer layer = {};
  /// Learned numbers a head of the variant itself, of a resolved problem, and a
  /// head's before training: Inputs::bias is theirs, and Gradients::dbias. Only
  /// where traits.bias is false. Null: none.
  int64_t (*parameters)(const Problem&) = nullptr;
  void (*start)(const Problem&, int64_t head, float* to) = nullptr;
  /// Scale when Problem::scale is 0: 1/sqrt(qk_dim), or 1.
  bool scaled = true;
  /// All three see a resolved problem: shapes, knobs and position checked,
  /// knobs complete, scale set.
  Cost (*cost)(const Problem&) = nullptr;
  Result<std::unique_ptr<Plan>> (*plan)(const Problem&) = nullptr;
  void (*oracle)(const Problem&, const OracleInputs&,
                 const OracleOutputs&) = nullptr;
};

/// All variants, in report order.
SACCADE_API std::span<const Variant* const> Variants();

/// By name; null when there is none.
SACCADE_API const Variant* Find(std::string_view name);

/// `name:knob=value,...+position:knob=value+...`, taken apart.
struct Spec {
  const Variant* variant = nullptr;
  Knobs knobs;
  std::vector<Position> positions;
};

/// Reads a spec string, e.g. "softmax.window:size=256,sinks=4+rope" or
/// "softmax.flash+rope:scaling=yarn,factor=16+logn". kNotFound (with the
/// nearest names), kInvalid, or kUnsupported where the variant does not take a
/// position.
SACCADE_API Result<Spec> ParseSpec(std::string_view text);

/// Reads what may follow a variant's '+': "rope:base=500+logn"; "" and "none"
/// are no positions. Errors as ParseSpec.
SACCADE_API Result<std::vector<Position>> ParsePositions(const Variant& variant,
                                                         std::string_view text);

/// A problem as a variant sees it: shapes, traits, knobs and position checked,
/// defaults filled in. kInvalid, or kUnsupported with the reason.
SACCADE_API Result<Problem> Resolve(const Variant& variant,
                                    const Problem& problem);

/// Resolves and plans; wraps the plan when a position turns or scales q and k.
SACCADE_API Result<std::unique_ptr<Plan>> MakePlan(const Variant& variant,
                                                   const Problem& problem);

/// From a spec string, whose knobs and position replace the problem's.
SACCADE_API Result<std::unique_ptr<Plan>> MakePlan(std::string_view spec,
                                                   const Problem& problem);

/// Whether a variant takes a problem, or why not.
struct Explanation {
  const Variant* variant = nullptr;
  Status status;
};

/// Asks every variant, with its default knobs, whether it takes the problem.
/// In report order.
SACCADE_API std::vector<Explanation> Explain(const Problem& problem);

/// How many learned parameters a head's bias has in a resolved problem. 0 where
/// the bias is fixed, or there is none.
SACCADE_API int64_t BiasParameters(const Problem& resolved);

/// How many learned numbers a head has in a resolved problem, of the variant or
/// of its bias: those of Inputs::bias.
SACCADE_API int64_t LearnedParameters(const Variant& variant,
                                      const Problem& resolved);

/// They before training, [q_heads][n].
SACCADE_API std::vector<float> LearnedStart(const Variant& variant,
                                            const Problem& resolved);

/// The oracle of a resolved problem, its positions included: turns and scales
/// copies of q and k where a scheme asks for it. Slow and obvious.
SACCADE_API void RunOracle(const Variant& variant, const Problem& resolved,
                           const OracleInputs& in, const OracleOutputs& out);

}  // namespace saccade

#endif  // SACCADE_VARIANT_H_
