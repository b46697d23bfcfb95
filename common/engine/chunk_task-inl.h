// What forward and backward do alike in a chunk: rows in and out, what factors
// come to, products between tokens.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_CHUNK_TASK_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_CHUNK_TASK_INL_H_
#undef SACCADE_COMMON_ENGINE_CHUNK_TASK_INL_H_
#else
#define SACCADE_COMMON_ENGINE_CHUNK_TASK_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "engine/chunk_buffers.h"
#include "engine/chunk_pairs-inl.h"
#include "engine/product-inl.h"
#include "engine/row_ops-inl.h"
#include "engine/rows_ahead.h"
#include "simd/unit_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A share of a head, chunk by chunk.
template <class T>
class ChunkTask {
 protected:
  ChunkTask(const ChunkSpec& spec, const ChunkCall& call, int64_t task,
            const ChunkRoom& room)
      : spec_(spec),
        call_(call),
        r_(room),
        shares_(ChunkShares(spec)),
        share_(task % shares_),
        b_(task / shares_ / spec.kv_heads),
        kv_(task / shares_ % spec.kv_heads),
        group_(spec.q_heads / spec.kv_heads),
        own_(ChunkShare(spec, share_)),
        e_(ChunkPadded(own_.size())) {}

  static constexpr int64_t kSide = kChunkTokens;  // of squares

  int64_t Head(int64_t g) const { return kv_ * group_ + g; }
  bool number() const { return spec_.decay == ChunkDecay::kNumber; }
  bool vector() const { return spec_.decay == ChunkDecay::kVector; }
  // Queries and keys on one axis, on which key 0 is at 0.
  int64_t Positions() const {
    return call_.k.len == 0 ? 0
                            : std::max<int64_t>(0, call_.offset + call_.q.len);
  }
  // Queries that see nothing, and keys that nobody sees.
  Interval BlindQueries() const {
    return {0, call_.k.len == 0 ? call_.q.len : -call_.offset};
  }
  Interval UnseenKeys() const { return {Positions(), call_.k.len}; }
  bool HasQueries(int64_t first, int64_t n) const {
    return first + n > call_.offset;
  }
  // A token's own number; behind the last key 0, which changes nothing.
  float NumberAt(const ConstView& x, int64_t row) const {
    return row < x.len ? OneFloat(x.Row<T>(b_, kv_, row)) : 0.0f;
  }

  bool BeginsGroup(int64_t first) const {
    return spec_.group > 0 && (call_.first + first) % spec_.group == 0;
  }
  // Tokens of the chunk that begins at `first`.
  int64_t ChunkAt(int64_t first) const {
    const int64_t most = std::min(r_.tokens, Positions() - first);
    if (spec_.group == 0) return most;
    return std::min(most, spec_.group - (call_.first + first) % spec_.group);
  }

  Interval AllOfQk() const { return {0, spec_.qk_dim}; }

  // Product(), which asks for the next chunk's rows meanwhile.
  void Multiply(int64_t rows, int64_t inner, int64_t columns, const Factor& a,
                const float* b, int64_t b_stride, float* c, int64_t c_stride,
                Into into, Triangle triangle = Triangle::kNone,
                const float* keep = nullptr) const {
    Product(rows, inner, columns, a, b, b_stride, c, c_stride, into, triangle,
            keep, &ahead_);
  }

  // Has the rows of `count` tokens from `key` on fetched: of what keys have and
  // of what each query head has. Add more, then Share().
  void AskForRows(int64_t key, int64_t count, const View& out) const {
    ahead_.Clear();
    const auto add = [&](const ConstView& x, int64_t h, int64_t first) {
      ahead_.Add(x, b_, h, first, false, count);
    };
    add(call_.k, kv_, key);
    add(call_.v, kv_, key);
    if (vector()) add(call_.decay, kv_, key);
    for (int64_t g = 0; g < group_; ++g) {
      add(call_.q, Head(g), key - call_.offset);
      add(out, Head(g), key - call_.offset);
    }
  }

  // Keys, values (to u), factors and betas of n tokens.
  void LoadKeys(int64_t first, int64_t n) const {
    LoadChunk<T>(call_.k, b_, kv_, first, n, AllOfQk(), r_.k, r_.d);
    if (spec_.unit) ToUnit(n, r_.k, r_.k_inverse);
    LoadChunk<T>(call_.v, b_, kv_, first, n, own_, r_.u, e_);
    TransposeRows(r_.k, r_.d, n, spec_.qk_dim, r_.columns, kSide);
    if (IsDelta(spec_))
      for (int64_t t = 0; t < n; ++t)
        r_.beta[t] = NumberAt(call_.beta, first + t);
    if (number()) Numbers(first, n);
    if (vector()) Vectors(first, n);
  }

  void LoadQueries(int64_t g, int64_t first, int64_t n) const {
    LoadChunk<T>(call_.q, b_, Head(g), first - call_.offset, n, AllOfQk(), r_.q,
                 r_.d);
    if (spec_.unit) ToUnit(n, r_.q, r_.q_inverse);
  }

  void ToUnit(int64_t n, float* rows, double* inverse) const {
    for (int64_t t = 0; t < n; ++t) {
      float* const row = rows + t * r_.d;
      inverse[t] = InverseLength<float>(row, r_.d);
      CombineOf(inverse[t], static_cast<const float*>(row), 0, row, r_.d, row);
    }
  }

  // Gradients of rows first .. first + n - 1 of a head from those of unit rows,
  // in place. By the rows as they are, for those brought to length 1 are
  // rounded, and gradients that lie along them almost cancel.
  void FromUnit(const ConstView& x, int64_t h, int64_t first, int64_t n,
                const double* inverse, float* gradients) const {
    for (int64_t t = 0; t < n; ++t)
      if (first + t >= 0 && first + t < x.len)
        ReturnUnit(x.Row<T>(b_, h, first + t), inverse[t] * inverse[t],
                   inverse[t], x.dim, gradients + t * r_.d);
  }

  // a from x: of `count` floats, whole vectors.
  void ToFactors(int64_t count) const {
    const ProductTag d;
    const auto sharpness = hn::Set(d, spec_.sharpness);
    for (int64_t i = 0; i < count; i += kProductLanes) {
      const auto x = hn::Mul(sharpness, hn::LoadU(d, r_.factor + i));
      hn::StoreU(Exp(d, x), d, r_.factor + i);
    }
  }

  // D, G and what fades to the end.
  void Numbers(int64_t first, int64_t n) const {
    for (int64_t t = 0; t < n; ++t)
      r_.factor[t] = NumberAt(call_.decay, first + t);
    ToFactors(ChunkPadded(n));
    double before = 1;
    for (int64_t t = 0; t < n; ++t) {
      before *= double{r_.factor[t]};
      r_.from[t] = static_cast<float>(before);
      float* const row = r_.between + t * kSide;
      if (t > 0) ScaleRow(r_.factor[t], row - kSide, kSide, row);
      std::fill(row + t, row + kSide, 0.0f);
      row[t] = 1;
    }
    std::copy_n(r_.between + (n - 1) * kSide, n, r_.to);
    std::fill_n(r_.keep, r_.d, r_.from[n - 1]);
  }

  // Rows of G and of what fades to the end.
  void Vectors(int64_t first, int64_t n) const {
    LoadChunk<T>(call_.decay, b_, kv_, first, n, AllOfQk(), r_.factor, r_.d);
    ToFactors(n * r_.d);
    std::copy_n(r_.factor, r_.d, r_.from);
    for (int64_t t = 1; t < n; ++t)
      MultiplyRows(1, r_.from + (t - 1) * r_.d, r_.factor + t * r_.d, r_.d,
                   r_.from + t * r_.d);
    std::fill_n(r_.to + (n - 1) * r_.d, r_.d, 1.0f);
    for (int64_t t = n - 1; t > 0; --t)
      MultiplyRows(1, r_.to + t * r_.d, r_.factor + t * r_.d, r_.d,
                   r_.to + (t - 1) * r_.d);
    std::copy_n(r_.from + (n - 1) * r_.d, r_.d, r_.keep);
  }

  // Rows of keys times what fades to the chunk's end; they themselves where
  // nothing does.
  const float* KeysToEnd(int64_t n) const {
    if (spec_.decay == ChunkDecay::kNone) return r_.k;
    for (int64_t t = 0; t < n; ++t)
      if (vector())
        MultiplyRows(1, r_.k + t * r_.d, r_.to + t * r_.d, r_.d,
                     r_.faded + t * r_.d);
      else
        ScaleRow(r_.to[t], r_.k + t * r_.d, r_.d, r_.faded + t * r_.d);
    return r_.faded;
  }

  // A of the delta rule, `square`, from K K^T.
  void Neighbours(int64_t n) const {
    LowerProduct(n, spec_.qk_dim, {r_.k, r_.d, 1}, r_.columns, kSide, r_.square,
                 kSide, &ahead_);
    if (number())
      for (int64_t t = 0; t < n; ++t)
        MultiplyRows(1, r_.square + t * kSide, r_.between + t * kSide, kSide,
                     r_.square + t * kSide);
  }

  // From values in `y` what the state already says of them.
  void TakeKnown(const float* state, int64_t n, float* y) const {
    const float* keys = r_.k;
    if (number()) {
      for (int64_t t = 0; t < n; ++t)
        ScaleRow(r_.from[t], r_.k + t * r_.d, r_.d, r_.faded + t * r_.d);
      keys = r_.faded;
    }
    Multiply(n, spec_.qk_dim, e_, {keys, r_.d, 1}, state, e_, y, e_,
             Into::kSubtract);
  }

  // y from what TakeKnown left, and u = b y. `square` is A, and then A diag(b).
  void SolveValues(int64_t n, float* y, float* u) const {
    for (int64_t t = 1; t < n; ++t)
      MultiplyRows(1, r_.square + t * kSide, r_.beta, ChunkPadded(t),
                   r_.square + t * kSide);
    Solve<false>(n, e_, {r_.square, kSide, 1}, y, e_);
    for (int64_t t = 0; t < n; ++t)
      ScaleRow(r_.beta[t], y + t * e_, e_, u + t * e_);
  }

  // P of the queries that are loaded, whose upper part may hold anything;
  // `products` receives Q K^T, where factors are numbers.
  void Scores(int64_t n, float* products) const {
    if (vector()) {
      PairScores({n, r_.d, r_.q, r_.k, r_.factor}, spec_.scale, r_.walk, r_.p);
      return;
    }
    LowerProduct(n, spec_.qk_dim, {r_.q, r_.d, 1}, r_.columns, kSide, products,
                 kSide, &ahead_);
    for (int64_t t = 0; t < n; ++t)
      if (number())
        MultiplyRows(spec_.scale, products + t * kSide, r_.between + t * kSide,
                     kSide, r_.p + t * kSide);
      else
        ScaleRow(spec_.scale, products + t * kSide, kSide, r_.p + t * kSide);
  }

  const ChunkSpec& spec_;
  const ChunkCall& call_;
  const ChunkRoom& r_;
  const int64_t shares_, share_, b_, kv_, group_;
  const Interval own_;       // columns of values
  const int64_t e_;          // as many, padded
  mutable RowsAhead ahead_;  // of the chunk that comes next
};

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_CHUNK_TASK_INL_H_
