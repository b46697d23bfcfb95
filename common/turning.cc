#include "turning.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "arena.h"
#include "mapped.h"
#include "position.h"
#include "rows.h"

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

class TurnedRows final : public RowMap {
 public:
  explicit TurnedRows(Turning turning) : turning_(std::move(turning)) {}

  std::string Describe() const override { return "positions"; }
  bool maps_keys() const override { return turning_.turns_keys(); }

  size_t TableBytes(const Stretch& at) const override {
    Arena count;
    Tables(count, turning_, at);
    return count.used();
  }

  void Apply(const Stretch& at, Bytes table, const Inputs& in, Bytes,
             const View& q, const View& k, Exec& exec) const override {
    Arena arena(table);
    Tables t(arena, turning_, at);
    const Interval all = t.all;
    t.queries.Fill(turning_, true, all.begin, all.size(), exec);
    if (!turning_.alike() && turning_.turns_keys())
      t.keys.Fill(turning_, false, at.keys.begin, at.keys.size(), exec);
    Turn(in.q, q, t.queries, t.first_query, false, exec);
    if (turning_.turns_keys()) Turn(in.k, k, t.keys, t.first_key, false, exec);
  }

  void Return(const Stretch& at, Bytes table, const Inputs&, const View&,
              const View&, const Gradients& grad, Exec& exec) const override {
    Arena arena(table);
    const Tables t(arena, turning_, at);
    Turn(grad.dq, grad.dq, t.queries, t.first_query, true, exec);
    if (turning_.turns_keys())
      Turn(grad.dk, grad.dk, t.keys, t.first_key, true, exec);
  }

 private:
  // One for both where q and k are turned alike.
  struct Tables {
    Tables(Arena& a, const Turning& turning, const Stretch& at)
        : all(turning.alike() ? Hull(at) : at.queries),
          queries(a, all.size(), turning.pairs()),
          keys(queries),
          first_query(at.queries.begin - all.begin) {
      if (turning.alike())
        first_key = at.keys.begin - all.begin;
      else if (turning.turns_keys())
        keys = Table(a, at.keys.size(), turning.pairs());
    }
    static Interval Hull(const Stretch& at) {
      return {std::min(at.queries.begin, at.keys.begin),
              std::max(at.queries.end, at.keys.end)};
    }
    Interval all;
    Table queries, keys;
    // Rows of the tables where the first query and the first key stand.
    int64_t first_query, first_key = 0;
  };

  Turning turning_;
};

}  // namespace

std::unique_ptr<Plan> MakeTurnedPlan(const Problem& problem, Turning turning,
                                     std::unique_ptr<Plan> inner) {
  if (!turning.any()) return inner;
  return MakeMappedPlan(problem,
                        std::make_unique<TurnedRows>(std::move(turning)),
                        std::move(inner));
}

}  // namespace saccade
