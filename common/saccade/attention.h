// The easy way in: an attention chosen by name, with its own buffers.
//
//   saccade::Problem problem{.q_heads = 8, .kv_heads = 8, .q_len = 1024,
//                            .kv_len = 1024, .qk_dim = 64, .v_dim = 64,
//                            .mask = saccade::Mask::kCausal};
//   auto attention = saccade::Attention::Make("softmax.flash+rope", problem);
//   if (!attention.ok()) return Complain(attention.status().message());
//   saccade::Status status = attention->Forward({q, k, v}, {out});
#ifndef SACCADE_ATTENTION_H_
#define SACCADE_ATTENTION_H_

#include <cstddef>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "saccade/exec.h"
#include "saccade/export.h"
#include "saccade/status.h"
#include "saccade/variant.h"

namespace saccade {

/// Uninitialised memory, aligned to 64 bytes as plans want it.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size)
      : memory_(size ? static_cast<std::byte*>(
                           ::operator new (size, std::align_val_t{64}))
                     : nullptr),
        size_(size) {}
  Bytes bytes() const { return {memory_.get(), size_}; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const {
      ::operator delete (p, std::align_val_t{64});
    }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t size_ = 0;
};

/// A plan, an Exec, and the memory that passes need, allocated when first
/// used and kept. One object serves one thread at a time; a Plan shared by
/// threads, each with its own buffers, is the way to serve many.
class SACCADE_API Attention {
 public:
  /// From a spec string, e.g. "softmax.window:size=256,sinks=4+rope". For
  /// decoding, problem.kv_len is the longest sequence and problem.q_len the
  /// most tokens of one Extend. threads: 0 is as many as the machine has, 1
  /// runs on the caller's. kNotFound, kInvalid, kUnsupported: why not.
  static Result<Attention> Make(std::string_view spec, const Problem& problem,
                                int threads = 0);

  const Plan& plan() const { return *plan_; }
  Exec& exec() const { return *exec_; }

  /// Computes out. `keep`: also what Backward needs.
  Status Forward(const Inputs& in, const Outputs& out, bool keep = false);

  /// Computes out of sequences of different lengths: Plan::ForwardSequences.
  Status ForwardSequences(const Inputs& in, const Outputs& out,
                          const Sequences& sequences);

  /// Gradients of the last Forward that kept; kInvalid when there was none.
  /// `out` is what it computed.
  Status Backward(const Inputs& in, const ConstView& out, const ConstView& dout,
                  const Gradients& grad);

  /// Starts a new sequence. Called by the first Extend if never before.
  Status Reset();

  /// Appends tokens to the sequence and computes their rows of out.
  Status Extend(const Inputs& fresh, const Outputs& out);

 private:
  Attention(std::unique_ptr<Plan> plan, std::unique_ptr<Exec> exec);

  std::unique_ptr<Plan> plan_;
  std::unique_ptr<Exec> owned_;
  Exec* exec_;
  Buffer scratch_, saved_, state_;
  bool kept_ = false, started_ = false;
};

}  // namespace saccade

#endif  // SACCADE_ATTENTION_H_
