#include "learned_rows.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "arena.h"
#include "content_free.h"
#include "normal.h"

namespace saccade {
namespace {

// Of the rows that the inner plan has of queries and keys.
int64_t InnerWidth(const Problem &p, const LearnedRows &rows) {
  return rows.width + (rows.content ? p.qk_dim : 0);
}

Problem Inner(const Problem &p, const LearnedRows &rows) {
  Problem inner = p;
  inner.qk_dim = InnerWidth(p, rows);
  inner.scale = 1;
  return inner;
}

std::vector<float> StartOf(const Problem &p, const LearnedRows &rows,
                           double deviation) {
  std::vector<float> start(p.q_heads * rows.Numbers());
  for (int64_t h = 0; h < p.q_heads; ++h)
    DrawRows(rows, h, deviation, start.data() + h * rows.Numbers());
  return start;
}

class LearnedRowsPlan final : public Plan {
 public:
  LearnedRowsPlan(const Problem &p, const LearnedRows &rows,
                  std::vector<float> start, std::unique_ptr<Plan> inner)
      : Plan(p),
        rows_(rows),
        start_(std::move(start)),
        inner_(std::move(inner)) {}

 private:
  std::string DoDescribe() const override {
    return "learned rows, then " + inner_->Describe();
  }

  // Rows that the inner plan has of queries and keys and that nobody else has:
  // their gradients, or, where learned rows stand behind others, they too.
  struct Own {
    Own(Arena &a, const Problem &p, const LearnedRows &rows) {
      const int64_t width = InnerWidth(p, rows);
      if (rows.queries || rows.content)
        q = Contiguous<void>(
            a.Take<float>(p.batch * p.q_heads * p.q_len * width), DType::kF32,
            p.batch, p.q_heads, p.q_len, width);
      k = Contiguous<void>(
          a.Take<float>(p.batch * p.kv_heads * p.kv_len * width), DType::kF32,
          p.batch, p.kv_heads, p.kv_len, width);
      used = a.used();
    }
    View q = {}, k;
    size_t used;
  };
  size_t OwnBytes() const {
    Arena a;
    return Own(a, problem_, rows_).used;
  }
  // Of what forward reads.
  size_t JoinedBytes() const { return rows_.content ? OwnBytes() : 0; }

  Footprint DoMemory(int slots) const override {
    Footprint f = inner_->Memory(slots);
    f.forward_scratch += JoinedBytes();
    f.extend_scratch += JoinedBytes();
    f.backward_scratch += OwnBytes() + JoinedBytes();
    f.sequences_scratch = 0;
    if (f.state > 0) f.state += kAlign;
    return f;
  }

  // n rows of all heads, the same for every sequence, from a position on.
  ConstView Rows(const Inputs &in, bool queries, int64_t position,
                 int64_t n) const {
    const bool given = in.bias.data != nullptr;
    const float *const learned =
        given ? in.bias.Row<float>(0, 0, 0) : start_.data();
    return {.data = learned +
                    ((queries ? rows_.length : 0) + position) * rows_.width,
            .dtype = DType::kF32,
            .batch = problem_.batch,
            .heads = problem_.q_heads,
            .len = n,
            .dim = rows_.width,
            .batch_stride = 0,
            .head_stride = given ? in.bias.head_stride : rows_.Numbers(),
            .row_stride = rows_.width};
  }
  // Rows by * left, and right behind them.
  static View Join(const ConstView &left, float by, const ConstView &right,
                   View to, Exec &exec) {
    to.len = left.len;
    ForRowRuns(to, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t) {
        const float *const from = left.Row<float>(b, h, t);
        float *const row = to.Row<float>(b, h, t);
        for (int64_t c = 0; c < left.dim; ++c) row[c] = by * from[c];
        std::copy_n(right.Row<float>(b, h, t), right.dim, row + left.dim);
      }
    });
    return to;
  }
  // What the inner plan reads; `room`: JoinedBytes().
  Inputs WithRows(const Inputs &in, int64_t q_position, int64_t k_position,
                  Bytes room, Exec &exec) const {
    Inputs with = in;
    with.bias = {};
    with.k = Rows(in, false, k_position, in.k.len);
    if (rows_.queries) with.q = Rows(in, true, q_position, in.q.len);
    if (!rows_.content) return with;
    if (!rows_.queries) with.q = in.extra[0];
    with.extra = {};
    Arena arena(room);
    const Own own(arena, problem_, rows_);
    with.q = Join(in.q, problem_.scale, with.q, own.q, exec);
    with.k = Join(in.k, 1, with.k, own.k, exec);
    return with;
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status &status) { (void)status; }

  void DoForward(const Inputs &in, const Outputs &out, Bytes saved,
                 Bytes scratch, Exec &exec) const override {
    const size_t joined = JoinedBytes();
    Done(inner_->Forward(
        WithRows(in, QueryOffset(problem_), 0, scratch.first(joined), exec),
        out, saved, scratch.subspan(joined), exec));
  }

  // Learned rows of a head from `position` on += those of all sequences, the
  // last columns of `sums`.
  void AddUp(const View &sums, int64_t position, int64_t head,
             float *to) const {
    const int64_t width = rows_.width;
    for (int64_t b = 0; b < problem_.batch; ++b)
      for (int64_t t = 0; t < sums.len; ++t) {
        const float *const from =
            sums.Row<float>(b, head, t) + sums.dim - width;
        float *const at = to + (position + t) * width;
        for (int64_t n = 0; n < width; ++n) at[n] += from[n];
      }
  }

  // to = by * columns of `from` from `first` on.
  static void TakeColumns(const View &from, int64_t first, float by,
                          const View &to, Exec &exec) {
    ForRowRuns(to, exec, [&](int64_t b, int64_t h, int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        for (int64_t c = 0; c < to.dim; ++c)
          to.Row<float>(b, h, t)[c] = by * from.Row<float>(b, h, t)[first + c];
    });
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    const Problem &p = problem_;
    Arena arena(scratch);
    const Own sums(arena, p, rows_);
    scratch = scratch.subspan(sums.used);
    const Bytes room = scratch.first(JoinedBytes());
    Gradients own = grad;
    own.dbias = {};
    own.dk = sums.k;
    if (sums.q.data != nullptr) own.dq = sums.q;
    if (rows_.content) own.dextra = {};
    Done(inner_->Backward(WithRows(in, QueryOffset(p), 0, room, exec), up, own,
                          scratch.subspan(room.size()), exec));
    if (rows_.content) {
      TakeColumns(sums.q, 0, p.scale, grad.dq, exec);
      TakeColumns(sums.k, 0, 1, grad.dk, exec);
      if (!rows_.queries)
        TakeColumns(sums.q, p.qk_dim, 1, grad.dextra[0], exec);
    } else {
      ZeroRows(grad.dk, exec);
      if (rows_.queries) ZeroRows(grad.dq, exec);
    }
    if (grad.dbias.data == nullptr) return;
    exec.For(p.q_heads, [&](int64_t h, int) {
      float *const to = grad.dbias.Row<float>(0, h, 0);
      std::fill_n(to, rows_.Numbers(), 0.0f);
      AddUp(sums.k, 0, h, to);
      if (rows_.queries)
        AddUp(sums.q, QueryOffset(p), h, to + rows_.length * rows_.width);
    });
  }

  // The state: how many tokens there were, then the inner plan's.
  void DoReset(Bytes state) const override {
    std::fill_n(state.data(), kAlign, std::byte{0});
    Done(inner_->Reset(state.subspan(kAlign)));
  }
  Status DoExtend(const Inputs &fresh, const Outputs &out, Bytes state,
                  Bytes scratch, Exec &exec) const override {
    int64_t tokens;
    std::memcpy(&tokens, state.data(), sizeof tokens);
    const size_t joined = JoinedBytes();
    const Status status = inner_->Extend(
        WithRows(fresh, tokens, tokens, scratch.first(joined), exec), out,
        state.subspan(kAlign), scratch.subspan(joined), exec);
    if (!status.ok()) return status;
    tokens += fresh.q.len;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    return {};
  }

  LearnedRows rows_;
  std::vector<float> start_;
  std::unique_ptr<Plan> inner_;
};

}  // namespace

void DrawRows(const LearnedRows &rows, int64_t head, double deviation,
              float *to) {
  Normal normal(static_cast<uint64_t>(head) + 1);
  for (int64_t n = 0; n < rows.Numbers(); ++n)
    to[n] = static_cast<float>(deviation * normal());
}

TileSpec LearnedRowsSpec(const Problem &problem, const LearnedRows &rows) {
  return MakeTileSpec(Inner(problem, rows));
}

Result<std::unique_ptr<Plan>> MakeLearnedRowsPlan(const Problem &p,
                                                  const LearnedRows &rows,
                                                  TileSpec spec,
                                                  double deviation) {
  // Rows of queries before the first key, which nothing sees, are other rows.
  const int64_t most = std::max({p.kv_len, p.q_len, QueryOffset(p) + p.q_len});
  if (most > rows.length)
    return Unsupported("learned rows are there for " +
                       std::to_string(rows.length) +
                       " positions, which the knob length says: these are " +
                       std::to_string(most));
  return std::unique_ptr<Plan>(std::make_unique<LearnedRowsPlan>(
      p, rows, StartOf(p, rows, deviation),
      MakeTilePlan(Inner(p, rows), std::move(spec))));
}

RowsOracle::RowsOracle(const Problem &p, const LearnedRows &rows,
                       const OracleInputs &in, double deviation)
    : problem(Inner(p, rows)), inputs(in) {
  std::vector<float> start;
  if (!in.bias) start = StartOf(p, rows, deviation);
  const auto number = [&](int64_t n) {
    return in.bias ? in.bias[n] : double{start[n]};
  };
  // Rows of all heads: those of `left` times `by`, if there are such, then
  // those of `right`, or learned ones.
  const auto fill = [&](const double *left, double by, const double *right,
                        int64_t from, int64_t len, std::vector<double> *to) {
    for (int64_t head = 0; head < p.batch * p.q_heads; ++head)
      for (int64_t t = 0; t < len; ++t) {
        for (int64_t c = 0; rows.content && c < p.qk_dim; ++c)
          to->push_back(by * left[(head * len + t) * p.qk_dim + c]);
        for (int64_t c = 0; c < rows.width; ++c)
          to->push_back(right ? right[(head * len + t) * rows.width + c]
                              : number(head % p.q_heads * rows.Numbers() +
                                       (from + t) * rows.width + c));
      }
  };
  fill(in.k, 1, nullptr, 0, p.kv_len, &k);
  inputs.k = k.data();
  inputs.bias = nullptr;
  if (!rows.queries && !rows.content) return;
  fill(in.q, p.scale, rows.queries ? nullptr : in.extra[0],
       rows.length + QueryOffset(p), p.q_len, &q);
  inputs.q = q.data();
}

}  // namespace saccade
