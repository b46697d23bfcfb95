// The plan of attention through landmarks: both softmaxes that touch tokens by
// the tile engine, a piece of the sequence at a time, so that a single head is
// shared out; what is between them in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "arena.h"
#include "content_free.h"
#include "engine/landmark.h"
#include "engine/pseudo_inverse.h"
#include "engine/tile.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr int64_t kPiece = 512;  // tokens

// Rows first .. first + n - 1 of `heads` heads of a sequence.
template <class View>
View Cut(View x, int64_t b, int64_t h, int64_t heads, int64_t first,
         int64_t n) {
  x.data = x.template Row<float>(b, h, first);
  x.batch = 1;
  x.heads = heads;
  x.len = n;
  return x;
}

TileSpec SpecOf(const Problem &p, int64_t heads) {
  Problem one = p;
  one.batch = one.kv_heads = 1;
  one.q_heads = heads;
  one.dtype = DType::kF32;
  one.positions = {};
  return MakeTileSpec(one);
}

class LandmarkPlan final : public Plan {
 public:
  LandmarkPlan(const Problem &p, int64_t landmarks, int64_t steps)
      : Plan(p),
        m_(std::min(landmarks, p.q_len)),
        steps_(steps),
        group_(p.q_heads / p.kv_heads),
        pieces_((p.q_len + kPiece - 1) / kPiece),
        d_wide_(PadDoubles(p.qk_dim)),
        e_wide_(PadDoubles(p.v_dim)),
        one_(SpecOf(p, 1)),
        grouped_(SpecOf(p, group_)) {}

 private:
  std::string DoDescribe() const override {
    return "tile engine, " + std::to_string(m_) + " landmarks, " +
           std::to_string(kPiece) + " tokens a piece";
  }

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t KvHeads() const { return problem_.batch * problem_.kv_heads; }
  int64_t Tokens() const { return problem_.q_len; }
  int64_t KvHead(int64_t head) const {
    return head / problem_.q_heads * problem_.kv_heads +
           head % problem_.q_heads / group_;
  }
  Interval Piece(int64_t n) const { return Segment(n, pieces_, Tokens()); }

  // What Backward wants of Forward.
  struct Saved {
    Saved(Arena &a, const LandmarkPlan &plan)
        : lse(a.Take<float>(plan.Heads() * plan.Tokens())),
          mean_lse(a.Take<float>(plan.Heads() * plan.m_)),
          b(a.Take<float>(plan.Heads() * plan.m_ * plan.problem_.v_dim)),
          w(a.Take<float>(plan.Heads() * plan.m_ * plan.problem_.v_dim)) {}
    float *lse, *mean_lse;  // of rows, and of the queries' landmarks
    float *b, *w;           // softmax(q~ k^T) v, and Z times it
  };
  struct Means {
    Means(Arena &a, const LandmarkPlan &plan) {
      const int64_t rows = plan.m_ * plan.problem_.qk_dim;
      q = a.Take<double>(plan.Heads() * rows);
      k = a.Take<double>(plan.KvHeads() * rows);
      qf = a.Take<float>(plan.Heads() * rows);
      kf = a.Take<float>(plan.KvHeads() * rows);
    }
    double *q, *k;   // [heads, m, d]
    float *qf, *kf;  // rounded
  };
  // Tensors as floats: the caller's, or, of bf16, copies.
  struct Floats {
    Floats(Arena &a, const Problem &p, bool backward) {
      if (p.dtype == DType::kF32) return;
      const auto take = [&](int64_t heads, int64_t width) {
        const int64_t n = p.batch * heads * p.q_len * width;
        return Contiguous<void>(a.Take<float>(n), DType::kF32, p.batch, heads,
                                p.q_len, width);
      };
      q = take(p.q_heads, p.qk_dim), k = take(p.kv_heads, p.qk_dim);
      v = take(p.kv_heads, p.v_dim), out = take(p.q_heads, p.v_dim);
      if (!backward) return;
      dout = take(p.q_heads, p.v_dim), dq = take(p.q_heads, p.qk_dim);
      dk = take(p.kv_heads, p.qk_dim), dv = take(p.kv_heads, p.v_dim);
    }
    View q, k, v, out, dout, dq, dk, dv;
  };
  struct Forwards {
    Forwards(Arena &a, const LandmarkPlan &plan)
        : floats(a, plan.problem_, false),
          means(a, plan),
          saved(a, plan),
          lse(a.Take<float>(plan.Heads() * plan.pieces_ * plan.m_)),
          out(a.Take<float>(plan.Heads() * plan.pieces_ * plan.m_ *
                            plan.problem_.v_dim)),
          used(a.used()) {}
    Floats floats;
    Means means;
    Saved saved;       // where the caller keeps none
    float *lse, *out;  // of pieces of keys, [heads, pieces, m]
    size_t used;
  };
  struct Backwards {
    Backwards(Arena &a, const LandmarkPlan &plan)
        : floats(a, plan.problem_, true), means(a, plan) {
      const int64_t parts = plan.Heads() * plan.pieces_ * plan.m_;
      const int64_t d = plan.problem_.qk_dim, e = plan.problem_.v_dim;
      dq_parts = a.Take<float>(parts * d);
      dk_parts = a.Take<float>(parts * d);
      dw_parts = a.Take<float>(parts * e);
      db = a.Take<float>(plan.Heads() * plan.m_ * e);
      dq = a.Take<double>(plan.Heads() * plan.m_ * plan.d_wide_);
      dk = a.Take<double>(plan.Heads() * plan.m_ * plan.d_wide_);
      used = a.used();
    }
    Floats floats;
    Means means;
    float *dq_parts;             // [key heads, pieces, group, m]
    float *dk_parts, *dw_parts;  // [heads, pieces, m]
    float *db;                   // [heads, m, e]
    double *dq, *dk;             // by landmarks, padded rows
    size_t used;
  };
  // A task's own, of a head's small matrices or of the tile engine.
  struct Small {
    Small(Arena &a, const LandmarkPlan &plan)
        : inverse(a, plan.m_, plan.steps_),
          keys(a.Take<double>(plan.problem_.qk_dim * PadDoubles(plan.m_))),
          b(a.Take<double>(plan.m_ * plan.e_wide_)),
          w(a.Take<double>(plan.m_ * plan.e_wide_)),
          turned(a.Take<double>(plan.problem_.v_dim * PadDoubles(plan.m_))),
          dz(a.Take<double>(plan.m_ * PadDoubles(plan.m_))),
          wide(a.Take<double>(plan.m_ * plan.d_wide_)) {}
    PseudoInverse inverse;
    double *keys;    // k~^T
    double *b, *w;   // b, and w or dw
    double *turned;  // b^T
    double *dz;      // and of scores
    double *wide;    // landmarks, padded
  };
  template <class Piece>
  size_t Size() const {
    Arena a;
    Piece(a, *this);
    return a.used();
  }
  size_t ForwardSlot() const {
    return std::max(Size<Small>(),
                    TileForwardScratch(one_, std::max(m_, kPiece), 1));
  }
  size_t BackwardSlot() const {
    return std::max({Size<Small>(), TileBackwardScratch(one_, kPiece, m_, 1),
                     TileBackwardScratch(grouped_, m_, kPiece, 1)});
  }

  Footprint DoMemory(int slots) const override {
    const auto n = static_cast<size_t>(slots);
    Footprint f;
    f.forward_scratch = Size<Forwards>() + n * ForwardSlot();
    f.backward_scratch = Size<Backwards>() + n * BackwardSlot();
    f.saved = Size<Saved>();
    return f;
  }

  static ConstView Widen(const ConstView &x, const View &copy, Exec &exec) {
    if (x.dtype == DType::kF32) return x;
    ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t)
        for (int64_t c = 0; c < x.dim; ++c)
          copy.Row<float>(b, h, t)[c] = Get(x.Row<BF16>(b, h, t)[c]);
    });
    return copy;
  }
  static void Narrow(const View &copy, const View &x, Exec &exec) {
    if (x.dtype == DType::kF32) return;
    ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t)
        for (int64_t c = 0; c < x.dim; ++c)
          Put(copy.Row<float>(b, h, t)[c], x.Row<BF16>(b, h, t) + c);
    });
  }

  // Of all segments of every head of x.
  void MeansOf(const ConstView &x, double *means, float *rounded,
               Exec &exec) const {
    const int64_t d = x.dim;
    exec.For(x.batch * x.heads * m_, [&](int64_t task, int) {
      const int64_t head = task / m_;
      const Interval rows = Segment(task % m_, m_, x.len);
      double *const mean = means + task * d;
      std::fill_n(mean, d, 0.0);
      for (int64_t t = rows.begin; t < rows.end; ++t) {
        const float *const row =
            x.Row<float>(head / x.heads, head % x.heads, t);
        for (int64_t c = 0; c < d; ++c) mean[c] += double{row[c]};
      }
      for (int64_t c = 0; c < d; ++c) {
        mean[c] /= static_cast<double>(rows.size());
        rounded[task * d + c] = static_cast<float>(mean[c]);
      }
    });
  }

  ConstView Rows(const float *data, int64_t heads, int64_t width) const {
    return Contiguous<const void>(data, DType::kF32, 1, heads, m_, width);
  }
  View Rows(float *data, int64_t heads, int64_t width) const {
    return Contiguous<void>(data, DType::kF32, 1, heads, m_, width);
  }

  // softmax(q~ k~^T) of a head, and its Z.
  void Invert(const Means &means, int64_t head, const Small &s) const {
    const int64_t d = problem_.qk_dim, ld = s.inverse.stride();
    TransposeDoubles(m_, d, means.k + KvHead(head) * m_ * d, d, s.keys, ld);
    double *const a = s.inverse.a();
    DoubleProduct(m_, d, ld, {means.q + head * m_ * d, d, 1}, s.keys, ld,
                  double{problem_.scale}, false, a, ld);
    for (int64_t r = 0; r < m_; ++r) {
      double *const row = a + r * ld;
      const double top = *std::max_element(row, row + m_);
      double sum = 0;
      for (int64_t c = 0; c < m_; ++c) sum += row[c] = std::exp(row[c] - top);
      for (int64_t c = 0; c < m_; ++c) row[c] /= sum;
    }
    s.inverse.Run();
  }

  // What the pieces of keys gave a head's landmarks, put together: b, its lse.
  void Merge(const Forwards &f, const Saved &saved, int64_t head,
             const Small &s) const {
    const int64_t e = problem_.v_dim;
    const float *const lse = f.lse + head * pieces_ * m_;
    const float *const out = f.out + head * pieces_ * m_ * e;
    std::fill_n(s.b, m_ * e_wide_, 0.0);
    for (int64_t r = 0; r < m_; ++r) {
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int64_t n = 0; n < pieces_; ++n)
        top = std::max(top, double{lse[n * m_ + r]});
      for (int64_t n = 0; n < pieces_; ++n) {
        const double w = std::exp(lse[n * m_ + r] - top);
        sum += w;
        for (int64_t c = 0; c < e; ++c)
          s.b[r * e_wide_ + c] += w * double{out[(n * m_ + r) * e + c]};
      }
      for (int64_t c = 0; c < e; ++c) {
        s.b[r * e_wide_ + c] /= sum;
        saved.b[(head * m_ + r) * e + c] =
            static_cast<float>(s.b[r * e_wide_ + c]);
      }
      saved.mean_lse[head * m_ + r] = static_cast<float>(top + std::log(sum));
    }
  }

  void DoForward(const Inputs &in, const Outputs &out, Bytes kept,
                 Bytes scratch, Exec &exec) const override {
    const Problem &p = problem_;
    if (p.q_len == 0) return;
    Arena arena(scratch);
    const Forwards f(arena, *this);
    Arena keep(kept);
    const Saved saved = kept.empty() ? f.saved : Saved(keep, *this);
    const auto own = [&](int slot) {
      return scratch.subspan(f.used + static_cast<size_t>(slot) * ForwardSlot(),
                             ForwardSlot());
    };
    const ConstView q = Widen(in.q, f.floats.q, exec),
                    k = Widen(in.k, f.floats.k, exec),
                    v = Widen(in.v, f.floats.v, exec);
    const View to = p.dtype == DType::kF32 ? out.out : f.floats.out;
    MeansOf(q, f.means.q, f.means.qf, exec);
    MeansOf(k, f.means.k, f.means.kf, exec);
    const int64_t d = p.qk_dim, e = p.v_dim;
    exec.For(Heads() * pieces_, [&](int64_t task, int slot) {
      const int64_t head = task / pieces_, b = head / p.q_heads;
      const int64_t kv = KvHead(head) % p.kv_heads;
      const Interval keys = Piece(task % pieces_);
      TileForward(one_,
                  {.q = Rows(f.means.qf + head * m_ * d, 1, d),
                   .k = Cut(k, b, kv, 1, keys.begin, keys.size()),
                   .v = Cut(v, b, kv, 1, keys.begin, keys.size()),
                   .out = Rows(f.out + task * m_ * e, 1, e),
                   .lse = f.lse + task * m_,
                   .kv_end = keys.size()},
                  own(slot), Serial());
    });
    exec.For(Heads(), [&](int64_t head, int slot) {
      Arena a(own(slot));
      const Small s(a, *this);
      Merge(f, saved, head, s);
      Invert(f.means, head, s);
      DoubleProduct(m_, m_, e_wide_, {s.inverse.z(), s.inverse.stride(), 1},
                    s.b, e_wide_, 1, false, s.w, e_wide_);
      for (int64_t r = 0; r < m_; ++r)
        for (int64_t c = 0; c < e; ++c)
          saved.w[(head * m_ + r) * e + c] =
              static_cast<float>(s.w[r * e_wide_ + c]);
    });
    exec.For(Heads() * pieces_, [&](int64_t task, int slot) {
      const int64_t head = task / pieces_;
      const int64_t b = head / p.q_heads, h = head % p.q_heads;
      const Interval rows = Piece(task % pieces_);
      TileForward(one_,
                  {.q = Cut(q, b, h, 1, rows.begin, rows.size()),
                   .k = Rows(f.means.kf + KvHead(head) * m_ * d, 1, d),
                   .v = Rows(saved.w + head * m_ * e, 1, e),
                   .out = Cut(to, b, h, 1, rows.begin, rows.size()),
                   .lse = saved.lse + head * Tokens() + rows.begin,
                   .kv_end = m_},
                  own(slot), Serial());
    });
    Narrow(to, out.out, exec);
  }

  // From dw, by a head's w: db, and dq and dk by its landmarks.
  void BackSmall(const Backwards &x, const Saved &saved, int64_t head,
                 const Small &s) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    const int64_t ld = s.inverse.stride();
    Invert(x.means, head, s);
    std::fill_n(s.w, m_ * e_wide_, 0.0);
    std::fill_n(x.dk + head * m_ * d_wide_, m_ * d_wide_, 0.0);
    for (int64_t n = 0; n < pieces_; ++n)
      for (int64_t r = 0; r < m_; ++r) {
        const int64_t part = (head * pieces_ + n) * m_ + r;
        for (int64_t c = 0; c < e; ++c)
          s.w[r * e_wide_ + c] += double{x.dw_parts[part * e + c]};
        for (int64_t c = 0; c < d; ++c)
          x.dk[(head * m_ + r) * d_wide_ + c] +=
              double{x.dk_parts[part * d + c]};
      }
    const DoubleFactor z = {s.inverse.z(), ld, 1}, dw = {s.w, e_wide_, 1};
    DoubleProduct(m_, m_, e_wide_, z.Transposed(), s.w, e_wide_, 1, false, s.b,
                  e_wide_);
    for (int64_t r = 0; r < m_; ++r)
      for (int64_t c = 0; c < e; ++c) {
        x.db[(head * m_ + r) * e + c] =
            static_cast<float>(s.b[r * e_wide_ + c]);
        s.turned[c * ld + r] = double{saved.b[(head * m_ + r) * e + c]};
      }
    for (int64_t c = 0; c < e; ++c)
      std::fill(s.turned + c * ld + m_, s.turned + (c + 1) * ld, 0.0);
    DoubleProduct(m_, e, ld, dw, s.turned, ld, 1, false, s.dz, ld);
    s.inverse.Backward(s.dz);
    // Through softmax(q~ k~^T): s.dz becomes the gradient by its scores.
    for (int64_t r = 0; r < m_; ++r) {
      const double *const a = s.inverse.a() + r * ld;
      const double *const da = s.inverse.da() + r * ld;
      double mean = 0;
      for (int64_t c = 0; c < m_; ++c) mean += a[c] * da[c];
      for (int64_t c = 0; c < ld; ++c)
        s.dz[r * ld + c] =
            c < m_ ? double{problem_.scale} * a[c] * (da[c] - mean) : 0;
    }
    const DoubleFactor ds = {s.dz, ld, 1};
    const auto add = [&](const DoubleFactor &by, const double *landmarks,
                         bool more, double *to) {
      std::fill_n(s.wide, m_ * d_wide_, 0.0);
      for (int64_t r = 0; r < m_; ++r)
        std::copy_n(landmarks + r * d, d, s.wide + r * d_wide_);
      DoubleProduct(m_, m_, d_wide_, by, s.wide, d_wide_, 1, more,
                    to + head * m_ * d_wide_, d_wide_);
    };
    add(ds, x.means.k + KvHead(head) * m_ * d, false, x.dq);
    add(ds.Transposed(), x.means.q + head * m_ * d, true, x.dk);
  }

  // Rows' own part: dq, and what pieces add to the gradients by k~ and w.
  template <class Own>
  void BackRows(const Backwards &x, const Saved &saved, const ConstView &q,
                const ConstView &out, const ConstView &dout, const View &dq,
                Own own, Exec &exec) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    exec.For(Heads() * pieces_, [&](int64_t task, int slot) {
      const int64_t head = task / pieces_;
      const Interval rows = Piece(task % pieces_);
      const auto cut = [&](const auto &view) {
        return Cut(view, head / problem_.q_heads, head % problem_.q_heads, 1,
                   rows.begin, rows.size());
      };
      TileBackward(
          one_,
          {.forward = {.q = cut(q),
                       .k = Rows(x.means.kf + KvHead(head) * m_ * d, 1, d),
                       .v = Rows(saved.w + head * m_ * e, 1, e),
                       .lse = saved.lse + head * Tokens() + rows.begin,
                       .kv_end = m_},
           .out = cut(out),
           .dout = cut(dout),
           .dq = cut(dq),
           .dk = Rows(x.dk_parts + task * m_ * d, 1, d),
           .dv = Rows(x.dw_parts + task * m_ * e, 1, e)},
          own(slot), Serial());
    });
  }

  // Through softmax(q~ k^T) v: dk, dv, and what pieces add to those by q~.
  template <class Own>
  void BackKeys(const Backwards &x, const Saved &saved, const ConstView &k,
                const ConstView &v, const View &dk, const View &dv, Own own,
                Exec &exec) const {
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    exec.For(KvHeads() * pieces_, [&](int64_t task, int slot) {
      const int64_t kv = task / pieces_, first = kv * group_ * m_;
      const Interval keys = Piece(task % pieces_);
      const auto cut = [&](const auto &view) {
        return Cut(view, kv / problem_.kv_heads, kv % problem_.kv_heads, 1,
                   keys.begin, keys.size());
      };
      TileBackward(grouped_,
                   {.forward = {.q = Rows(x.means.qf + first * d, group_, d),
                                .k = cut(k),
                                .v = cut(v),
                                .lse = saved.mean_lse + first,
                                .kv_end = keys.size()},
                    .out = Rows(saved.b + first * e, group_, e),
                    .dout = Rows(x.db + first * e, group_, e),
                    .dq = Rows(x.dq_parts + task * group_ * m_ * d, group_, d),
                    .dk = cut(dk),
                    .dv = cut(dv)},
                   own(slot), Serial());
    });
  }

  // Adds a token's share of its landmark's gradient: of(head, r, c) of view's
  // head.
  template <class Of>
  void AddMeans(const View &to, Of of, Exec &exec) const {
    exec.For(to.batch * to.heads * m_, [&](int64_t task, int) {
      const int64_t head = task / m_, r = task % m_;
      const Interval rows = Segment(r, m_, Tokens());
      const double share = 1 / static_cast<double>(rows.size());
      for (int64_t c = 0; c < to.dim; ++c) {
        const auto add = static_cast<float>(share * of(head, r, c));
        for (int64_t t = rows.begin; t < rows.end; ++t)
          to.Row<float>(head / to.heads, head % to.heads, t)[c] += add;
      }
    });
  }
  double ByQueryMean(const Backwards &x, int64_t head, int64_t r,
                     int64_t c) const {
    const int64_t kv = KvHead(head), g = head % group_;
    double sum = x.dq[(head * m_ + r) * d_wide_ + c];
    for (int64_t n = 0; n < pieces_; ++n) {
      const int64_t row = ((kv * pieces_ + n) * group_ + g) * m_ + r;
      sum += double{x.dq_parts[row * problem_.qk_dim + c]};
    }
    return sum;
  }
  double ByKeyMean(const Backwards &x, int64_t kv, int64_t r, int64_t c) const {
    double sum = 0;
    for (int64_t h = kv * group_; h < (kv + 1) * group_; ++h)
      sum += x.dk[(h * m_ + r) * d_wide_ + c];
    return sum;
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    const Problem &p = problem_;
    if (p.q_len == 0) return;
    Arena arena(scratch);
    const Backwards x(arena, *this);
    // Read only.
    Arena kept(
        Bytes(const_cast<std::byte *>(up.saved.data()), up.saved.size()));
    const Saved saved(kept, *this);
    const bool floats = p.dtype == DType::kF32;
    const ConstView q = Widen(in.q, x.floats.q, exec),
                    k = Widen(in.k, x.floats.k, exec),
                    v = Widen(in.v, x.floats.v, exec),
                    out = Widen(up.out, x.floats.out, exec),
                    dout = Widen(up.dout, x.floats.dout, exec);
    const View dq = floats ? grad.dq : x.floats.dq,
               dk = floats ? grad.dk : x.floats.dk,
               dv = floats ? grad.dv : x.floats.dv;
    MeansOf(q, x.means.q, x.means.qf, exec);
    MeansOf(k, x.means.k, x.means.kf, exec);
    const auto own = [&](int slot) {
      return scratch.subspan(
          x.used + static_cast<size_t>(slot) * BackwardSlot(), BackwardSlot());
    };
    BackRows(x, saved, q, out, dout, dq, own, exec);
    exec.For(Heads(), [&](int64_t head, int slot) {
      Arena a(own(slot));
      BackSmall(x, saved, head, Small(a, *this));
    });
    BackKeys(x, saved, k, v, dk, dv, own, exec);
    AddMeans(
        dq,
        [&](int64_t head, int64_t r, int64_t c) {
          return ByQueryMean(x, head, r, c);
        },
        exec);
    AddMeans(
        dk,
        [&](int64_t kv, int64_t r, int64_t c) {
          return ByKeyMean(x, kv, r, c);
        },
        exec);
    Narrow(dq, grad.dq, exec);
    Narrow(dk, grad.dk, exec);
    Narrow(dv, grad.dv, exec);
  }

  int64_t m_, steps_, group_, pieces_;
  int64_t d_wide_, e_wide_;  // padded
  TileSpec one_, grouped_;
};

}  // namespace

std::unique_ptr<Plan> MakeLandmarkPlan(const Problem &problem,
                                       int64_t landmarks, int64_t steps) {
  ChooseTarget();
  return std::make_unique<LandmarkPlan>(problem, landmarks, steps);
}

}  // namespace saccade
