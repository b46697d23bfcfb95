#include "position.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "arena.h"
#include "engine/pattern.h"
#include "simd/bf16.h"

namespace saccade {
namespace {

// Pair m turns by position * base^(-2m/dim).
double Frequency(int64_t m, int64_t dim, double base) {
  return std::pow(base,
                  -2.0 * static_cast<double>(m) / static_cast<double>(dim));
}

template <class T>
void RotateRow(const T* x, T* y, int64_t dim, double position, double base,
               bool inverse) {
  const int64_t half = dim / 2;
  for (int64_t m = 0; m < half; ++m) {
    const double angle = position * Frequency(m, dim, base);
    const double c = std::cos(angle);
    const double s = inverse ? -std::sin(angle) : std::sin(angle);
    const double a = x[m], b = x[m + half];
    y[m] = static_cast<T>(a * c - b * s);
    y[m + half] = static_cast<T>(a * s + b * c);
  }
  if (dim % 2) y[dim - 1] = x[dim - 1];
}

// Cosines and sines of positions first .. first + rows - 1: [rows][dim / 2].
struct Turns {
  Turns(Arena& arena, int64_t rows, int64_t half)
      : cos(arena.Take<float>(rows * half)),
        sin(arena.Take<float>(rows * half)),
        frequency(arena.Take<double>(half)) {}

  void Fill(int64_t first, int64_t rows, int64_t dim, double base, Exec& exec) {
    const int64_t half = dim / 2;
    for (int64_t m = 0; m < half; ++m) frequency[m] = Frequency(m, dim, base);
    constexpr int64_t kRows = 64;
    exec.For((rows + kRows - 1) / kRows, [&](int64_t task, int) {
      const int64_t end = std::min(rows, (task + 1) * kRows);
      for (int64_t r = task * kRows; r < end; ++r)
        for (int64_t m = 0; m < half; ++m) {
          const double angle = static_cast<double>(first + r) * frequency[m];
          cos[r * half + m] = static_cast<float>(std::cos(angle));
          sin[r * half + m] = static_cast<float>(std::sin(angle));
        }
    });
  }

  float *cos, *sin;
  double* frequency;
};

inline float Get(float x) { return x; }
inline float Get(BF16 x) { return ToFloat(x); }
inline void Put(float x, float* y) { *y = x; }
inline void Put(float x, BF16* y) { *y = ToBF16(x); }

template <class T>
void TurnRow(const T* x, T* y, int64_t dim, const float* cos, const float* sin,
             float sign) {
  const int64_t half = dim / 2;
  for (int64_t m = 0; m < half; ++m) {
    const float a = Get(x[m]), b = Get(x[m + half]), s = sign * sin[m];
    Put(a * cos[m] - b * s, y + m);
    Put(a * s + b * cos[m], y + m + half);
  }
  if (dim % 2) y[dim - 1] = x[dim - 1];
}

// y = x turned; row t of x stands at row first_row + t of the table.
template <class T>
void TurnAll(const ConstView& x, const View& y, const Turns& turns,
             int64_t first_row, bool inverse, Exec& exec) {
  const int64_t half = x.dim / 2;
  const float sign = inverse ? -1.0f : 1.0f;
  constexpr int64_t kRows = 256;
  const int64_t blocks = (x.len + kRows - 1) / kRows;
  exec.For(x.batch * x.heads * blocks, [&](int64_t task, int) {
    const int64_t b = task / blocks / x.heads, h = task / blocks % x.heads;
    const int64_t begin = task % blocks * kRows;
    for (int64_t t = begin; t < std::min(x.len, begin + kRows); ++t) {
      const int64_t row = (first_row + t) * half;
      TurnRow(x.Row<T>(b, h, t), y.Row<T>(b, h, t), x.dim, turns.cos + row,
              turns.sin + row, sign);
    }
  });
}

void Turn(const ConstView& x, const View& y, const Turns& turns,
          int64_t first_row, bool inverse, Exec& exec) {
  if (x.dtype == DType::kF32)
    TurnAll<float>(x, y, turns, first_row, inverse, exec);
  else
    TurnAll<BF16>(x, y, turns, first_row, inverse, exec);
}

class RotaryPlan final : public Plan {
 public:
  RotaryPlan(const Problem& problem, std::unique_ptr<Plan> inner)
      : Plan(problem),
        inner_(std::move(inner)),
        base_(problem.position.knobs.Number("base")) {}

 private:
  // Turned copies of q and k, and the table for their positions.
  struct Scratch {
    Scratch(Arena& a, const Problem& p, int64_t q_len, int64_t kv_len,
            int64_t positions)
        : q(a.Take<std::byte>(p.batch * p.q_heads * q_len * p.qk_dim *
                              SizeOf(p.dtype))),
          k(a.Take<std::byte>(p.batch * p.kv_heads * kv_len * p.qk_dim *
                              SizeOf(p.dtype))),
          turns(a, positions, p.qk_dim / 2),
          used(a.used()) {}
    std::byte *q, *k;
    Turns turns;
    size_t used;
  };

  // Positions run from the first query's or 0 to the last's.
  static Interval Positions(const Problem& p) {
    const int64_t first = QueryOffset(p);
    return {std::min<int64_t>(first, 0), std::max(first + p.q_len, p.kv_len)};
  }

  Footprint DoMemory(int slots) const override {
    const Problem& p = problem_;
    Arena whole, fresh;
    const size_t pass =
        Scratch(whole, p, p.q_len, p.kv_len, Positions(p).size()).used;
    const size_t step = Scratch(fresh, p, p.q_len, p.q_len, p.q_len).used;
    Footprint f = inner_->Memory(slots);
    f.forward_scratch += pass;
    f.backward_scratch += pass;
    f.extend_scratch += step;
    if (f.state > 0) f.state += kAlign;
    return f;
  }

  Inputs TurnInputs(const Inputs& in, const Scratch& s, int64_t first_query,
                    int64_t first_key, Exec& exec) const {
    Inputs turned = in;
    const View q = Contiguous<void>(s.q, in.q.dtype, in.q.batch, in.q.heads,
                                    in.q.len, in.q.dim);
    const View k = Contiguous<void>(s.k, in.k.dtype, in.k.batch, in.k.heads,
                                    in.k.len, in.k.dim);
    Turn(in.q, q, s.turns, first_query, false, exec);
    Turn(in.k, k, s.turns, first_key, false, exec);
    turned.q = q;
    turned.k = k;
    return turned;
  }

  // Turned inputs of a whole pass.
  Inputs Prepare(const Inputs& in, Scratch& s, Exec& exec) const {
    const Interval positions = Positions(problem_);
    s.turns.Fill(positions.begin, positions.size(), problem_.qk_dim, base_,
                 exec);
    return TurnInputs(in, s, QueryOffset(problem_) - positions.begin,
                      -positions.begin, exec);
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status& status) { (void)status; }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    Arena arena(scratch);
    Scratch s(arena, p, p.q_len, p.kv_len, Positions(p).size());
    Done(inner_->Forward(Prepare(in, s, exec), out, saved,
                         scratch.subspan(s.used), exec));
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    Arena arena(scratch);
    Scratch s(arena, p, p.q_len, p.kv_len, Positions(p).size());
    Done(inner_->Backward(Prepare(in, s, exec), up, grad,
                          scratch.subspan(s.used), exec));
    const int64_t lowest = Positions(p).begin;
    Turn(grad.dq, grad.dq, s.turns, QueryOffset(p) - lowest, true, exec);
    Turn(grad.dk, grad.dk, s.turns, -lowest, true, exec);
  }

  // The state: how many tokens there were, then the inner plan's.
  void DoReset(Bytes state) const override {
    const int64_t tokens = 0;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    Done(inner_->Reset(state.subspan(kAlign)));
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    int64_t tokens;
    std::memcpy(&tokens, state.data(), sizeof tokens);
    Arena arena(scratch);
    Scratch s(arena, p, p.q_len, p.q_len, p.q_len);
    s.turns.Fill(tokens, fresh.q.len, p.qk_dim, base_, exec);
    const Status status =
        inner_->Extend(TurnInputs(fresh, s, 0, 0, exec), out,
                       state.subspan(kAlign), scratch.subspan(s.used), exec);
    if (!status.ok()) return status;
    tokens += fresh.q.len;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    return {};
  }

  std::unique_ptr<Plan> inner_;
  double base_;
};

}  // namespace

const std::vector<PositionScheme>& PositionSchemes() {
  static const std::vector<PositionScheme> schemes = {
      {"none", "", PositionKind::kNone, {}},
      {"sinusoidal",
       "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
       PositionKind::kEmbedding,
       {}},
      {"learned",
       "Gehring et al. 2017, arXiv:1705.03122, section 3.1",
       PositionKind::kEmbedding,
       {}},
      {"rope",
       "Su et al. 2021, arXiv:2104.09864, equation 34",
       PositionKind::kRotary,
       {{"base", "base of the geometric series of wave lengths", 10000, 1.001,
         1e9, false}}},
      {"alibi",
       "Press et al. 2021, arXiv:2108.12409, equation 1",
       PositionKind::kBias,
       {}},
  };
  return schemes;
}

const PositionScheme* FindPosition(std::string_view name) {
  for (const PositionScheme& scheme : PositionSchemes())
    if (scheme.name == name) return &scheme;
  return nullptr;
}

void Rotate(const float* x, float* y, int64_t dim, double position, double base,
            bool inverse) {
  RotateRow(x, y, dim, position, base, inverse);
}
void Rotate(const double* x, double* y, int64_t dim, double position,
            double base, bool inverse) {
  RotateRow(x, y, dim, position, base, inverse);
}

std::vector<float> AlibiSlopes(int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> slopes(heads);
  const double p = static_cast<double>(power);
  for (int64_t h = 0; h < heads; ++h)
    slopes[h] = static_cast<float>(
        h < power
            ? std::exp2(-8.0 * static_cast<double>(h + 1) / p)
            : std::exp2(-4.0 * static_cast<double>(2 * (h - power) + 1) / p));
  return slopes;
}

std::unique_ptr<Plan> MakeRotaryPlan(const Problem& problem,
                                     std::unique_ptr<Plan> inner) {
  return std::make_unique<RotaryPlan>(problem, std::move(inner));
}

}  // namespace saccade
