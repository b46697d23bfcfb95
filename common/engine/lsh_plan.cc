// The plan of attention within buckets. Round by round: tokens sorted by
// bucket, then for each chunk its rows, and those of the chunk before, are put
// side by side and given to the tile engine. What rounds add up is one softmax
// over the keys of all of them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "arena.h"
#include "content_free.h"
#include "engine/lsh.h"
#include "engine/pseudo_inverse.h"
#include "engine/tile.h"
#include "normal.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr int64_t kRows = 64;  // tokens of a task that is not a chunk's
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Of one head and round, in the order of buckets: tokens first .. end - 1, the
// chunk before, if there is one in the bucket, from `keys` on.
struct Chunk {
  int32_t keys, first, end;
};

TileSpec SpecOf(const Problem &p) {
  Problem one = p;
  one.batch = one.q_heads = one.kv_heads = 1;
  one.dtype = DType::kF32;
  one.mask = Mask::kNone;
  TileSpec spec = MakeTileSpec(one);
  spec.pattern.resize(1);
  spec.pattern[0].low = 1;  // not itself
  if (p.mask == Mask::kNone) {
    spec.pattern.push_back(spec.pattern[0]);
    spec.pattern[1].low = -kFar;
    spec.pattern[1].high = -1;
  }
  return spec;
}

class LshPlan final : public Plan {
 public:
  LshPlan(const Problem &p, const LshSpec &lsh)
      : Plan(p),
        lsh_(lsh),
        columns_(PadDoubles(lsh.Directions())),
        most_chunks_(p.q_len / lsh.chunk + std::min(lsh.buckets, p.q_len)),
        spec_(SpecOf(p)) {
    const std::vector<double> directions = LshDirections(lsh, p.qk_dim);
    directions_.assign(static_cast<size_t>(p.qk_dim * columns_), 0);
    for (int64_t c = 0; c < p.qk_dim; ++c)
      std::copy_n(directions.data() + c * lsh.Directions(), lsh.Directions(),
                  directions_.data() + c * columns_);
  }

 private:
  std::string DoDescribe() const override {
    return std::to_string(lsh_.rounds) + " x " + std::to_string(lsh_.buckets) +
           " buckets, tile engine, " + std::to_string(lsh_.chunk) + " x " +
           std::to_string(2 * lsh_.chunk);
  }

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t Tokens() const { return problem_.q_len; }
  int64_t Rows() const { return Heads() * Tokens(); }

  // What Backward wants of Forward.
  struct Saved {
    Saved(Arena &a, const LshPlan &plan)
        : lse(a.Take<float>(plan.Rows())),
          buckets(a.Take<int32_t>(plan.Rows() * plan.lsh_.rounds)) {}
    float *lse;        // [heads, tokens], -infinity of who is alone
    int32_t *buckets;  // [heads, rounds, tokens]
  };
  // Of the round that is worked on.
  struct Round {
    Round(Arena &a, const LshPlan &plan)
        : order(a.Take<int32_t>(plan.Rows())),
          counts(a.Take<int32_t>(plan.Heads() * plan.lsh_.buckets)),
          chunks(a.Take<Chunk>(plan.Heads() * plan.most_chunks_)),
          n_chunks(a.Take<int64_t>(plan.Heads())) {}
    int32_t *order, *counts;
    Chunk *chunks;
    int64_t *n_chunks;
  };
  struct Forwards {
    Forwards(Arena &a, const LshPlan &plan)
        : saved(a, plan),
          round(a, plan),
          keys(a.Take<float>(plan.Rows() * plan.problem_.qk_dim)),
          out(a.Take<float>(plan.Rows() * plan.problem_.v_dim)),
          used(a.used()) {}
    Saved saved;  // where the caller keeps none
    Round round;
    float *keys;  // unit rows
    float *out;   // so far
    size_t used;
  };
  struct Backwards {
    Backwards(Arena &a, const LshPlan &plan)
        : round(a, plan), keys(a.Take<float>(plan.Rows() * Width(plan))) {
      const int64_t d = plan.Rows() * Width(plan);
      const int64_t e = plan.Rows() * plan.problem_.v_dim;
      for (float **x : {&dq, &dk, &dk_own, &dk_before}) *x = a.Take<float>(d);
      for (float **x : {&dv, &dv_own, &dv_before}) *x = a.Take<float>(e);
      used = a.used();
    }
    static int64_t Width(const LshPlan &plan) { return plan.problem_.qk_dim; }
    Round round;
    float *keys;
    float *dq, *dk, *dv;           // sums of rounds, by token
    float *dk_own, *dv_own;        // of a round in its order: from the rows of
    float *dk_before, *dv_before;  //   their own chunk, and of the next
    size_t used;
  };
  // Rows of a chunk side by side, and their gradients.
  struct Block {
    Block(Arena &a, const LshPlan &plan) {
      const int64_t n = plan.lsh_.chunk, d = plan.problem_.qk_dim,
                    e = plan.problem_.v_dim;
      q = a.Take<float>(n * d), k = a.Take<float>(2 * n * d);
      v = a.Take<float>(2 * n * e), out = a.Take<float>(n * e);
      dout = a.Take<float>(n * e), lse = a.Take<float>(n);
      dq = a.Take<float>(n * d), dk = a.Take<float>(2 * n * d);
      dv = a.Take<float>(2 * n * e);
      used = a.used();
    }
    float *q, *k, *v, *out, *dout, *lse, *dq, *dk, *dv;
    size_t used;
  };
  struct Hash {
    Hash(Arena &a, const LshPlan &plan)
        : x(a.Take<double>(kRows * plan.problem_.qk_dim)),
          y(a.Take<double>(kRows * plan.columns_)) {}
    double *x, *y;
  };
  template <class Piece>
  size_t Size() const {
    Arena a;
    Piece(a, *this);
    return a.used();
  }
  size_t ForwardSlot() const {
    return std::max(Size<Hash>(),
                    Size<Block>() + TileForwardScratch(spec_, lsh_.chunk, 1));
  }
  size_t BackwardSlot() const {
    return Size<Block>() +
           TileBackwardScratch(spec_, lsh_.chunk, 2 * lsh_.chunk, 1);
  }

  Footprint DoMemory(int slots) const override {
    const auto n = static_cast<size_t>(slots);
    Footprint f;
    f.forward_scratch = Size<Forwards>() + n * ForwardSlot();
    f.backward_scratch = Size<Backwards>() + n * BackwardSlot();
    f.saved = Size<Saved>();
    return f;
  }

  // to = row t of a head, as floats.
  void Read(const ConstView &x, int64_t head, int64_t t, float *to) const {
    const int64_t b = head / x.heads, h = head % x.heads;
    if (x.dtype == DType::kF32) {
      std::copy_n(x.Row<float>(b, h, t), x.dim, to);
      return;
    }
    const BF16 *const row = x.Row<BF16>(b, h, t);
    for (int64_t c = 0; c < x.dim; ++c) to[c] = Get(row[c]);
  }
  void Write(const float *row, const View &x, int64_t head, int64_t t) const {
    const int64_t b = head / x.heads, h = head % x.heads;
    if (x.dtype == DType::kF32) {
      std::copy_n(row, x.dim, x.Row<float>(b, h, t));
      return;
    }
    BF16 *const to = x.Row<BF16>(b, h, t);
    for (int64_t c = 0; c < x.dim; ++c) Put(row[c], to + c);
  }

  // Runs visit(head, first, end, slot) over all tokens.
  template <class F>
  void ForTokens(Exec &exec, F visit) const {
    const int64_t runs = (Tokens() + kRows - 1) / kRows;
    exec.For(Heads() * runs, [&](int64_t task, int slot) {
      const int64_t first = task % runs * kRows;
      visit(task / runs, first, std::min(Tokens(), first + kRows), slot);
    });
  }

  static double Length(const float *x, int64_t n) {
    double square = 0;
    for (int64_t c = 0; c < n; ++c) square += double{x[c]} * double{x[c]};
    return std::sqrt(square);
  }

  void MakeKeys(const ConstView &q, float *keys, Exec &exec) const {
    const int64_t d = problem_.qk_dim;
    ForTokens(exec, [&](int64_t head, int64_t first, int64_t end, int) {
      for (int64_t t = first; t < end; ++t) {
        float *const key = keys + (head * Tokens() + t) * d;
        Read(q, head, t, key);
        const double length = Length(key, d);
        for (int64_t c = 0; c < d && length != 0; ++c)
          key[c] = static_cast<float>(double{key[c]} / length);
      }
    });
  }

  template <class Own>
  void FindBuckets(const ConstView &q, int32_t *buckets, Own own,
                   Exec &exec) const {
    const int64_t d = problem_.qk_dim, half = lsh_.buckets / 2;
    ForTokens(exec, [&](int64_t head, int64_t first, int64_t end, int slot) {
      Arena a(own(slot));
      const Hash s(a, *this);
      for (int64_t t = first; t < end; ++t) {
        const int64_t b = head / q.heads, h = head % q.heads;
        for (int64_t c = 0; c < d; ++c)
          s.x[(t - first) * d + c] =
              double{q.dtype == DType::kF32 ? q.Row<float>(b, h, t)[c]
                                            : Get(q.Row<BF16>(b, h, t)[c])};
      }
      DoubleProduct(end - first, d, columns_, {s.x, d, 1}, directions_.data(),
                    columns_, 1, false, s.y, columns_);
      for (int64_t r = 0; r < lsh_.rounds; ++r)
        for (int64_t t = first; t < end; ++t) {
          const double *const y = s.y + (t - first) * columns_ + r * half;
          int64_t best = 0;
          double most = y[0];
          for (int64_t n = 1; n < 2 * half; ++n) {
            const double x = n < half ? y[n] : -y[n - half];
            if (!(x > most)) continue;
            most = x;
            best = n;
          }
          buckets[(head * lsh_.rounds + r) * Tokens() + t] =
              static_cast<int32_t>(best);
        }
    });
  }

  // A head's tokens by bucket, then by position, and their chunks.
  void Sort(const int32_t *buckets, int64_t head, const Round &r) const {
    int32_t *const counts = r.counts + head * lsh_.buckets;
    int32_t *const order = r.order + head * Tokens();
    Chunk *const chunks = r.chunks + head * most_chunks_;
    std::fill_n(counts, lsh_.buckets, 0);
    for (int64_t t = 0; t < Tokens(); ++t) ++counts[buckets[t]];
    int64_t n = 0;
    int32_t at = 0;
    const auto chunk = static_cast<int32_t>(lsh_.chunk);
    for (int64_t bucket = 0; bucket < lsh_.buckets; ++bucket) {
      const int32_t begin = at, end = at + counts[bucket];
      for (int32_t first = begin; first < end; first += chunk)
        chunks[n++] = {std::max(begin, first - chunk), first,
                       std::min(end, first + chunk)};
      counts[bucket] = begin;
      at = end;
    }
    for (int64_t t = 0; t < Tokens(); ++t)
      order[counts[buckets[t]]++] = static_cast<int32_t>(t);
    r.n_chunks[head] = n;
  }

  // Runs visit(head, chunk, whether the next continues it, slot).
  template <class F>
  void ForChunks(const Round &r, Exec &exec, F visit) const {
    exec.For(Heads() * most_chunks_, [&](int64_t task, int slot) {
      const int64_t head = task / most_chunks_, n = task % most_chunks_;
      if (n >= r.n_chunks[head]) return;
      const Chunk *const chunk = r.chunks + task;
      visit(head, *chunk,
            n + 1 < r.n_chunks[head] && chunk[1].keys == chunk->first, slot);
    });
  }

  TileCall CallOf(const Block &s, int64_t rows, int64_t keys,
                  int64_t position) const {
    const auto view = [&](const float *x, int64_t n, int64_t width) {
      return Contiguous<const void>(x, DType::kF32, 1, 1, n, width);
    };
    return {.q = view(s.q, rows, problem_.qk_dim),
            .k = view(s.k, keys, problem_.qk_dim),
            .v = view(s.v, keys, problem_.v_dim),
            .lse = s.lse,
            .q_position = position,
            .kv_end = keys};
  }

  // Asks for a row that comes soon: rows lie where a hash has put them, and
  // nothing but this finds them ahead of time.
  static void Ask(const void *row, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64)
      __builtin_prefetch(static_cast<const char *>(row) + at, 0, 2);
  }
  static void Ask(const float *row, int64_t n) {
    Ask(static_cast<const void *>(row), n * static_cast<int64_t>(sizeof *row));
  }
  static void AskRow(const ConstView &x, int64_t head, int64_t t) {
    Ask(RowAt(x, head / x.heads, head % x.heads, t), x.dim * SizeOf(x.dtype));
  }

  // A chunk's rows of q, k and v.
  void Gather(const Inputs &in, const float *keys, const int32_t *order,
              int64_t head, const Chunk &chunk, const Block &s) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    for (int64_t n = chunk.first; n < chunk.end; ++n)
      Read(in.q, head, order[n], s.q + (n - chunk.first) * d);
    for (int64_t n = chunk.keys; n < chunk.end; ++n) {
      std::copy_n(keys + (head * Tokens() + order[n]) * d, d,
                  s.k + (n - chunk.keys) * d);
      Read(in.v, head, order[n], s.v + (n - chunk.keys) * e);
    }
  }

  // A chunk's part of this round, put to what there is of earlier rounds.
  void RunChunk(const Inputs &in, const Forwards &f, const Saved &saved,
                bool first_round, int64_t head, const Chunk &chunk,
                Bytes scratch) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    Arena a(scratch);
    const Block s(a, *this);
    const int32_t *const order = f.round.order + head * Tokens();
    Gather(in, f.keys, order, head, chunk, s);
    int64_t rows = chunk.end - chunk.first, keys = chunk.end - chunk.keys;
    const int64_t position = chunk.first - chunk.keys, own = rows;
    if (problem_.mask != Mask::kNone) {
      // Later tokens that are not there yet do not change how others are
      // summed.
      std::fill_n(s.q + rows * d, (lsh_.chunk - rows) * d, 0.0f);
      rows = lsh_.chunk;
      std::fill_n(s.k + keys * d, (position + rows - keys) * d, 0.0f);
      std::fill_n(s.v + keys * e, (position + rows - keys) * e, 0.0f);
      keys = position + rows;
    }
    TileCall call = CallOf(s, rows, keys, position);
    call.out = Contiguous<void>(s.out, DType::kF32, 1, 1, rows, e);
    for (int64_t n = chunk.first; n < chunk.end; ++n)
      Ask(f.out + (head * Tokens() + order[n]) * e, e);
    const int64_t end = std::min(chunk.end + lsh_.chunk, Tokens());
    for (int64_t n = chunk.end; n < end; ++n) {
      Ask(f.keys + (head * Tokens() + order[n]) * d, d);
      AskRow(in.q, head, order[n]);
      AskRow(in.v, head, order[n]);
    }
    TileForward(spec_, call, scratch.subspan(s.used), Serial());
    for (int64_t n = 0; n < own; ++n) {
      const int64_t row = head * Tokens() + order[chunk.first + n];
      float *const to = f.out + row * e;
      const float *const fresh = s.out + n * e;
      float &lse = saved.lse[row];
      if (first_round || lse == kNothing) {
        lse = s.lse[n];
        std::copy_n(fresh, e, to);
      } else if (s.lse[n] != kNothing) {
        const double old = double{lse}, more = double{s.lse[n]};
        const double top = std::max(old, more);
        const double sum =
            top + std::log(std::exp(old - top) + std::exp(more - top));
        const auto x = static_cast<float>(std::exp(old - sum)),
                   y = static_cast<float>(std::exp(more - sum));
        for (int64_t c = 0; c < e; ++c) to[c] = x * to[c] + y * fresh[c];
        lse = static_cast<float>(sum);
      }
    }
  }

  void DoForward(const Inputs &in, const Outputs &out, Bytes kept,
                 Bytes scratch, Exec &exec) const override {
    Arena arena(scratch);
    const Forwards f(arena, *this);
    Arena keep(kept);
    const Saved saved = kept.empty() ? f.saved : Saved(keep, *this);
    const auto own = [&](int slot) {
      return scratch.subspan(f.used + static_cast<size_t>(slot) * ForwardSlot(),
                             ForwardSlot());
    };
    MakeKeys(in.q, f.keys, exec);
    FindBuckets(in.q, saved.buckets, own, exec);
    for (int64_t r = 0; r < lsh_.rounds; ++r) {
      SortAll(saved, r, f.round, exec);
      ForChunks(f.round, exec,
                [&](int64_t head, const Chunk &chunk, bool, int slot) {
                  RunChunk(in, f, saved, r == 0, head, chunk, own(slot));
                });
    }
    ForTokens(exec, [&](int64_t head, int64_t first, int64_t end, int) {
      for (int64_t t = first; t < end; ++t) {
        const int64_t row = head * Tokens() + t;
        float *const to = f.out + row * problem_.v_dim;
        if (saved.lse[row] == kNothing) Read(in.v, head, t, to);
        Write(to, out.out, head, t);
      }
    });
  }

  void SortAll(const Saved &saved, int64_t r, const Round &round,
               Exec &exec) const {
    exec.For(Heads(), [&](int64_t head, int) {
      Sort(saved.buckets + (head * lsh_.rounds + r) * Tokens(), head, round);
    });
  }

  void BackChunk(const Inputs &in, const Upstream &up, const Backwards &x,
                 const Saved &saved, int64_t head, const Chunk &chunk,
                 Bytes scratch) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    Arena a(scratch);
    const Block s(a, *this);
    const int32_t *const order = x.round.order + head * Tokens();
    Gather(in, x.keys, order, head, chunk, s);
    const int64_t rows = chunk.end - chunk.first, keys = chunk.end - chunk.keys;
    for (int64_t n = 0; n < rows; ++n) {
      const int64_t t = order[chunk.first + n];
      Read(up.out, head, t, s.out + n * e);
      Read(up.dout, head, t, s.dout + n * e);
      s.lse[n] = saved.lse[head * Tokens() + t];
    }
    const auto view = [&](float *data, int64_t n, int64_t width) {
      return Contiguous<void>(data, DType::kF32, 1, 1, n, width);
    };
    TileBackward(spec_,
                 {.forward = CallOf(s, rows, keys, chunk.first - chunk.keys),
                  .out = view(s.out, rows, e),
                  .dout = view(s.dout, rows, e),
                  .dq = view(s.dq, rows, d),
                  .dk = view(s.dk, keys, d),
                  .dv = view(s.dv, keys, e)},
                 scratch.subspan(s.used), Serial());
    for (int64_t n = 0; n < rows; ++n) {
      float *const to = x.dq + (head * Tokens() + order[chunk.first + n]) * d;
      for (int64_t c = 0; c < d; ++c) to[c] += s.dq[n * d + c];
    }
    const int64_t before = chunk.first - chunk.keys;
    const int64_t at = head * Tokens() + chunk.keys;
    std::copy_n(s.dk, before * d, x.dk_before + at * d);
    std::copy_n(s.dv, before * e, x.dv_before + at * e);
    std::copy_n(s.dk + before * d, rows * d, x.dk_own + (at + before) * d);
    std::copy_n(s.dv + before * e, rows * e, x.dv_own + (at + before) * e);
  }

  // What this round adds to the gradients of a chunk's keys and values.
  void AddChunk(const Backwards &x, int64_t head, const Chunk &chunk,
                bool goes_on) const {
    const int32_t *const order = x.round.order + head * Tokens();
    const auto add = [&](int64_t width, const float *own, const float *before,
                         float *sums) {
      for (int64_t n = chunk.first; n < chunk.end; ++n) {
        const int64_t from = (head * Tokens() + n) * width;
        float *const to = sums + (head * Tokens() + order[n]) * width;
        for (int64_t c = 0; c < width; ++c) {
          to[c] += own[from + c];
          if (goes_on) to[c] += before[from + c];
        }
      }
    };
    add(problem_.qk_dim, x.dk_own, x.dk_before, x.dk);
    add(problem_.v_dim, x.dv_own, x.dv_before, x.dv);
  }

  // dq, which is by keys, too: k = q / |q|. Who is alone gives its value.
  void Finish(const Inputs &in, const Upstream &up, const Backwards &x,
              const Saved &saved, int64_t head, int64_t t,
              const Gradients &grad) const {
    const int64_t d = problem_.qk_dim, row = head * Tokens() + t;
    float *const dq = x.dq + row * d;
    float *const dk = x.dk + row * d;
    const float *const k = x.keys + row * d;
    double along = 0;
    for (int64_t c = 0; c < d; ++c) along += double{k[c]} * double{dk[c]};
    for (int64_t c = 0; c < d; ++c)
      dk[c] = static_cast<float>(double{dk[c]} - along * double{k[c]});
    float *const q = x.dk_own + row * d;  // of no more use
    Read(in.q, head, t, q);
    const double length = Length(q, d);
    for (int64_t c = 0; c < d && length != 0; ++c)
      dq[c] = static_cast<float>(double{dq[c]} + double{dk[c]} / length);
    Write(dq, grad.dq, head, t);
    float *const dv = x.dv + row * problem_.v_dim;
    if (saved.lse[row] == kNothing) {
      float *const dout = x.dv_own + row * problem_.v_dim;
      Read(up.dout, head, t, dout);
      for (int64_t c = 0; c < problem_.v_dim; ++c) dv[c] += dout[c];
    }
    Write(dv, grad.dv, head, t);
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    Arena arena(scratch);
    const Backwards x(arena, *this);
    // Read only.
    Arena kept(
        Bytes(const_cast<std::byte *>(up.saved.data()), up.saved.size()));
    const Saved saved(kept, *this);
    const auto own = [&](int slot) {
      return scratch.subspan(
          x.used + static_cast<size_t>(slot) * BackwardSlot(), BackwardSlot());
    };
    ZeroRows(grad.dk, exec);
    MakeKeys(in.q, x.keys, exec);
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    ForTokens(exec, [&](int64_t head, int64_t first, int64_t end, int) {
      const int64_t row = head * Tokens() + first, n = end - first;
      std::fill_n(x.dq + row * d, n * d, 0.0f);
      std::fill_n(x.dk + row * d, n * d, 0.0f);
      std::fill_n(x.dv + row * e, n * e, 0.0f);
    });
    for (int64_t r = 0; r < lsh_.rounds; ++r) {
      SortAll(saved, r, x.round, exec);
      ForChunks(x.round, exec,
                [&](int64_t head, const Chunk &chunk, bool, int slot) {
                  BackChunk(in, up, x, saved, head, chunk, own(slot));
                });
      ForChunks(x.round, exec,
                [&](int64_t head, const Chunk &chunk, bool goes_on, int) {
                  AddChunk(x, head, chunk, goes_on);
                });
    }
    ForTokens(exec, [&](int64_t head, int64_t first, int64_t end, int) {
      for (int64_t t = first; t < end; ++t)
        Finish(in, up, x, saved, head, t, grad);
    });
  }

  LshSpec lsh_;
  int64_t columns_;      // of directions_, padded
  int64_t most_chunks_;  // of a head
  TileSpec spec_;
  std::vector<double> directions_;  // [qk_dim][columns_]
};

}  // namespace

std::vector<double> LshDirections(const LshSpec &spec, int64_t width) {
  Normal normal(spec.seed);
  std::vector<double> directions(
      static_cast<size_t>(width * spec.Directions()));
  for (double &x : directions) x = normal();
  return directions;
}

std::unique_ptr<Plan> MakeLshPlan(const Problem &problem, const LshSpec &spec) {
  ChooseTarget();
  return std::make_unique<LshPlan>(problem, spec);
}

}  // namespace saccade
