// Passes of attention in the caller's memory: what they take, and the Plan that
// runs them.
#ifndef SACCADE_PLAN_H_
#define SACCADE_PLAN_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "saccade/exec.h"
#include "saccade/export.h"
#include "saccade/problem.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// Bytes that a pass needs from its caller.
struct Footprint {
  size_t forward_scratch = 0;
  size_t backward_scratch = 0;
  size_t extend_scratch = 0;
  size_t saved = 0;              // kept from Forward for Backward
  size_t state = 0;              // carried between Extends
  size_t sequences_scratch = 0;  // of ForwardSequences
};

constexpr int kMaxExtras = 4;

/// Tensors of a pass. q [B, Hq, Tq, qk_dim], k [B, Hkv, Tk, qk_dim],
/// v [B, Hkv, Tk, v_dim]; extras in the order of Variant::inputs.
/// bias: learned parameters of the variant or of the problem's bias, f32
/// [1, Hq, 1, n], n as LearnedParameters says; null data: initial values. Of
/// alibi: its slopes instead of the paper's, [1 or B, Hq, 1, 1], without a
/// gradient. attn_mask: of the kind that Problem::attn_mask announces; it has
/// no gradient.
struct Inputs {
  ConstView q, k, v;
  std::array<ConstView, kMaxExtras> extra = {};
  ConstView bias = {};
  MaskView attn_mask = {};
};

/// Sequences of different lengths in one pass. The queries of sequence s are
/// rows q_starts[s] .. q_starts[s + 1] - 1 of q [1, Hq, all, qk_dim] and of
/// out.
struct Sequences {
  std::span<const int32_t> q_starts = {};  // [n + 1]
  /// Likewise of k and v [1, Hkv, all, width]; or empty, and they are in pages.
  std::span<const int32_t> kv_starts = {};
  /// Pages: key p of sequence s is row pages[s][p / page] * page + p % page of
  /// k and v; there are kv_lens[s] of them.
  std::span<const int32_t> kv_lens = {};  // [n]
  std::span<const int32_t> pages = {};    // [n][pages.size() / n]
  int64_t page = 0;                       // rows
};

/// out [B, Hq, Tq, v_dim]. lse: log-sum-exp of each row's scores, contiguous
/// [B, Hq, Tq], or null; only variants whose traits say so write it.
struct Outputs {
  View out;
  float* lse = nullptr;
};

/// What Backward reads: the output of Forward, what it saved, and the gradient
/// of the loss by the output. Of softmax variants `out` enters by out.dout
/// only.
struct Upstream {
  ConstView out;
  std::span<const std::byte> saved;
  ConstView dout;
};

/// Where Backward writes; shapes as the inputs'. All are overwritten. dbias:
/// null data where it is not wanted.
struct Gradients {
  View dq, dk, dv;
  std::array<View, kMaxExtras> dextra = {};
  View dbias = {};
};

struct Variant;

/// A variant made for one problem. Immutable; may be shared by threads, each
/// with its own buffers. Passes allocate nothing; all that can fail is checked
/// before the first write, and buffers too small or misaligned (64 bytes) are
/// kInvalid.
class SACCADE_API Plan {
 public:
  virtual ~Plan();
  const Problem& problem() const { return problem_; }

  /// Bytes needed by passes on an Exec of that many slots.
  Footprint Memory(int slots) const { return DoMemory(slots); }

  /// What runs, in a few words for people: the engine and how it cuts the work,
  /// e.g. "tile engine, 64 x 64". SACCADE_VERBOSE=dispatch in the environment
  /// prints it on stderr at every pass, with the target and the slots.
  std::string Describe() const { return DoDescribe(); }

  /// Computes out. `saved` is empty (inference) or Memory().saved bytes that
  /// Backward will read.
  Status Forward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const;

  /// Computes out of up to `batch` sequences of up to q_len queries and kv_len
  /// keys, each to the bits that it has alone. Of keys in pages the last are
  /// those of the queries: a few queries are a step of decoding, to the bits of
  /// Extend. lse: [Hq, all queries]. kUnsupported where a variant or its
  /// positions need more than q, k, v and slopes, and with an attn_mask.
  Status ForwardSequences(const Inputs& in, const Outputs& out,
                          const Sequences& sequences, Bytes scratch,
                          Exec& exec) const;

  /// Computes all gradients. kUnsupported where traits.backward is false.
  Status Backward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const;

  /// Makes `state` the state of an empty sequence.
  Status Reset(Bytes state) const;

  /// Appends n >= 0 tokens (q, k, v and extras of n rows, n <= q_len), computes
  /// their rows of out: any split of a sequence into Extends equals one causal
  /// Forward. kExhausted beyond kv_len tokens, kUnsupported with an attn_mask.
  Status Extend(const Inputs& fresh, const Outputs& out, Bytes state,
                Bytes scratch, Exec& exec) const;

 protected:
  explicit Plan(Problem problem);

  virtual Footprint DoMemory(int slots) const = 0;
  virtual std::string DoDescribe() const;
  virtual void DoForward(const Inputs&, const Outputs&, Bytes saved,
                         Bytes scratch, Exec&) const = 0;
  virtual void DoBackward(const Inputs&, const Upstream&, const Gradients&,
                          Bytes scratch, Exec&) const;
  virtual Status DoForwardSequences(const Inputs&, const Outputs&,
                                    const Sequences&, Bytes scratch,
                                    Exec&) const;
  virtual void DoReset(Bytes state) const;
  virtual Status DoExtend(const Inputs&, const Outputs&, Bytes state,
                          Bytes scratch, Exec&) const;

  Problem problem_;

 private:
  friend Result<std::unique_ptr<Plan>> MakePlan(const Variant&, const Problem&);
  Status CheckExtends() const;
  const Variant* variant_ = nullptr;  // whose traits and inputs bind callers
};

}  // namespace saccade

#endif  // SACCADE_PLAN_H_
