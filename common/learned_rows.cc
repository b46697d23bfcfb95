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

Problem Inner(const Problem &p, const LearnedRows &rows) {
  Problem inner = p;
  inner.qk_dim = rows.width;
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

  // Gradients by the rows of every sequence.
  struct Sums {
    Sums(Arena &a, const Problem &p, const LearnedRows &rows)
        : dk(a.Take<float>(p.batch * p.kv_heads * p.kv_len * rows.width)),
          dq(a.Take<float>(
              rows.queries ? p.batch * p.q_heads * p.q_len * rows.width : 0)),
          used(a.used()) {}
    float *dk, *dq;
    size_t used;
  };

  Footprint DoMemory(int slots) const override {
    Arena sums;
    Footprint f = inner_->Memory(slots);
    f.backward_scratch += Sums(sums, problem_, rows_).used;
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
  Inputs WithRows(const Inputs &in, int64_t q_position,
                  int64_t k_position) const {
    Inputs with = in;
    with.bias = {};
    with.k = Rows(in, false, k_position, in.k.len);
    if (rows_.queries) with.q = Rows(in, true, q_position, in.q.len);
    return with;
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status &status) { (void)status; }

  void DoForward(const Inputs &in, const Outputs &out, Bytes saved,
                 Bytes scratch, Exec &exec) const override {
    Done(inner_->Forward(WithRows(in, QueryOffset(problem_), 0), out, saved,
                         scratch, exec));
  }

  // Rows of a head from `position` on += those of all sequences.
  void AddUp(const float *sums, int64_t len, int64_t position, int64_t head,
             float *to) const {
    const int64_t size = len * rows_.width;
    float *const at = to + position * rows_.width;
    for (int64_t b = 0; b < problem_.batch; ++b) {
      const float *const from = sums + (b * problem_.q_heads + head) * size;
      for (int64_t n = 0; n < size; ++n) at[n] += from[n];
    }
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    const Problem &p = problem_;
    Arena arena(scratch);
    const Sums sums(arena, p, rows_);
    Gradients own = grad;
    own.dbias = {};
    own.dk = Contiguous<void>(sums.dk, DType::kF32, p.batch, p.kv_heads,
                              p.kv_len, rows_.width);
    if (rows_.queries)
      own.dq = Contiguous<void>(sums.dq, DType::kF32, p.batch, p.q_heads,
                                p.q_len, rows_.width);
    Done(inner_->Backward(WithRows(in, QueryOffset(p), 0), up, own,
                          scratch.subspan(sums.used), exec));
    ZeroRows(grad.dk, exec);
    if (rows_.queries) ZeroRows(grad.dq, exec);
    if (grad.dbias.data == nullptr) return;
    exec.For(p.q_heads, [&](int64_t h, int) {
      float *const to = grad.dbias.Row<float>(0, h, 0);
      std::fill_n(to, rows_.Numbers(), 0.0f);
      AddUp(sums.dk, p.kv_len, 0, h, to);
      if (rows_.queries)
        AddUp(sums.dq, p.q_len, QueryOffset(p), h,
              to + rows_.length * rows_.width);
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
    const Status status = inner_->Extend(WithRows(fresh, tokens, tokens), out,
                                         state.subspan(kAlign), scratch, exec);
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
  const int64_t offset = QueryOffset(p);
  const auto fill = [&](int64_t from, int64_t first, int64_t len,
                        std::vector<double> *to) {
    for (int64_t head = 0; head < p.batch * p.q_heads; ++head)
      for (int64_t n = 0; n < len * rows.width; ++n)
        to->push_back(number(head % p.q_heads * rows.Numbers() + from +
                             first * rows.width + n));
  };
  fill(0, 0, p.kv_len, &k);
  inputs.k = k.data();
  inputs.bias = nullptr;
  if (!rows.queries) return;
  fill(rows.length * rows.width, offset, p.q_len, &q);
  inputs.q = q.data();
}

}  // namespace saccade
