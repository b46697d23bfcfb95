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

/// Row t of x = table[tokens[t]] (+ positions[t mod len], unless null).
void Embed(std::span<const int32_t> tokens, const float* table,
           const float* positions, int64_t len, const Rows& x, Exec& exec);

/// Adds the gradient dx of Embed to dtable (and to dpositions, unless null).
void EmbedBack(std::span<const int32_t> tokens, const Rows& dx, int64_t len,
               float* dtable, float* dpositions, Exec& exec);

/// Per token: the loss -log softmax(scale * logits)[target] in nats, and
/// whether the target is the likeliest symbol; 0 where the target is negative
/// (not scored). Logits become the gradient of weight * (sum of losses) when
/// weight is not 0, by the unscaled logits.
void CrossEntropy(const Rows& logits, const int32_t* targets, float scale,
                  float weight, float* losses, uint8_t* hits);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_OPS_H_
