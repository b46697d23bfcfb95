#include "turning.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "arena.h"
#include "engine/pattern.h"
#include "position.h"
#include "simd/bf16.h"

namespace saccade {

Turning::Turning(const Problem& p) : frequency_(p.qk_dim / 2) {
  const Position* const turn = PositionOf(p.positions, PositionKind::kRotary);
  if (turn != nullptr && turn->name != "rerope") {
    turns_ = true;
    frequency_ = RotaryFrequencies(*turn, p.qk_dim);
    gain_ = RotaryGain(*turn);
    if (turn->name == "xpos")
      for (const double zeta : XposZeta(p.qk_dim))
        decay_.push_back(std::log(zeta) / turn->knobs.Number("scale"));
  }
  if (const Position* logn = FindIn(p.positions, "logn"))
    log_length_ = std::log(logn->knobs.Number("length"));
}

Turning Turning::Fixed(const Position& rotary, int64_t dim, int64_t at) {
  Turning turning;
  turning.turns_ = true;
  turning.fixed_ = at;
  turning.frequency_ = RotaryFrequencies(rotary, dim);
  return turning;
}

float Turning::Row(bool query, int64_t position, float* cos, float* sin) const {
  const auto at = static_cast<double>(fixed_.value_or(position));
  double gain = gain_;
  if (query && log_length_ > 0 && position > 0)
    gain *= std::max(1.0, std::log(at + 1) / log_length_);
  for (size_t m = 0; m < frequency_.size(); ++m) {
    double own = gain;
    if (!decay_.empty()) own *= std::exp((query ? at : -at) * decay_[m]);
    cos[m] = static_cast<float>(own * std::cos(at * frequency_[m]));
    sin[m] = static_cast<float>(own * std::sin(at * frequency_[m]));
  }
  return static_cast<float>(gain);
}

namespace {

// Turnings of positions first .. first + rows - 1: [rows][dim / 2].
struct Table {
  Table(Arena& arena, int64_t rows, int64_t half)
      : half(half),
        cos(arena.Take<float>(rows * half)),
        sin(arena.Take<float>(rows * half)),
        gain(arena.Take<float>(rows)) {}

  void Fill(const Turning& turning, bool query, int64_t first, int64_t rows,
            Exec& exec) {
    constexpr int64_t kRows = 64;
    exec.For((rows + kRows - 1) / kRows, [&](int64_t task, int) {
      const int64_t end = std::min(rows, (task + 1) * kRows);
      for (int64_t r = task * kRows; r < end; ++r)
        gain[r] = turning.Row(query, first + r, cos + r * half, sin + r * half);
    });
  }

  int64_t half;
  float *cos, *sin, *gain;
};

inline float Get(float x) { return x; }
inline float Get(BF16 x) { return ToFloat(x); }
inline void Put(float x, float* y) { *y = x; }
inline void Put(float x, BF16* y) { *y = ToBF16(x); }

template <class T>
void TurnRow(const T* x, T* y, int64_t dim, const float* cos, const float* sin,
             float gain, float sign) {
  const int64_t half = dim / 2;
  for (int64_t m = 0; m < half; ++m) {
    const float a = Get(x[m]), b = Get(x[m + half]), s = sign * sin[m];
    Put(a * cos[m] - b * s, y + m);
    Put(a * s + b * cos[m], y + m + half);
  }
  if (dim % 2) Put(gain * Get(x[dim - 1]), y + dim - 1);
}

// y = x turned, or multiplied by the transpose of that; row t of x stands at
// row first_row + t of the table.
template <class T>
void TurnAll(const ConstView& x, const View& y, const Table& table,
             int64_t first_row, bool transpose, Exec& exec) {
  const float sign = transpose ? -1.0f : 1.0f;
  constexpr int64_t kRows = 256;
  const int64_t blocks = (x.len + kRows - 1) / kRows;
  exec.For(x.batch * x.heads * blocks, [&](int64_t task, int) {
    const int64_t b = task / blocks / x.heads, h = task / blocks % x.heads;
    const int64_t begin = task % blocks * kRows;
    for (int64_t t = begin; t < std::min(x.len, begin + kRows); ++t) {
      const int64_t row = first_row + t;
      TurnRow(x.Row<T>(b, h, t), y.Row<T>(b, h, t), x.dim,
              table.cos + row * table.half, table.sin + row * table.half,
              table.gain[row], sign);
    }
  });
}

void Turn(const ConstView& x, const View& y, const Table& table,
          int64_t first_row, bool transpose, Exec& exec) {
  if (x.dtype == DType::kF32)
    TurnAll<float>(x, y, table, first_row, transpose, exec);
  else
    TurnAll<BF16>(x, y, table, first_row, transpose, exec);
}

class TurnedPlan final : public Plan {
 public:
  TurnedPlan(const Problem& problem, Turning turning,
             std::unique_ptr<Plan> inner)
      : Plan(problem), inner_(std::move(inner)), turning_(std::move(turning)) {}

 private:
  std::string DoDescribe() const override {
    return "positions, then " + inner_->Describe();
  }

  // Turned copies of q and k, and tables for their positions: one for both
  // where they are turned alike.
  struct Scratch {
    Scratch(Arena& a, const Problem& p, const Turning& turning, int64_t q_len,
            int64_t kv_len, int64_t positions)
        : q(a.Take<std::byte>(p.batch * p.q_heads * q_len * p.qk_dim *
                              SizeOf(p.dtype))),
          k(a.Take<std::byte>(turning.turns_keys()
                                  ? p.batch * p.kv_heads * kv_len * p.qk_dim *
                                        SizeOf(p.dtype)
                                  : 0)),
          queries(a, turning.alike() ? positions : q_len, p.qk_dim / 2),
          keys(queries) {
      if (!turning.alike() && turning.turns_keys())
        keys = Table(a, kv_len, p.qk_dim / 2);
      used = a.used();
    }
    std::byte *q, *k;
    Table queries, keys;
    // Rows of the tables where the first query and the first key stand.
    int64_t first_query = 0, first_key = 0;
    size_t used;
  };

  Scratch Whole(Arena& arena) const {
    const Problem& p = problem_;
    return {arena, p, turning_, p.q_len, p.kv_len, AllPositions(p).size()};
  }
  Scratch Step(Arena& arena) const {
    const Problem& p = problem_;
    return {arena, p, turning_, p.q_len, p.q_len, p.q_len};
  }

  Footprint DoMemory(int slots) const override {
    Arena whole, step;
    const size_t pass = Whole(whole).used;
    Footprint f = inner_->Memory(slots);
    f.forward_scratch += pass;
    f.backward_scratch += pass;
    f.extend_scratch += Step(step).used;
    if (f.state > 0) f.state += kAlign;
    return f;
  }

  Inputs TurnInputs(const Inputs& in, const Scratch& s, Exec& exec) const {
    Inputs turned = in;
    const View q = Contiguous<void>(s.q, in.q.dtype, in.q.batch, in.q.heads,
                                    in.q.len, in.q.dim);
    Turn(in.q, q, s.queries, s.first_query, false, exec);
    turned.q = q;
    if (!turning_.turns_keys()) return turned;
    const View k = Contiguous<void>(s.k, in.k.dtype, in.k.batch, in.k.heads,
                                    in.k.len, in.k.dim);
    Turn(in.k, k, s.keys, s.first_key, false, exec);
    turned.k = k;
    return turned;
  }

  // Turned inputs of a whole pass.
  Inputs Prepare(const Inputs& in, Scratch& s, Exec& exec) const {
    const Problem& p = problem_;
    const int64_t first = QueryOffset(p);
    if (turning_.alike()) {
      const Interval all = AllPositions(p);
      s.queries.Fill(turning_, true, all.begin, all.size(), exec);
      s.first_query = first - all.begin;
      s.first_key = -all.begin;
    } else {
      s.queries.Fill(turning_, true, first, p.q_len, exec);
      if (turning_.turns_keys())
        s.keys.Fill(turning_, false, 0, p.kv_len, exec);
    }
    return TurnInputs(in, s, exec);
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status& status) { (void)status; }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    Scratch s = Whole(arena);
    Done(inner_->Forward(Prepare(in, s, exec), out, saved,
                         scratch.subspan(s.used), exec));
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    Scratch s = Whole(arena);
    Done(inner_->Backward(Prepare(in, s, exec), up, grad,
                          scratch.subspan(s.used), exec));
    Turn(grad.dq, grad.dq, s.queries, s.first_query, true, exec);
    if (turning_.turns_keys())
      Turn(grad.dk, grad.dk, s.keys, s.first_key, true, exec);
  }

  // The state: how many tokens there were, then the inner plan's.
  void DoReset(Bytes state) const override {
    const int64_t tokens = 0;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    Done(inner_->Reset(state.subspan(kAlign)));
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    int64_t tokens;
    std::memcpy(&tokens, state.data(), sizeof tokens);
    Arena arena(scratch);
    Scratch s = Step(arena);
    s.queries.Fill(turning_, true, tokens, fresh.q.len, exec);
    if (turning_.turns_keys() && !turning_.alike())
      s.keys.Fill(turning_, false, tokens, fresh.k.len, exec);
    const Status status =
        inner_->Extend(TurnInputs(fresh, s, exec), out, state.subspan(kAlign),
                       scratch.subspan(s.used), exec);
    if (!status.ok()) return status;
    tokens += fresh.q.len;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    return {};
  }

  std::unique_ptr<Plan> inner_;
  Turning turning_;
};

}  // namespace

std::unique_ptr<Plan> MakeTurnedPlan(const Problem& problem, Turning turning,
                                     std::unique_ptr<Plan> inner) {
  if (!turning.any()) return inner;
  return std::make_unique<TurnedPlan>(problem, std::move(turning),
                                      std::move(inner));
}

}  // namespace saccade
