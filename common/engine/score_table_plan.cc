// The plan of attention by a table of scores. Forward is the tile engine's,
// with scores of 0 and the table as what a caller adds to them.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "arena.h"
#include "content_free.h"
#include "engine/extend.h"
#include "engine/kv_cache.h"
#include "engine/score_table.h"
#include "engine/tile.h"
#include "engine/topk.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using score_table::Block;
using score_table::kBlock;

TileSpec SpecOf(const Problem &p) {
  TileSpec spec = ContentFreeSpec(p);
  spec.masked = true;
  return spec;
}

class ScoreTablePlan final : public Plan {
 public:
  ScoreTablePlan(const Problem &p, int64_t length, std::vector<float> start)
      : Plan(p),
        length_(length),
        start_(std::move(start)),
        spec_(SpecOf(p)),
        mask_(spec_.pattern.front()),
        width_((p.v_dim + score_table::Lanes() - 1) / score_table::Lanes() *
               score_table::Lanes()),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .qk_dim = 1,
                .v_dim = p.v_dim,
                .capacity = p.kv_len,
                .append = p.q_len}) {}

 private:
  std::string DoDescribe() const override {
    return "tile engine, scores from a table; backward " +
           std::to_string(kBlock) + " x " + std::to_string(kBlock);
  }

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t QueryRows() const { return Heads() * problem_.q_len; }

  struct Shared {
    Shared(Arena &a, const ScoreTablePlan &plan)
        : dout(a.Take<float>(plan.QueryRows() * plan.width_)),
          delta(a.Take<float>(plan.QueryRows())) {}
    float *dout;   // padded
    float *delta;  // out.dout
  };
  struct Slot {
    Slot(Arena &a, const ScoreTablePlan &plan)
        : vt(a.Take<float>(plan.problem_.v_dim * kBlock)),
          p(a.Take<float>(kBlock * kBlock)),
          dp(a.Take<float>(kBlock * kBlock)),
          dv(a.Take<float>(kBlock * plan.width_)) {}
    float *vt, *p, *dp, *dv;
  };
  // A step of decoding.
  struct Step {
    Step(Arena &a, const ScoreTablePlan &plan)
        : w(a.Take<float>(topk::Padded(plan.problem_.kv_len))),
          rows(a.Take<const float *>(topk::kKeys)),
          part(a.Take<float>(topk::Padded(plan.problem_.v_dim))),
          out(a.Take<float>(topk::Padded(plan.problem_.v_dim))) {}
    float *w;
    const float **rows;
    float *part, *out;
  };
  template <class Piece>
  size_t Size() const {
    Arena a;
    Piece(a, *this);
    return a.used();
  }

  Footprint DoMemory(int slots) const override {
    const Problem &p = problem_;
    const auto n = static_cast<size_t>(slots);
    Footprint f;
    f.forward_scratch = TileForwardScratch(spec_, p.q_len, slots);
    f.backward_scratch = Size<Shared>() + n * Size<Slot>();
    Arena lse;
    lse.Take<float>(QueryRows());
    f.saved = lse.used();
    if (p.mask != Mask::kNone) {
      f.extend_scratch =
          std::max(TileForwardScratch(spec_, p.q_len, slots), n * Size<Step>());
      f.state = cache_.bytes();
    }
    return f;
  }

  // Row `row` of a head's table.
  const float *Table(const Inputs &in, int64_t h, int64_t row) const {
    const float *const table = in.bias.data != nullptr
                                   ? in.bias.Row<float>(0, h, 0)
                                   : start_.data() + h * length_ * length_;
    return table + row * length_;
  }
  int64_t TableStride(const Inputs &in) const {
    return in.bias.data != nullptr ? in.bias.head_stride : length_ * length_;
  }

  TileCall CallOf(const Inputs &in, int64_t row, int64_t keys) const {
    static constexpr float kZero = 0;
    const auto zeros = [&](int64_t heads, int64_t len) {
      return ConstView{.data = &kZero,
                       .batch = problem_.batch,
                       .heads = heads,
                       .len = len,
                       .dim = 1};
    };
    const int64_t n = in.q.len;
    return {.q = zeros(problem_.q_heads, n),
            .k = zeros(problem_.kv_heads, keys),
            .v = in.v,
            .kv_end = keys,
            .attn_mask = {.data = Table(in, 0, row),
                          .element = MaskElement::kF32,
                          .batch = problem_.batch,
                          .heads = problem_.q_heads,
                          .q_len = n,
                          .kv_len = keys,
                          .batch_stride = 0,
                          .head_stride = TableStride(in),
                          .row_stride = length_}};
  }

  void DoForward(const Inputs &in, const Outputs &out, Bytes saved,
                 Bytes scratch, Exec &exec) const override {
    TileCall call = CallOf(in, TableRow(problem_), problem_.kv_len);
    call.out = out.out;
    call.q_position = QueryOffset(problem_);
    if (!saved.empty()) call.lse = reinterpret_cast<float *>(saved.data());
    TileForward(spec_, call, scratch, exec);
  }

  // Which rows of queries see any of keys begin .. end - 1.
  Interval RowsOf(int64_t begin, int64_t end) const {
    const int64_t offset = QueryOffset(problem_);
    return Interval{begin + mask_.low - offset, end + mask_.high - offset}.Cut(
        {0, problem_.q_len});
  }

  Block BlockOf(const Inputs &in, const Upstream &up, const Shared &shared,
                int64_t head, int64_t row, int64_t key) const {
    const Problem &p = problem_;
    const int64_t at = head * p.q_len + row;
    const int64_t position = QueryOffset(p) + row;
    const auto *const lse = reinterpret_cast<const float *>(up.saved.data());
    return {.table = Table(in, head % p.q_heads, TableRow(p) + row) + key,
            .stride = length_,
            .lse = lse + at,
            .delta = shared.delta + at,
            .rows = std::min(kBlock, p.q_len - row),
            .keys = std::min(kBlock, p.kv_len - key),
            .seen_first = position - mask_.high - key,
            .seen_end = position - mask_.low - key + 1,
            .dout = shared.dout + at * width_,
            .width = width_};
  }

  void Widen(const Upstream &up, const Shared &shared, Exec &exec) const {
    const int64_t e = problem_.v_dim;
    ForRowRuns(
        up.dout, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
          for (int64_t t = first; t < end; ++t) {
            const int64_t at = (b * problem_.q_heads + h) * problem_.q_len + t;
            const float *const dout = up.dout.Row<float>(b, h, t);
            const float *const out = up.out.Row<float>(b, h, t);
            float *const to = shared.dout + at * width_;
            std::copy_n(dout, e, to);
            std::fill(to + e, to + width_, 0.0f);
            double sum = 0;
            for (int64_t c = 0; c < e; ++c)
              sum += double{out[c]} * double{dout[c]};
            shared.delta[at] = static_cast<float>(sum);
          }
        });
  }

  void BackTable(const Inputs &in, const Upstream &up, const Shared &shared,
                 int64_t h, int64_t row, float *table, const Slot &s) const {
    const Problem &p = problem_;
    const int64_t rows = std::min(kBlock, p.q_len - row);
    const int64_t position = QueryOffset(p) + row;
    const Interval keys =
        Interval{position - mask_.high, position + rows - mask_.low}.Cut(
            {0, p.kv_len});
    if (keys.empty()) return;
    for (int64_t j = keys.begin / kBlock * kBlock; j < keys.end; j += kBlock)
      for (int64_t b = 0; b < p.batch; ++b)
        score_table::AddToTable(
            BlockOf(in, up, shared, b * p.q_heads + h, row, j),
            in.v.Row<float>(b, h, j), in.v.row_stride, p.v_dim, b > 0, s.vt,
            s.p, s.dp, table + (TableRow(p) + row) * length_ + j);
  }

  void BackValues(const Inputs &in, const Upstream &up, const Shared &shared,
                  int64_t head, int64_t key, const View &dv,
                  const Slot &s) const {
    const Problem &p = problem_;
    const int64_t end = std::min(p.kv_len, key + kBlock);
    std::fill_n(s.dv, kBlock * width_, 0.0f);
    const Interval rows = RowsOf(key, end);
    if (!rows.empty())
      for (int64_t t = rows.begin / kBlock * kBlock; t < rows.end; t += kBlock)
        score_table::AddToValues(BlockOf(in, up, shared, head, t, key), s.p,
                                 s.dv);
    for (int64_t j = key; j < end; ++j)
      std::copy_n(s.dv + (j - key) * width_, p.v_dim,
                  dv.Row<float>(head / p.q_heads, head % p.q_heads, j));
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    const Problem &p = problem_;
    Arena arena(scratch);
    const Shared shared(arena, *this);
    const Bytes slots = scratch.subspan(arena.used());
    const auto own = [&](int slot) {
      Arena a(slots.subspan(static_cast<size_t>(slot) * Size<Slot>()));
      return Slot(a, *this);
    };
    ZeroRows(grad.dq, exec);
    ZeroRows(grad.dk, exec);
    Widen(up, shared, exec);
    const int64_t blocks = (p.kv_len + kBlock - 1) / kBlock;
    exec.For(Heads() * blocks, [&](int64_t task, int slot) {
      BackValues(in, up, shared, task / blocks, task % blocks * kBlock, grad.dv,
                 own(slot));
    });
    if (grad.dbias.data == nullptr) return;
    const int64_t runs = (length_ + kBlock - 1) / kBlock;
    exec.For(p.q_heads * runs, [&](int64_t task, int) {
      const int64_t first = task % runs * kBlock;
      std::fill_n(grad.dbias.Row<float>(0, task / runs, 0) + first * length_,
                  (std::min(length_, first + kBlock) - first) * length_, 0.0f);
    });
    const int64_t tiles = (p.q_len + kBlock - 1) / kBlock;
    exec.For(p.q_heads * tiles, [&](int64_t task, int slot) {
      BackTable(in, up, shared, task / tiles, task % tiles * kBlock,
                grad.dbias.Row<float>(0, task / tiles, 0), own(slot));
    });
  }

  void DoReset(Bytes state) const override { cache_.Reset(state); }

  // One row of one head, from the cache.
  void Decode(const float *table, const ConstView &v, int64_t b, int64_t h,
              Interval keys, float *to, const Step &s) const {
    const int64_t n = keys.size();
    std::copy_n(table + keys.begin, n, s.w);
    float top = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < n; ++j)
      if (!(s.w[j] <= top)) top = s.w[j];
    const float sum = n > 0 ? topk::Exponentials(s.w, n, top) : 1;
    std::fill_n(s.out, topk::Padded(problem_.v_dim), 0.0f);
    for (int64_t j = 0; j < n; j += topk::kKeys) {
      const int64_t some = std::min(topk::kKeys, n - j);
      for (int64_t x = 0; x < some; ++x)
        s.rows[x] = v.Row<float>(b, h, keys.begin + j + x);
      topk::WeightedSum(s.rows, s.w + j, some, problem_.v_dim, s.part);
      topk::AddScaled(1, s.part, problem_.v_dim, s.out);
    }
    for (int64_t c = 0; c < problem_.v_dim; ++c) to[c] = s.out[c] / sum;
  }

  Status DoExtend(const Inputs &fresh, const Outputs &out, Bytes state,
                  Bytes scratch, Exec &exec) const override {
    Result<KvCache::Held> held = cache_.Open(state);
    if (!held.ok()) return held.status();
    const int64_t n = fresh.q.len, past = held->tokens;
    const Status room = CheckRoom(past, n, problem_.kv_len);
    if (!room.ok()) return room;
    // The cache wants keys: a column of the values stands for them.
    ConstView column = fresh.v;
    column.dim = 1;
    cache_.Append(state, *held, column, fresh.v, 0, n, exec);
    if (n > kDecodeRows) {
      TileCall call = CallOf(fresh, past, held->tokens);
      call.v = held->v;
      call.out = out.out;
      call.q_position = past;
      TileForward(spec_, call, scratch, exec);
      return {};
    }
    exec.For(Heads() * n, [&](int64_t task, int slot) {
      Arena a(scratch.subspan(static_cast<size_t>(slot) * Size<Step>()));
      const Step s(a, *this);
      const int64_t head = task / n, t = task % n;
      const int64_t b = head / problem_.q_heads, h = head % problem_.q_heads;
      const Interval keys =
          Interval{past + t - mask_.high, past + t - mask_.low + 1}.Cut(
              {0, held->tokens});
      Decode(Table(fresh, h, past + t), held->v, b, h, keys,
             out.out.Row<float>(b, h, t), s);
    });
    return {};
  }

  int64_t length_;
  std::vector<float> start_;
  TileSpec spec_;
  Part mask_;
  int64_t width_;  // of values, padded
  KvCache cache_;
};

}  // namespace

int64_t TableRow(const Problem &problem) {
  return std::max<int64_t>(QueryOffset(problem), 0);
}

std::unique_ptr<Plan> MakeScoreTablePlan(const Problem &problem, int64_t length,
                                         std::vector<float> start) {
  ChooseTarget();
  return std::make_unique<ScoreTablePlan>(problem, length, std::move(start));
}

}  // namespace saccade
