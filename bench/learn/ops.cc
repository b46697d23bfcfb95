#include "bench/learn/ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "activation.h"

namespace saccade::bench {
namespace {

// e^x to about 2 ulp, in a form that compilers turn into vector code: the
// loops below spend their time here (Cephes' polynomial and reduction).
inline float Exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto exponent = static_cast<int32_t>(n) + 127;
  return p * std::bit_cast<float>(exponent << 23);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

template <Activation kF>
inline float Apply(float x) {
  if constexpr (kF == Activation::kSilu) return x * Sigmoid(x);
  if constexpr (kF == Activation::kSigmoid) return Sigmoid(x);
  if constexpr (kF == Activation::kSoftplus || kF == Activation::kLogSigmoid ||
                kF == Activation::kRelu)
    return static_cast<float>(Activate(kF, x));
  return x;
}

template <Activation kF>
inline float Slope(float x) {
  const float s = Sigmoid(x);
  if constexpr (kF == Activation::kSilu) return s * (1.0f + x * (1.0f - s));
  if constexpr (kF == Activation::kSigmoid) return s * (1.0f - s);
  if constexpr (kF == Activation::kSoftplus) return s;
  if constexpr (kF == Activation::kLogSigmoid) return 1.0f - s;
  if constexpr (kF == Activation::kRelu) return x > 0 ? 1.0f : 0.0f;
  return 1.0f;
}

// Calls f with the activation as a compile-time constant.
template <class F>
void Dispatch(Activation activation, F&& f) {
  switch (activation) {
    case Activation::kSilu:
      return f.template operator()<Activation::kSilu>();
    case Activation::kSigmoid:
      return f.template operator()<Activation::kSigmoid>();
    case Activation::kSoftplus:
      return f.template operator()<Activation::kSoftplus>();
    case Activation::kRelu:
      return f.template operator()<Activation::kRelu>();
    case Activation::kLogSigmoid:
      return f.template operator()<Activation::kLogSigmoid>();
    case Activation::kNone:
      return f.template operator()<Activation::kNone>();
  }
}

// Sums of independent strands: one strand would wait for each addition.
constexpr int kStrands = 8;

template <class F>
inline float Sum(int64_t n, F&& term) {
  float sums[kStrands] = {};
  int64_t i = 0;
  for (; i + kStrands <= n; i += kStrands) {
    for (int s = 0; s < kStrands; ++s) sums[s] += term(i + s);
  }
  float sum = 0;
  for (; i < n; ++i) sum += term(i);
  for (const float s : sums) sum += s;
  return sum;
}

// out[c] = sum over chunks of partial[chunk][c], in order.
void AddUp(const float* partial, int64_t chunks, int64_t cols, float* out) {
  std::fill(out, out + cols, 0.0f);
  for (int64_t k = 0; k < chunks; ++k) {
    for (int64_t c = 0; c < cols; ++c) out[c] += partial[k * cols + c];
  }
}

}  // namespace

void RmsNorm(const Rows& x, const float* gain, const Rows& y, float* inverse,
             Exec& exec) {
  constexpr float kEpsilon = 1e-6f;
  const int64_t d = x.cols;
  exec.For(Chunks(x.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    for (int64_t t = begin; t < end; ++t) {
      const float* const in = x[t];
      float* const out = y[t];
      const float squares = Sum(d, [in](int64_t c) { return in[c] * in[c]; });
      const float scale =
          1.0f / std::sqrt(squares / static_cast<float>(d) + kEpsilon);
      for (int64_t c = 0; c < d; ++c) out[c] = gain[c] * (in[c] * scale);
      inverse[t] = scale;
    }
  });
}

void RmsNormBack(const Rows& dy, const Rows& x, const float* gain,
                 const float* inverse, const Rows& dx, float* dgain,
                 float* partial, Exec& exec) {
  const int64_t d = x.cols;
  exec.For(Chunks(x.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    float* const sums = partial + task * d;
    std::fill(sums, sums + d, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      const float *const in = x[t], *const up = dy[t];
      float* const out = dx[t];
      const float scale = inverse[t];
      // dx = s (g dy) - x s^3 / d sum(g dy x)
      const float dot =
          Sum(d, [=](int64_t c) { return gain[c] * up[c] * in[c]; });
      const float pull = dot * scale * scale * scale / static_cast<float>(d);
      for (int64_t c = 0; c < d; ++c) {
        sums[c] += up[c] * (in[c] * scale);
        out[c] += scale * (gain[c] * up[c]) - pull * in[c];
      }
    }
  });
  AddUp(partial, Chunks(x.rows), d, dgain);
}

void Activate(Activation f, const Rows& x, const float* gamma,
              const float* beta, const Rows& y, Exec& exec) {
  exec.For(Chunks(x.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    Dispatch(f, [&, begin = begin, end = end]<Activation kF>() {
      for (int64_t t = begin; t < end; ++t) {
        const float* const in = x[t];
        float* const out = y[t];
        for (int64_t c = 0; c < x.cols; ++c) out[c] = Apply<kF>(in[c]);
        if (gamma == nullptr) continue;
        for (int64_t c = 0; c < x.cols; ++c) {
          out[c] = gamma[c] * out[c] + beta[c];
        }
      }
    });
  });
}

void ActivateBack(Activation f, const Rows& dy, const Rows& x,
                  const float* gamma, const Rows& dx, Write write,
                  float* dgamma, float* dbeta, float* partial, Exec& exec) {
  const int64_t cols = x.cols, chunks = Chunks(x.rows);
  const bool add = write == Write::kAdd;
  exec.For(chunks, [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    float* const gammas = partial + task * cols;
    float* const betas = gammas + chunks * cols;
    if (gamma != nullptr) {
      std::fill(gammas, gammas + cols, 0.0f);
      std::fill(betas, betas + cols, 0.0f);
    }
    Dispatch(f, [&, begin = begin, end = end]<Activation kF>() {
      for (int64_t t = begin; t < end; ++t) {
        const float *const in = x[t], *const up = dy[t];
        float* const out = dx[t];
        if (gamma == nullptr) {
          for (int64_t c = 0; c < cols; ++c) {
            out[c] = (add ? out[c] : 0.0f) + up[c] * Slope<kF>(in[c]);
          }
          continue;
        }
        for (int64_t c = 0; c < cols; ++c) {
          gammas[c] += up[c] * Apply<kF>(in[c]);
          betas[c] += up[c];
          const float grad = gamma[c] * up[c] * Slope<kF>(in[c]);
          out[c] = (add ? out[c] : 0.0f) + grad;
        }
      }
    });
  });
  if (gamma != nullptr) {
    AddUp(partial, chunks, cols, dgamma);
    AddUp(partial + chunks * cols, chunks, cols, dbeta);
  }
}

void Embed(std::span<const int32_t> tokens, const Embedding<const float>& e,
           int64_t len, const Rows& x, Exec& exec) {
  exec.For(Chunks(x.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    for (int64_t t = begin; t < end; ++t) {
      std::copy_n(e.table + tokens[t] * x.cols, x.cols, x[t]);
      if (e.positions != nullptr) {
        const float* const at = e.positions + t % len * x.cols;
        for (int64_t c = 0; c < x.cols; ++c) x[t][c] += at[c];
      }
      if (e.shift != nullptr && t % len > 0) {
        const float* const before = e.table + tokens[t - 1] * x.cols;
        for (int64_t c = 0; c < x.cols; ++c) x[t][c] += e.shift[c] * before[c];
      }
    }
  });
}

void EmbedBack(std::span<const int32_t> tokens, const Rows& dx,
               const Embedding<const float>& e, int64_t len,
               const Embedding<float>& gradient, Exec& exec) {
  // Tokens share rows of the table, so the work is cut by columns.
  constexpr int64_t kCols = 32;
  exec.For((dx.cols + kCols - 1) / kCols, [&](int64_t task, int) {
    const int64_t begin = task * kCols;
    const int64_t end = std::min(begin + kCols, dx.cols);
    for (int64_t t = 0; t < dx.rows; ++t) {
      const float* const up = dx[t];
      float* const row = gradient.table + tokens[t] * dx.cols;
      for (int64_t c = begin; c < end; ++c) row[c] += up[c];
      if (gradient.positions != nullptr) {
        float* const at = gradient.positions + t % len * dx.cols;
        for (int64_t c = begin; c < end; ++c) at[c] += up[c];
      }
      if (gradient.shift == nullptr || t % len == 0) continue;
      const int64_t before = tokens[t - 1] * dx.cols;
      for (int64_t c = begin; c < end; ++c) {
        gradient.table[before + c] += e.shift[c] * up[c];
        gradient.shift[c] += e.table[before + c] * up[c];
      }
    }
  });
}

void CrossEntropy(const Rows& logits, const int32_t* targets, float scale,
                  float weight, float* losses, uint8_t* hits) {
  const int64_t n = logits.cols;
  for (int64_t t = 0; t < logits.rows; ++t) {
    float* const z = logits[t];
    losses[t] = 0;
    hits[t] = 0;
    if (targets[t] < 0) {
      if (weight != 0) std::fill(z, z + n, 0.0f);
      continue;
    }
    float top = z[0];
    for (int64_t c = 1; c < n; ++c) top = z[c] > top ? z[c] : top;
    const float chosen = z[targets[t]];
    for (int64_t c = 0; c < n; ++c) z[c] = Exp(scale * (z[c] - top));
    const float sum = Sum(n, [z](int64_t c) { return z[c]; });
    losses[t] = std::log(sum) - scale * (chosen - top);
    hits[t] = chosen >= top;
    if (weight == 0) continue;
    const float share = weight * scale / sum;
    for (int64_t c = 0; c < n; ++c) z[c] *= share;
    z[targets[t]] -= weight * scale;
  }
}

}  // namespace saccade::bench
