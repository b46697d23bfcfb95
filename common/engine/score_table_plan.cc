// The plan of attention by a table of scores. Forward is the tile engine's,
// with scores of 0, or of q and k, and the table as what a caller adds to them.
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
#include "even.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using score_table::Block;
using score_table::kBlock;

// Tables of more numbers want a machine of their own.
constexpr int64_t kMostNumbers = int64_t{1} << 30;

TileSpec SpecOf(const Problem &p, bool content) {
  TileSpec spec = content ? MakeTileSpec(p) : ContentFreeSpec(p);
  spec.masked = true;
  return spec;
}

class ScoreTablePlan final : public Plan {
 public:
  ScoreTablePlan(const Problem &p, int64_t length, bool content)
      : Plan(p),
        length_(length),
        content_(content),
        start_(ScoreTables(p, length)),
        spec_(SpecOf(p, content)),
        mask_(spec_.pattern.front()),
        width_((p.v_dim + score_table::Lanes() - 1) / score_table::Lanes() *
               score_table::Lanes()),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .qk_dim = content ? p.qk_dim : 1,
                .v_dim = p.v_dim,
                .capacity = p.kv_len,
                .append = p.q_len}) {}

 private:
  std::string DoDescribe() const override {
    return std::string("tile engine, scores from a table") +
           (content_ ? " and from q and k" : "") + "; backward " +
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
          dv(a.Take<float>(kBlock * plan.width_)),
          kt(a.Take<float>(plan.content_ ? plan.problem_.qk_dim * kBlock : 0)),
          scores(a.Take<float>(plan.content_ ? kBlock * kBlock : 0)) {}
    float *vt, *p, *dp, *dv, *kt, *scores;
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
    if (content_)
      f.backward_scratch =
          std::max(f.backward_scratch,
                   TileBackwardScratch(spec_, p.q_len, p.kv_len, slots));
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
    return {.q = content_ ? in.q : zeros(problem_.q_heads, n),
            .k = content_ ? in.k : zeros(problem_.kv_heads, keys),
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
      for (int64_t b = 0; b < p.batch; ++b) {
        Block block = BlockOf(in, up, shared, b * p.q_heads + h, row, j);
        if (content_) {
          score_table::AddProducts(
              block,
              {in.q.Row<float>(b, h, row), in.k.Row<float>(b, h, j),
               in.q.row_stride, in.k.row_stride, p.qk_dim, p.scale},
              s.kt, s.scores);
          block.table = s.scores;
          block.stride = kBlock;
        }
        score_table::AddToTable(block, in.v.Row<float>(b, h, j),
                                in.v.row_stride, p.v_dim, b > 0, s.vt, s.p,
                                s.dp, table + (TableRow(p) + row) * length_ + j,
                                length_);
      }
  }

  // Gradients by q, k and v where these are read.
  void BackContent(const Inputs &in, const Upstream &up, const Gradients &grad,
                   Bytes scratch, Exec &exec) const {
    TileBackwardCall call = {
        .forward = CallOf(in, TableRow(problem_), problem_.kv_len),
        .out = up.out,
        .dout = up.dout,
        .dq = grad.dq,
        .dk = grad.dk,
        .dv = grad.dv};
    call.forward.q_position = QueryOffset(problem_);
    // Backward only reads what was saved.
    call.forward.lse =
        reinterpret_cast<float *>(const_cast<std::byte *>(up.saved.data()));
    TileBackward(spec_, call, scratch, exec);
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
    if (content_) {
      BackContent(in, up, grad, scratch, exec);
    } else {
      ZeroRows(grad.dq, exec);
      ZeroRows(grad.dk, exec);
    }
    if (content_ && grad.dbias.data == nullptr) return;
    Widen(up, shared, exec);
    const int64_t blocks = (p.kv_len + kBlock - 1) / kBlock;
    if (!content_)
      exec.For(Heads() * blocks, [&](int64_t task, int slot) {
        BackValues(in, up, shared, task / blocks, task % blocks * kBlock,
                   grad.dv, own(slot));
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
    // The cache wants keys: where there are none, a column of the values.
    ConstView keys_of = content_ ? fresh.k : fresh.v;
    if (!content_) keys_of.dim = 1;
    cache_.Append(state, *held, keys_of, fresh.v, 0, n, exec);
    if (n > kDecodeRows || content_) {
      TileCall call = CallOf(fresh, past, held->tokens);
      if (content_) call.k = held->k;
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
  bool content_;
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

Cost WithScoreTable(const Problem &problem, const TileSpec &spec, Cost cost) {
  const double number = 4 * static_cast<double>(problem.q_heads);
  cost.forward_bytes +=
      number * VisiblePairs(spec.pattern, QueryOffset(problem), problem.q_len,
                            problem.kv_len);
  if (cost.decode_bytes > 0)
    cost.decode_bytes +=
        number * static_cast<double>(VisibleKeys(
                     spec.pattern, problem.kv_len - 1, problem.kv_len));
  return cost;
}

void DrawScoreTable(int64_t head, int64_t length, float *to) {
  const int64_t n = length * length;
  DrawEven(head * n, n, 1, to);
}

std::vector<float> ScoreTables(const Problem &problem, int64_t length) {
  const int64_t n = length * length;
  std::vector<float> tables(static_cast<size_t>(problem.q_heads * n));
  for (int64_t h = 0; h < problem.q_heads; ++h)
    DrawScoreTable(h, length, tables.data() + h * n);
  return tables;
}

Result<std::unique_ptr<Plan>> MakeScoreTablePlan(const Problem &problem,
                                                 int64_t length, bool content) {
  const int64_t most =
      std::max(problem.kv_len, TableRow(problem) + problem.q_len);
  if (most > length)
    return Unsupported("the table of scores is for " + std::to_string(length) +
                       " positions, which the knob length says: these are " +
                       std::to_string(most));
  if (length * length > kMostNumbers / problem.q_heads)
    return Unsupported("tables of scores of " +
                       std::to_string(problem.q_heads) + " heads with length=" +
                       std::to_string(length) + " hold more than 2^30 numbers");
  ChooseTarget();
  return std::unique_ptr<Plan>(
      std::make_unique<ScoreTablePlan>(problem, length, content));
}

}  // namespace saccade
