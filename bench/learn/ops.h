// What a model does between its dense layers, forward and backward. T tokens,
// d the model's width, V symbols. Backward functions add to or set gradients
// as their comments say; all cut their work by shape alone.
#ifndef SACCADE_BENCH_LEARN_OPS_H_
#define SACCADE_BENCH_LEARN_OPS_H_

#include <cstdint>
#include <span>

#include "bench/learn/matrix.h"
#include "saccade/exec.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// y = gain * x / rms(x), by rows; inverse [T] receives 1 / rms(x).
void RmsNorm(const Rows& x, const float* gain, const Rows& y, float* inverse,
             Exec& exec);

/// dx += the gradient by x; dgain (set) by gain. `partial` holds
/// Chunks(T) * d floats of scratch.
void RmsNormBack(const Rows& dy, const Rows& x, const float* gain,
                 const float* inverse, const Rows& dx, float* dgain,
                 float* partial, Exec& exec);

/// y = f(x), or gamma * f(x) + beta by columns when gamma is given.
void Activate(Activation f, const Rows& x, const float* gamma,
              const float* beta, const Rows& y, Exec& exec);

/// Gradients of Activate: dx (set, or added to), and dgamma, dbeta (set) when
/// gamma is given. `partial` holds 2 * Chunks(T) * cols floats of scratch.
void ActivateBack(Activation f, const Rows& dy, const Rows& x,
                  const float* gamma, const Rows& dx, Write write,
                  float* dgamma, float* dbeta, float* partial, Exec& exec);

/// What makes a token a row: of `table`, plus one of `positions` by its place
/// in the sequence, plus shift times the row of the token before it, where
/// there is one. The last two may be null.
template <class Float>
struct Embedding {
  Float *table = nullptr, *positions = nullptr, *shift = nullptr;
};

/// Row t of x, for sequences of `len` tokens.
void Embed(std::span<const int32_t> tokens, const Embedding<const float>& e,
           int64_t len, const Rows& x, Exec& exec);

/// Adds the gradient dx of Embed to those of its parts, of which `shift` and
/// `positions` are null where the parts are.
void EmbedBack(std::span<const int32_t> tokens, const Rows& dx,
               const Embedding<const float>& e, int64_t len,
               const Embedding<float>& gradient, Exec& exec);

/// Per token: the loss -log softmax(scale * logits)[target] in nats, and
/// whether the target is the likeliest symbol; 0 where the target is negative
/// (not scored). Logits become the gradient of weight * (sum of losses) when
/// weight is not 0, by the unscaled logits.
void CrossEntropy(const Rows& logits, const int32_t* targets, float scale,
                  float weight, float* losses, uint8_t* hits);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_OPS_H_
