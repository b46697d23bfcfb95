// The chunk engine's backward pass: chunks from the last to the first, each
// made again from the state that forward kept of it.
//
// With Z = dY and lower and upper parts as in chunk.h:
//
//   dU = P^T dO + K_end dS'            M = scale lower(dO U^T (.) D)
//   dQ = M K + scale G (.) (dO S^T)    dK += M^T Q + fade (.) (U dS'^T)
//   dS = keep (.) dS' + scale (G (.) Q)^T dO
//
// and of the delta rule, whose dU is solved for first by the transposed system:
//
//   Z = b (.) dU, dV = Z, db = Y.dU    N = -below(Z U^T (.) D)
//   dK += N K + N^T K - G (.) (Z S^T)  dS -= (G (.) K)^T Z
//
// A factor's logarithm has the gradients of all that fades through it: of pairs
// around it, of queries behind it by the state before, of keys before it by the
// state after, and of the state itself. These are sums, not differences of what
// queries and keys have, so that nothing cancels.
#include <algorithm>

#include "content_free.h"
#include "engine/chunk.h"
#include "engine/chunk_buffers.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/chunk_backward.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "engine/chunk_task-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

template <class T>
class ChunkBackwardTask : ChunkTask<T> {
  using Base = ChunkTask<T>;
  using Base::ahead_, Base::b_, Base::call_, Base::e_, Base::kSide, Base::kv_,
      Base::own_, Base::r_, Base::spec_;

 public:
  ChunkBackwardTask(const ChunkSpec& spec, const ChunkCall& call,
                    const ChunkSums& to, int64_t task,
                    const ChunkBackwardRoom& room)
      : Base(spec, call, task, room.room), w_(room), to_(to) {}

  void Run() {
    const int64_t len = this->Positions();
    for (int64_t g = 0; g < this->group_; ++g)
      Clear(to_.dq, this->Head(g), this->BlindQueries());
    for (const View& x : {to_.dk, to_.ddecay, to_.dbeta})
      if (x.data != nullptr) Clear(x, kv_, this->UnseenKeys());
    ClearRows<T>(to_.dv, b_, kv_, this->UnseenKeys(), own_);
    // Transposes leave what is behind their last vector as it is.
    for (float* const x : {w_.dstate, w_.turned, w_.dturned})
      std::fill_n(x, r_.d * e_, 0.0f);
    if (spec_.group > 0) std::fill_n(w_.dseen, r_.d * e_, 0.0f);
    for (int64_t c = Chunks(spec_, len); c-- > 0;) {
      const int64_t first = c * r_.tokens;
      AskForChunk(c - 1);
      OneChunk(c, first, std::min(r_.tokens, len - first));
    }
  }

 private:
  static constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

  bool delta() const { return IsDelta(spec_); }

  const float* Kept(int64_t chunk) const {
    const int64_t head = b_ * spec_.kv_heads + kv_;
    return call_.states +
           (head * Chunks(spec_, this->Positions()) + chunk) *
               ChunkStateOffset(spec_, this->shares_) +
           ChunkStateOffset(spec_, this->share_);
  }

  // Asks for what chunk c will touch, if there is one.
  void AskForChunk(int64_t c) {
    const int64_t first = c * r_.tokens;
    this->AskForRows(first, r_.tokens, to_.dq);
    for (int64_t g = 0; g < this->group_; ++g)
      ahead_.Add(to_.dout, b_, this->Head(g), first - call_.offset, false,
                 r_.tokens);
    if (c < 0) return;
    ahead_.Add(to_.dk, b_, kv_, first, false, r_.tokens);
    ahead_.Add(to_.dv, b_, kv_, first, false, r_.tokens);
    ahead_.Add(Kept(c), e_ * kFloat, e_ * kFloat, spec_.qk_dim);
    if (this->vector())
      ahead_.Add(to_.ddecay, b_, kv_, first, false, r_.tokens);
    // Of updates and read-outs, of the state and of its gradient.
    const int64_t step = 2 * kProductLanes;
    ahead_.Share((e_ + step - 1) / step * (r_.d + 3 * r_.tokens) /
                 kProductRows);
  }

  void OneChunk(int64_t chunk, int64_t first, int64_t n) {
    // In groups queries see what their group found.
    state_ =
        Kept(spec_.group > 0 ? first / spec_.group * spec_.group / r_.tokens
                             : chunk);
    n_ = n;
    this->LoadKeys(first, n);
    TransposeRows(state_, e_, spec_.qk_dim, e_, w_.turned, r_.d);
    TransposeRows(w_.dstate, e_, spec_.qk_dim, e_, w_.dturned, r_.d);
    if (delta()) {
      this->Neighbours(n);
      std::copy_n(r_.square, n * kSide, w_.weights);
      std::copy_n(r_.u, n * e_, w_.y);
      this->TakeKnown(state_, n, w_.y);
      this->SolveValues(n, w_.y, r_.u);
    }
    std::fill_n(w_.dk, n * r_.d, 0.0f);
    ClearFactors();
    // By the state after: dU, and U's share of dK.
    this->Multiply(n, spec_.qk_dim, e_, {this->KeysToEnd(n), r_.d, 1},
                   w_.dstate, e_, w_.du, e_, Into::kSet);
    KeysByState();
    FadeState();
    // Columns of k are not needed any more; those of u are.
    for (int64_t g = 0; this->HasQueries(first, n) && g < this->group_; ++g)
      Queries(g, first);
    if (delta()) Values();
    const auto store = [&](const float* from, int64_t stride, const View& x,
                           Interval columns) {
      Store(from, stride, x, kv_, first, columns);
    };
    if (this->BeginsGroup(first)) {
      ScaleRow<true>(1, w_.dseen, r_.d * e_, w_.dstate);
      std::fill_n(w_.dseen, r_.d * e_, 0.0f);
    }
    if (spec_.unit) this->FromUnit(call_.k, kv_, first, n, r_.k_inverse, w_.dk);
    store(w_.dk, r_.d, to_.dk, this->AllOfQk());
    StoreChunk<T>(w_.du, e_, to_.dv, b_, kv_, first, n, own_);
    if (this->number() || this->vector()) StoreFactors(first);
    if (delta())
      for (int64_t t = 0; t < n; ++t)
        Store(w_.dbeta + t, 1, 1, to_.dbeta, kv_, first + t, {0, 1});
  }

  // Rows of gradients that shares add up are floats, one share after another.
  void Store(const float* from, int64_t stride, int64_t n, const View& x,
             int64_t h, int64_t first, Interval columns) const {
    if (this->shares_ > 1)
      StoreChunk<float>(from, stride, x, this->share_ * spec_.batch + b_, h,
                        first, n, columns);
    else
      StoreChunk<T>(from, stride, x, b_, h, first, n, columns);
  }
  void Store(const float* from, int64_t stride, const View& x, int64_t h,
             int64_t first, Interval columns) const {
    Store(from, stride, n_, x, h, first, columns);
  }

  void Clear(const View& x, int64_t h, Interval rows) const {
    const Interval all{0, x.dim};
    if (this->shares_ > 1)
      ClearRows<float>(x, this->share_ * spec_.batch + b_, h, rows, all);
    else
      ClearRows<T>(x, b_, h, rows, all);
  }

  void ClearFactors() const {
    std::fill_n(w_.dlog, ChunkRoom::Factors(spec_), 0.0f);
    if (this->number())
      for (int64_t t = 0; t < n_; ++t)
        std::fill_n(w_.dp + t * kSide, kSide, 0.0f);
  }

  // dk = fade (.) (U dS'^T), and its share of factors: keys before each.
  void KeysByState() const {
    this->Multiply(n_, own_.size(), r_.d, {r_.u, e_, 1}, w_.dturned, r_.d,
                   w_.dk, r_.d, Into::kSet);
    float before = 0;
    for (int64_t s = 0; s < n_; ++s) {
      float* const row = w_.dk + s * r_.d;
      const float* const key = r_.k + s * r_.d;
      if (this->vector()) {
        MultiplyRows(1, row, r_.to + s * r_.d, r_.d, row);
        if (s + 1 == n_) break;
        // Sums up to s stand at s + 1.
        float* const next = w_.dlog + (s + 1) * r_.d;
        MultiplyRows(1, row, key, r_.d, next);
        ScaleRow<true>(1, w_.dlog + s * r_.d, r_.d, next);
      } else if (this->number()) {
        ScaleRow(r_.to[s], row, r_.d, row);
        w_.dlog[s] = before;
        before += DotRows(row, key, r_.d);
      }
    }
  }

  // dS = keep (.) dS', and what that is worth to every factor.
  void FadeState() const {
    if (spec_.decay == ChunkDecay::kNone) return;
    float all = 0;
    for (int64_t f = 0; f < spec_.qk_dim; ++f) {
      float* const row = w_.dstate + f * e_;
      ScaleRow(r_.keep[f], row, e_, row);
      const float along = DotRows(row, state_ + f * e_, e_);
      all += along;
      if (this->vector())
        for (int64_t t = 0; t < n_; ++t) w_.dlog[t * r_.d + f] += along;
    }
    for (int64_t t = 0; this->number() && t < n_; ++t) w_.dlog[t] += all;
  }

  // Adds rows x (.) g, which fade from the state before, to the factors up to
  // each.
  void AddBehind(const float* x, const float* g) const {
    if (this->vector()) {
      std::fill_n(r_.walk, r_.d, 0.0f);
      for (int64_t t = n_; t-- > 0;) {
        const ProductTag d;
        for (int64_t i = 0; i < r_.d; i += kProductLanes) {
          const auto sum = hn::MulAdd(hn::LoadU(d, x + t * r_.d + i),
                                      hn::LoadU(d, g + t * r_.d + i),
                                      hn::LoadU(d, r_.walk + i));
          hn::StoreU(sum, d, r_.walk + i);
          float* const to = w_.dlog + t * r_.d + i;
          hn::StoreU(hn::Add(sum, hn::LoadU(d, to)), d, to);
        }
      }
    } else if (this->number()) {
      float sum = 0;
      for (int64_t t = n_; t-- > 0;) {
        sum += DotRows(x + t * r_.d, g + t * r_.d, r_.d);
        w_.dlog[t] += sum;
      }
    }
  }

  // Lower part of x (.) D by scale, in place: gradients of products of tokens.
  // What they are worth to factors is added to `dp`.
  void FadePairs(float scale, const float* products, float* x,
                 bool strict) const {
    for (int64_t t = 0; t < n_; ++t) {
      float* const row = x + t * kSide;
      if (this->number())
        MultiplyRows(scale, row, r_.between + t * kSide, kSide, row);
      else
        ScaleRow(scale, row, kSide, row);
      std::fill(row + t + (strict ? 0 : 1), row + kSide, 0.0f);
      if (this->number())
        for (int64_t s = 0; s < t; ++s)
          w_.dp[t * kSide + s] += row[s] * products[t * kSide + s];
    }
  }

  // x U^T of rows of values: `columns` holds U's.
  void ByValues(const float* x, float* square) const {
    LowerProduct(n_, own_.size(), {x, e_, 1}, r_.columns, kSide, square, kSide,
                 &ahead_);
  }

  // dU by pairs, and dP.
  void Pairs() const {
    this->Scores(n_, w_.products);
    for (int64_t t = 0; t < n_; ++t)
      std::fill(r_.p + t * kSide + t + 1, r_.p + (t + 1) * kSide, 0.0f);
    // The transpose's rows are tokens s, and t >= s count.
    this->Multiply(n_, n_, e_, {r_.p, 1, kSide}, r_.o, e_, w_.du, e_,
                   Into::kAdd, Triangle::kUpper);
    TransposeRows(r_.u, e_, n_, own_.size(), r_.columns, kSide);
    ByValues(r_.o, r_.p);  // dP, in place of P
  }

  void Queries(int64_t g, int64_t first) const {
    const int64_t h = this->Head(g);
    this->LoadQueries(g, first, n_);
    if (g > 0 && !this->vector())
      TransposeRows(r_.k, r_.d, n_, spec_.qk_dim, r_.columns, kSide);
    LoadChunk<T>(to_.dout, b_, h, first - call_.offset, n_, own_, r_.o, e_);
    if (spec_.group == 0) Pairs();
    // By the state before: dQ = scale G (.) (dO S^T), dS += (..Q)^T dO.
    this->Multiply(n_, own_.size(), r_.d, {r_.o, e_, 1}, w_.turned, r_.d, w_.dq,
                   r_.d, Into::kSet);
    for (int64_t t = 0; t < n_; ++t) {
      float* const row = w_.dq + t * r_.d;
      const float* const q = r_.q + t * r_.d;
      float* const faded = r_.faded + t * r_.d;
      if (this->vector()) {
        MultiplyRows(spec_.scale, row, r_.from + t * r_.d, r_.d, row);
        MultiplyRows(spec_.scale, q, r_.from + t * r_.d, r_.d, faded);
      } else {
        const float by =
            this->number() ? spec_.scale * r_.from[t] : spec_.scale;
        ScaleRow(by, row, r_.d, row);
        ScaleRow(by, q, r_.d, faded);
      }
    }
    AddBehind(r_.q, w_.dq);
    this->Multiply(spec_.qk_dim, n_, e_, {r_.faded, 1, r_.d}, r_.o, e_,
                   spec_.group > 0 ? w_.dseen : w_.dstate, e_, Into::kAdd);
    if (spec_.group > 0) {
      // Queries and keys of a chunk do not meet.
    } else if (this->vector()) {
      for (int64_t t = 0; t < n_; ++t)
        ScaleRow(spec_.scale, r_.p + t * kSide, kSide, r_.p + t * kSide);
      PairGradients({n_, r_.d, r_.q, r_.k, r_.factor}, r_.p, w_.dq, w_.dk,
                    w_.dlog);
    } else {
      FadePairs(spec_.scale, w_.products, r_.p, false);
      this->Multiply(n_, n_, r_.d, {r_.p, kSide, 1}, r_.k, r_.d, w_.dq, r_.d,
                     Into::kAdd, Triangle::kLower);
      this->Multiply(n_, n_, r_.d, {r_.p, 1, kSide}, r_.q, r_.d, w_.dk, r_.d,
                     Into::kAdd, Triangle::kUpper);
    }
    if (spec_.unit)
      this->FromUnit(call_.q, h, first - call_.offset, n_, r_.q_inverse, w_.dq);
    Store(w_.dq, r_.d, to_.dq, h, first - call_.offset, this->AllOfQk());
  }

  // From dU before the system to Z = dV, in `du`; betas and keys.
  void Values() const {
    // b (.) A: what Neighbours left, before it was multiplied by columns.
    for (int64_t t = 0; t < n_; ++t)
      ScaleRow(r_.beta[t], w_.weights + t * kSide, kSide,
               r_.square + t * kSide);
    Solve<true>(n_, e_, Factor{r_.square, kSide, 1}.Transposed(), w_.du, e_);
    for (int64_t t = 0; t < n_; ++t) {
      float* const row = w_.du + t * e_;
      w_.dbeta[t] = DotRows(row, w_.y + t * e_, e_);
      ScaleRow(r_.beta[t], row, e_, row);
    }
    TransposeRows(r_.u, e_, n_, own_.size(), r_.columns, kSide);
    ByValues(w_.du, r_.p);
    Neighbourhood();
    this->Multiply(n_, n_, r_.d, {r_.p, kSide, 1}, r_.k, r_.d, w_.dk, r_.d,
                   Into::kAdd, Triangle::kLower);
    this->Multiply(n_, n_, r_.d, {r_.p, 1, kSide}, r_.k, r_.d, w_.dk, r_.d,
                   Into::kAdd, Triangle::kUpper);
    // By the state before.
    for (int64_t t = 0; t < n_; ++t)
      ScaleRow(this->number() ? -r_.from[t] : -1.0f, w_.du + t * e_, e_,
               w_.rows + t * e_);
    this->Multiply(n_, own_.size(), r_.d, {w_.rows, e_, 1}, w_.turned, r_.d,
                   w_.more, r_.d, Into::kSet);
    AddBehind(r_.k, w_.more);
    for (int64_t t = 0; t < n_; ++t)
      ScaleRow<true>(1, w_.more + t * r_.d, r_.d, w_.dk + t * r_.d);
    this->Multiply(spec_.qk_dim, n_, e_, {r_.k, 1, r_.d}, w_.rows, e_,
                   w_.dstate, e_, Into::kAdd);
  }

  // N from Z U^T, in `p`. A, which `weights` holds, has D already.
  void Neighbourhood() const {
    for (int64_t t = 0; t < n_; ++t) {
      float* const row = r_.p + t * kSide;
      if (this->number())
        for (int64_t s = 0; s < t; ++s)
          w_.dp[t * kSide + s] -= row[s] * w_.weights[t * kSide + s];
      if (this->number())
        MultiplyRows(-1, row, r_.between + t * kSide, kSide, row);
      else
        ScaleRow(-1, row, kSide, row);
      std::fill(row + t, row + kSide, 0.0f);
    }
  }

  // Pairs around each factor, and out.
  void StoreFactors(int64_t first) const {
    if (this->number()) {
      for (int64_t r = 1; r < n_; ++r) {
        float sum = 0;
        for (int64_t t = r; t < n_; ++t) {
          // `dp` becomes sums along rows.
          float* const row = w_.dp + t * kSide;
          if (r > 1) row[r - 1] += row[r - 2];
          sum += row[r - 1];
        }
        w_.dlog[r] += sum;
      }
      for (int64_t t = 0; t < n_; ++t) {
        w_.dlog[t] *= spec_.sharpness;
        Store(w_.dlog + t, 1, 1, to_.ddecay, kv_, first + t, {0, 1});
      }
      return;
    }
    for (int64_t t = 0; t < n_; ++t)
      ScaleRow(spec_.sharpness, w_.dlog + t * r_.d, r_.d, w_.dlog + t * r_.d);
    Store(w_.dlog, r_.d, to_.ddecay, kv_, first, this->AllOfQk());
  }

  const ChunkBackwardRoom& w_;
  const ChunkSums& to_;
  const float* state_ = nullptr;
  int64_t n_ = 0;
};

void AnyChunkBackward(const ChunkSpec& spec, const ChunkCall& call,
                      const ChunkSums& to, int64_t task,
                      const ChunkBackwardRoom& room) {
  if (spec.dtype == DType::kF32)
    ChunkBackwardTask<float>(spec, call, to, task, room).Run();
  else
    ChunkBackwardTask<BF16>(spec, call, to, task, room).Run();
}

// x = the sum over shares of what each made of it.
template <class T>
void AddShares(const View& parts, const View& x, int64_t b, int64_t h,
               int64_t first, int64_t end) {
  const int64_t shares = parts.batch / x.batch;
  for (int64_t t = first; t < end; ++t) {
    float* const sum = parts.Row<float>(b, h, t);
    for (int64_t s = 1; s < shares; ++s) {
      const float* const part = parts.Row<float>(s * x.batch + b, h, t);
      for (int64_t c = 0; c < x.dim; ++c) sum[c] += part[c];
    }
    ConvertRow(sum, static_cast<size_t>(x.dim), x.Row<T>(b, h, t));
  }
}

void AnyAddShares(const View& parts, const View& x, int64_t b, int64_t h,
                  int64_t first, int64_t end) {
  if (x.dtype == DType::kF32)
    AddShares<float>(parts, x, b, h, first, end);
  else
    AddShares<BF16>(parts, x, b, h, first, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(AnyChunkBackward);
HWY_EXPORT(AnyAddShares);

struct BackwardScratch {
  BackwardScratch(Arena& a, const ChunkSpec& spec, int64_t q_len,
                  int64_t kv_len) {
    const int64_t shares = ChunkShares(spec);
    if (shares == 1) return;
    const auto take = [&](int64_t heads, int64_t len, int64_t dim) {
      const int64_t batch = shares * spec.batch;
      return Contiguous<void>(a.Take<float>(batch * heads * len * dim),
                              DType::kF32, batch, heads, len, dim);
    };
    dq = take(spec.q_heads, q_len, spec.qk_dim);
    dk = take(spec.kv_heads, kv_len, spec.qk_dim);
    if (spec.decay != ChunkDecay::kNone)
      ddecay = take(spec.kv_heads, kv_len,
                    spec.decay == ChunkDecay::kNumber ? 1 : spec.qk_dim);
    if (IsDelta(spec)) dbeta = take(spec.kv_heads, kv_len, 1);
  }
  View dq, dk, ddecay, dbeta;
};

size_t RoomBytes(const ChunkSpec& spec) {
  Arena count;
  ChunkBackwardRoom(count, spec);
  return count.used();
}

void AddAllShares(const View& parts, const View& x, Exec& exec) {
  if (parts.data == nullptr) return;
  ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AnyAddShares)(parts, x, b, h, first, end);
  });
}

}  // namespace

size_t ChunkBackwardScratch(const ChunkSpec& spec, int64_t q_len,
                            int64_t kv_len, int slots) {
  Arena count;
  BackwardScratch(count, spec, q_len, kv_len);
  return count.used() + static_cast<size_t>(slots) * RoomBytes(spec);
}

void ChunkBackward(const ChunkSpec& spec, const ChunkBackwardCall& call,
                   Bytes scratch, Exec& exec) {
  Arena arena(scratch);
  const BackwardScratch parts(arena, spec, call.forward.q.len,
                              call.forward.k.len);
  const Bytes slots = scratch.subspan(arena.used());
  const bool shared = parts.dq.data != nullptr;
  const ChunkSums to = {.dout = call.dout,
                        .dq = shared ? parts.dq : call.dq,
                        .dk = shared ? parts.dk : call.dk,
                        .dv = call.dv,
                        .ddecay = shared ? parts.ddecay : call.ddecay,
                        .dbeta = shared ? parts.dbeta : call.dbeta};
  const size_t bytes = RoomBytes(spec);
  exec.For(spec.batch * spec.kv_heads * ChunkShares(spec),
           [&](int64_t task, int slot) {
             Arena own(slots.subspan(static_cast<size_t>(slot) * bytes, bytes));
             const ChunkBackwardRoom room(own, spec);
             HWY_DYNAMIC_DISPATCH(AnyChunkBackward)
             (spec, call.forward, to, task, room);
           });
  AddAllShares(parts.dq, call.dq, exec);
  AddAllShares(parts.dk, call.dk, exec);
  AddAllShares(parts.ddecay, call.ddecay, exec);
  AddAllShares(parts.dbeta, call.dbeta, exec);
}

}  // namespace saccade
#endif  // HWY_ONCE
