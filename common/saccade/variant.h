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
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// Which keys a query may see before the variant narrows it further.
/// kCausal aligns at the bottom right: key j is visible to query i when
/// j <= i + kv_len - q_len. kCausalTopLeft: when j <= i.
enum class Mask : uint8_t { kNone, kCausal, kCausalTopLeft };
const char* NameOf(Mask);

/// Named settings, of a variant or a position scheme: numbers or words.
class Knobs {
 public:
  struct Entry {
    std::string name;
    double number = 0;
    std::string text;  // the word, or the number as it was written
  };

  Knobs() = default;
  Knobs(std::initializer_list<std::pair<std::string_view, double>> numbers);

  void Set(std::string_view name, double number);
  void SetText(std::string_view name, std::string_view text);
  const Entry* Find(std::string_view name) const;
  /// The value, which must be there: plans see resolved knobs, all of them.
  double Number(std::string_view name) const;
  int64_t Int(std::string_view name) const;
  const std::string& Text(std::string_view name) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

/// A knob as declared: its default, range and meaning.
struct Knob {
  std::string_view name;
  std::string_view doc;  // one line, with the unit
  double initial = 0, low = 0, high = 0;
  bool integer = true;
  /// Not empty: the knob is a word. "a|b|c" lists the choices, the first is
  /// the default; "*" takes any text, by default none.
  std::string_view choices = {};
};

/// Blocks of keys seen by each block of queries, in rows as in CSR. Row r holds
/// columns[offsets[r]] .. columns[offsets[r + 1] - 1], ascending.
struct BlockMask {
  int64_t block = 64;  // tokens
  std::vector<int64_t> offsets;
  std::vector<int64_t> columns;
};

/// A position scheme: none, sinusoidal, learned, rope, alibi.
struct Position {
  std::string name = "none";
  Knobs knobs;
};

/// Everything a plan may specialise on.
struct Problem {
  int64_t batch = 1;
  int64_t q_heads = 1, kv_heads = 1;  // q_heads is a multiple of kv_heads
  int64_t q_len = 0, kv_len = 0;      // tokens; kv_len: capacity for Extend
  int64_t qk_dim = 0, v_dim = 0;      // width of a head
  DType dtype = DType::kF32;
  Mask mask = Mask::kNone;
  int64_t window = 0;  // keys, itself included; 0: no limit. Cuts any mask
  float scale = 0;     // of scores; 0: the variant's own default
  Position position = {};
  Knobs knobs = {};
  std::shared_ptr<const BlockMask> blocks = nullptr;  // the caller's own
};

/// Bytes that a pass needs from its caller.
struct Footprint {
  size_t forward_scratch = 0;
  size_t backward_scratch = 0;
  size_t extend_scratch = 0;
  size_t saved = 0;  // kept from Forward for Backward
  size_t state = 0;  // carried between Extends
};

constexpr int kMaxExtras = 4;

/// Tensors of a pass. q [B, Hq, Tq, qk_dim], k [B, Hkv, Tk, qk_dim],
/// v [B, Hkv, Tk, v_dim]; extras in the order of Variant::inputs.
struct Inputs {
  ConstView q, k, v;
  std::array<ConstView, kMaxExtras> extra = {};
};

/// out [B, Hq, Tq, v_dim]. lse: log-sum-exp of each row's scores, contiguous
/// [B, Hq, Tq], or null; only variants whose traits say so write it.
struct Outputs {
  View out;
  float* lse = nullptr;
};

/// What Backward reads: the output of Forward, what it saved, and the gradient
/// of the loss by the output.
struct Upstream {
  ConstView out;
  std::span<const std::byte> saved;
  ConstView dout;
};

/// Where Backward writes; shapes as the inputs'. All are overwritten.
struct Gradients {
  View dq, dk, dv;
  std::array<View, kMaxExtras> dextra = {};
};

struct Variant;

/// A variant made for one problem. Immutable; may be shared by threads, each
/// with its own buffers. Passes allocate nothing; all that can fail is checked
/// before the first write, and buffers too small or misaligned (64 bytes) are
/// kInvalid.
class Plan {
 public:
  virtual ~Plan() = default;
  const Problem& problem() const { return problem_; }

  /// Bytes needed by passes on an Exec of that many slots.
  Footprint Memory(int slots) const { return DoMemory(slots); }

  /// Computes out. `saved` is empty (inference) or Memory().saved bytes that
  /// Backward will read.
  Status Forward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const;

  /// Computes all gradients. kUnsupported where traits.backward is false.
  Status Backward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const;

  /// Makes `state` the state of an empty sequence.
  Status Reset(Bytes state) const;

  /// Appends n >= 0 tokens (fresh q, k, v and extras of n rows, n <= q_len) and
  /// computes their n rows of out: any split of a sequence into Extends equals
  /// one causal Forward. kExhausted when more than kv_len tokens would be held.
  Status Extend(const Inputs& fresh, const Outputs& out, Bytes state,
                Bytes scratch, Exec& exec) const;

 protected:
  explicit Plan(Problem problem) : problem_(std::move(problem)) {}

  virtual Footprint DoMemory(int slots) const = 0;
  virtual void DoForward(const Inputs&, const Outputs&, Bytes saved,
                         Bytes scratch, Exec&) const = 0;
  virtual void DoBackward(const Inputs&, const Upstream&, const Gradients&,
                          Bytes scratch, Exec&) const;
  virtual void DoReset(Bytes state) const;
  virtual Status DoExtend(const Inputs&, const Outputs&, Bytes state,
                          Bytes scratch, Exec&) const;

  Problem problem_;

 private:
  friend Result<std::unique_ptr<Plan>> MakePlan(const Variant&, const Problem&);
  Status CheckExtends() const;
  const Variant* variant_ = nullptr;  // whose traits and inputs bind callers
};

/// What a variant can do.
struct Traits {
  bool causal = true;         // Mask::kCausal, kCausalTopLeft
  bool bidirectional = true;  // Mask::kNone
  bool cross = true;          // q_len != kv_len
  bool grouped_heads = true;  // q_heads != kv_heads
  bool window = false;        // Problem::window
  bool bias = false;          // positions added to scores (alibi)
  bool rotary = true;         // positions that turn q and k (rope)
  bool lse = false;           // writes Outputs::lse
  bool bf16 = true;
  bool rounds_weights = false;  // of bf16, where the CPU multiplies bf16
  bool backward = true;
  bool extend = true;  // for causal problems
};

enum class Activation : uint8_t { kNone, kSilu, kSigmoid };

/// An input beyond q, k and v, and how a layer makes it from its tokens x:
/// activation(x W).
struct ExtraInput {
  std::string_view name;
  std::string_view doc;
  bool per_query = true;    // rows of queries and q_heads, or of keys, kv_heads
  bool value_width = true;  // v_dim wide, or 1
  Activation activation = Activation::kNone;
};

/// How a layer makes q, k and v from its tokens x.
struct Layer {
  int heads = 0;           // 0: the model's
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
std::span<const Variant* const> Variants();

/// By name; null when there is none.
const Variant* Find(std::string_view name);

/// `name:knob=value,...+position:knob=value`, taken apart.
struct Spec {
  const Variant* variant = nullptr;
  Knobs knobs;
  Position position;
};

/// Reads a spec string, e.g. "softmax.window:size=256,sinks=4+rope". kNotFound
/// (with the nearest names) or kInvalid.
Result<Spec> ParseSpec(std::string_view text);

/// A problem as a variant sees it: shapes, traits, knobs and position checked,
/// defaults filled in. kInvalid, or kUnsupported with the reason.
Result<Problem> Resolve(const Variant& variant, const Problem& problem);

/// Resolves and plans; wraps the plan when the position turns q and k.
Result<std::unique_ptr<Plan>> MakePlan(const Variant& variant,
                                       const Problem& problem);

/// From a spec string, whose knobs and position replace the problem's.
Result<std::unique_ptr<Plan>> MakePlan(std::string_view spec,
                                       const Problem& problem);

/// The oracle of a resolved problem, its position included: rotates copies of
/// q and k where the scheme asks for it. Slow and obvious.
void RunOracle(const Variant& variant, const Problem& resolved,
               const OracleInputs& in, const OracleOutputs& out);

}  // namespace saccade

#endif  // SACCADE_VARIANT_H_
