// The plan of attention to the keys with the largest scores.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "arena.h"
#include "engine/extend.h"
#include "engine/kv_cache.h"
#include "engine/pattern.h"
#include "engine/topk.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using topk::kKeys;

constexpr int64_t kRows = 16;          // queries of a task
constexpr int64_t kChunk = 64;         // keys of a task of gradients
constexpr int32_t kNoKey = INT32_MAX;  // behind the last that a row keeps

// A pass's tensors and where they stand; keys are rows 0 .. keys - 1.
struct Call {
  ConstView q, k, v;
  View out;
  int64_t q_position, keys;
};

template <class T>
class TopKPlan final : public Plan {
 public:
  TopKPlan(const Problem& p, int64_t kept)
      : Plan(p),
        mask_(MaskPart(p)),
        kept_(std::clamp<int64_t>(kept, 1, std::max<int64_t>(p.kv_len, 1))),
        list_((kept_ + 15) / 16 * 16),
        room_(2 * list_ + kKeys + 16),
        q_width_(topk::Padded(p.qk_dim)),
        v_width_(topk::Padded(p.v_dim)),
        chunks_((p.kv_len + kChunk - 1) / kChunk),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .qk_dim = p.qk_dim,
                .v_dim = p.v_dim,
                .dtype = p.dtype,
                .capacity = p.kv_len,
                .append = p.q_len}) {}

 private:
  std::string DoDescribe() const override {
    return "scores of all pairs, " + std::to_string(kept_) + " keys a row kept";
  }

  // What forward keeps of each row, keys ascending, kNoKey behind them.
  struct Lists {
    Lists(Arena& a, int64_t rows, int64_t list)
        : keys(a.Take<int32_t>(rows * list)), p(a.Take<float>(rows * list)) {}
    int32_t* keys;
    float* p;
  };
  struct ForwardSlot {
    ForwardSlot(Arena& a, const TopKPlan& plan)
        : q(a.Take<float>(kRows * plan.q_width_)),
          s(a.Take<float>(kRows * kKeys)),
          rows(a.Take<const T*>(kKeys)),
          scores(a.Take<float>(kRows * plan.room_)),
          keys(a.Take<int32_t>(kRows * plan.room_)),
          order(a.Take<int32_t>(plan.room_)),
          part(a.Take<float>(plan.v_width_)),
          out(a.Take<float>(plan.v_width_)) {}
    topk::Candidates Row(int64_t r, int64_t room) const {
      return {scores + r * room, keys + r * room, order};
    }
    float *q, *s;
    const T** rows;
    float* scores;
    int32_t *keys, *order;
    float *part, *out;
  };
  // Gradients of scores, times the scale [rows, list]; q [rows] and dout as
  // padded floats.
  struct Shared {
    Shared(Arena& a, const TopKPlan& plan)
        : ds(a.Take<float>(plan.Rows() * plan.list_)),
          q(a.Take<float>(plan.Rows() * plan.q_width_)),
          dout(a.Take<float>(plan.Rows() * plan.v_width_)) {}
    float *ds, *q, *dout;
  };
  struct RowSlot {
    RowSlot(Arena& a, const TopKPlan& plan)
        : rows(a.Take<const T*>(kKeys)),
          dp(a.Take<float>(plan.list_ + kKeys)),
          part(a.Take<float>(plan.q_width_)),
          dq(a.Take<float>(plan.q_width_)) {}
    const T** rows;
    float *dp, *part, *dq;
  };
  struct KeySlot {
    KeySlot(Arena& a, const TopKPlan& plan)
        : dk(a.Take<float>(kChunk * plan.q_width_)),
          dv(a.Take<float>(kChunk * plan.v_width_)) {}
    float *dk, *dv;
  };

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t Rows() const { return Heads() * problem_.q_len; }
  template <class Slot>
  size_t Bytes1() const {
    Arena a;
    Slot(a, *this);
    return a.used();
  }

  Footprint DoMemory(int slots) const override {
    const auto n = static_cast<size_t>(slots);
    Arena saved, shared;
    Lists(saved, Rows(), list_);
    Shared(shared, *this);
    Footprint f;
    f.forward_scratch = n * Bytes1<ForwardSlot>();
    f.backward_scratch =
        shared.used() + n * std::max(Bytes1<RowSlot>(), Bytes1<KeySlot>());
    f.saved = saved.used();
    if (problem_.mask != Mask::kNone) {
      f.extend_scratch = f.forward_scratch;
      f.state = cache_.bytes();
    }
    return f;
  }

  Interval Seen(int64_t i, Interval within) const {
    return Interval{i - mask_.high, i - mask_.low + 1}.Cut(within);
  }
  int64_t KeyHead(int64_t h) const {
    return h / (problem_.q_heads / problem_.kv_heads);
  }

  // The best of all keys that rows first .. first + n - 1 see.
  void Select(const Call& c, int64_t b, int64_t h, int64_t first, int64_t n,
              const ForwardSlot& s, topk::Candidates* best) const {
    const int64_t position = c.q_position + first;
    const Interval all =
        Interval{position - mask_.high, position + n - mask_.low}.Cut(
            {0, c.keys});
    for (int64_t begin = all.begin; begin < all.end; begin += kKeys) {
      const Interval block{begin, std::min(begin + kKeys, all.end)};
      const int64_t padded = (block.size() + 15) / 16 * 16;
      for (int64_t j = 0; j < padded; ++j)
        s.rows[j] =
            c.k.Row<T>(b, KeyHead(h), std::min(begin + j, block.end - 1));
      topk::Scores(s.rows, padded, s.q, q_width_, n, problem_.qk_dim, s.s);
      for (int64_t r = 0; r < n; ++r) {
        const Interval keys = Seen(position + r, block);
        if (keys.empty()) continue;
        topk::TakeAbove(s.s + r * kKeys, keys.begin - begin, keys.end - begin,
                        begin, best + r);
        if (best[r].count >= 2 * kept_) topk::KeepBest(kept_, best + r);
      }
    }
    for (int64_t r = 0; r < n; ++r) topk::KeepBest(kept_, best + r);
  }

  void RunTask(const Call& c, const Lists* lists, int64_t b, int64_t h,
               int64_t first, const ForwardSlot& s) const {
    const Problem& p = problem_;
    const int64_t n = std::min(kRows, c.q.len - first);
    topk::Candidates best[kRows];
    std::fill_n(s.q, n * q_width_, 0.0f);
    for (int64_t r = 0; r < n; ++r) {
      best[r] = s.Row(r, room_);
      const T* const row = c.q.Row<T>(b, h, first + r);
      for (int64_t d = 0; d < p.qk_dim; ++d)
        s.q[r * q_width_ + d] = p.scale * Get(row[d]);
    }
    Select(c, b, h, first, n, s, best);
    for (int64_t r = 0; r < n; ++r) {
      const int64_t count = best[r].count;
      float* const w = best[r].scores;
      float top = -INFINITY;
      for (int64_t e = 0; e < count; ++e)
        if (!(w[e] <= top)) top = w[e];
      const float sum = topk::Exponentials(w, count, top);
      Average(c, b, h, best[r], s);
      T* const to = c.out.template Row<T>(b, h, first + r);
      for (int64_t e = 0; e < p.v_dim; ++e)
        Put(count > 0 ? s.out[e] / sum : 0.0f, to + e);
      if (lists == nullptr) continue;
      const int64_t at = ((b * p.q_heads + h) * c.q.len + first + r) * list_;
      for (int64_t e = 0; e < list_; ++e) {
        lists->keys[at + e] = e < count ? best[r].keys[e] : kNoKey;
        lists->p[at + e] = e < count ? w[e] / sum : 0;
      }
    }
  }

  // out = sum of the kept keys' values by their weights.
  void Average(const Call& c, int64_t b, int64_t h,
               const topk::Candidates& best, const ForwardSlot& s) const {
    std::fill_n(s.out, v_width_, 0.0f);
    for (int64_t e = 0; e < best.count; e += kKeys) {
      const int64_t some = std::min(kKeys, best.count - e);
      for (int64_t x = 0; x < some; ++x)
        s.rows[x] = c.v.Row<T>(b, KeyHead(h), best.keys[e + x]);
      topk::WeightedSum(s.rows, best.scores + e, some, problem_.v_dim, s.part);
      topk::AddScaled(1, s.part, problem_.v_dim, s.out);
    }
  }

  void Run(const Call& c, const Lists* lists, Bytes scratch, Exec& exec) const {
    const int64_t tasks = (c.q.len + kRows - 1) / kRows;
    const size_t each = Bytes1<ForwardSlot>();
    exec.For(Heads() * tasks, [&](int64_t task, int slot) {
      Arena own(scratch.subspan(static_cast<size_t>(slot) * each));
      const ForwardSlot s(own, *this);
      const int64_t head = task / tasks;
      RunTask(c, lists, head / problem_.q_heads, head % problem_.q_heads,
              task % tasks * kRows, s);
    });
  }

  Call CallOf(const Inputs& in) const {
    return {in.q, in.k, in.v, {}, QueryOffset(problem_), problem_.kv_len};
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Call call = CallOf(in);
    call.out = out.out;
    if (saved.empty()) return Run(call, nullptr, scratch, exec);
    Arena arena(saved);
    const Lists lists(arena, Rows(), list_);
    Run(call, &lists, scratch, exec);
  }

  // Of a row: gradients of its scores, and dq.
  void BackRow(const Call& c, const ConstView& dout, const Gradients& grad,
               const Lists& lists, const Shared& shared, int64_t b, int64_t h,
               int64_t t, const RowSlot& s) const {
    const Problem& p = problem_;
    const int64_t row = (b * p.q_heads + h) * p.q_len + t;
    const int32_t* const keys = lists.keys + row * list_;
    const int64_t count = std::find(keys, keys + list_, kNoKey) - keys;
    float* const g = shared.dout + row * v_width_;
    std::fill_n(g, v_width_, 0.0f);
    for (int64_t e = 0; e < p.v_dim; ++e) g[e] = Get(dout.Row<T>(b, h, t)[e]);
    float* const q = shared.q + row * q_width_;
    std::fill_n(q, q_width_, 0.0f);
    for (int64_t d = 0; d < p.qk_dim; ++d) q[d] = Get(c.q.Row<T>(b, h, t)[d]);
    const auto point = [&](const ConstView& x, int64_t e) {
      const int64_t some = std::min(kKeys, count - e);
      for (int64_t j = 0; j < (some + 15) / 16 * 16; ++j)
        s.rows[j] = x.Row<T>(b, KeyHead(h), keys[e + std::min(j, some - 1)]);
      return some;
    };
    for (int64_t e = 0; e < count; e += kKeys) {
      const int64_t some = point(c.v, e);
      topk::Scores(s.rows, (some + 15) / 16 * 16, g, v_width_, 1, p.v_dim,
                   s.dp + e);
    }
    double delta = 0;
    const float* const w = lists.p + row * list_;
    for (int64_t e = 0; e < count; ++e) delta += double{w[e]} * s.dp[e];
    float* const ds = shared.ds + row * list_;
    for (int64_t e = 0; e < count; ++e)
      ds[e] = p.scale * w[e] * (s.dp[e] - static_cast<float>(delta));
    std::fill_n(s.dq, q_width_, 0.0f);
    for (int64_t e = 0; e < count; e += kKeys) {
      const int64_t some = point(c.k, e);
      topk::WeightedSum(s.rows, ds + e, some, p.qk_dim, s.part);
      topk::AddScaled(1, s.part, p.qk_dim, s.dq);
    }
    T* const to = grad.dq.template Row<T>(b, h, t);
    for (int64_t d = 0; d < p.qk_dim; ++d) Put(s.dq[d], to + d);
  }

  // Of a chunk of keys: dk and dv, from every row that kept one of them.
  void BackKeys(const Call& c, const Gradients& grad, const Lists& lists,
                const Shared& shared, int64_t b, int64_t kv, int64_t begin,
                const KeySlot& s) const {
    const Problem& p = problem_;
    const int64_t end = std::min(begin + kChunk, c.keys);
    const int64_t group = p.q_heads / p.kv_heads;
    std::fill_n(s.dk, kChunk * q_width_, 0.0f);
    std::fill_n(s.dv, kChunk * v_width_, 0.0f);
    const Interval rows = Interval{begin + mask_.low - c.q_position,
                                   end + mask_.high - c.q_position}
                              .Cut({0, p.q_len});
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h)
      for (int64_t t = rows.begin; t < rows.end; ++t) {
        const int64_t row = (b * p.q_heads + h) * p.q_len + t;
        const int32_t* const keys = lists.keys + row * list_;
        const int32_t* at = std::lower_bound(keys, keys + list_, begin);
        for (; at < keys + list_ && *at < end; ++at) {
          const int64_t e = row * list_ + (at - keys), j = *at - begin;
          topk::AddScaled(shared.ds[e], shared.q + row * q_width_, p.qk_dim,
                          s.dk + j * q_width_);
          topk::AddScaled(lists.p[e], shared.dout + row * v_width_, p.v_dim,
                          s.dv + j * v_width_);
        }
      }
    for (int64_t j = begin; j < end; ++j) {
      T* const dk = grad.dk.template Row<T>(b, kv, j);
      T* const dv = grad.dv.template Row<T>(b, kv, j);
      for (int64_t d = 0; d < p.qk_dim; ++d)
        Put(s.dk[(j - begin) * q_width_ + d], dk + d);
      for (int64_t e = 0; e < p.v_dim; ++e)
        Put(s.dv[(j - begin) * v_width_ + e], dv + e);
    }
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    const Call call = CallOf(in);
    // Read only.
    Arena saved(
        Bytes(const_cast<std::byte*>(up.saved.data()), up.saved.size()));
    const Lists lists(saved, Rows(), list_);
    Arena arena(scratch);
    const Shared shared(arena, *this);
    const Bytes slots = scratch.subspan(arena.used());
    const size_t each = std::max(Bytes1<RowSlot>(), Bytes1<KeySlot>());
    const auto own = [&](int slot) {
      return slots.subspan(static_cast<size_t>(slot) * each);
    };
    const int64_t tasks = (p.q_len + kRows - 1) / kRows;
    exec.For(Heads() * tasks, [&](int64_t task, int slot) {
      Arena a(own(slot));
      const RowSlot s(a, *this);
      const int64_t head = task / tasks, first = task % tasks * kRows;
      for (int64_t t = first; t < std::min(first + kRows, p.q_len); ++t)
        BackRow(call, up.dout, grad, lists, shared, head / p.q_heads,
                head % p.q_heads, t, s);
    });
    exec.For(p.batch * p.kv_heads * chunks_, [&](int64_t task, int slot) {
      Arena a(own(slot));
      const KeySlot s(a, *this);
      const int64_t head = task / chunks_;
      BackKeys(call, grad, lists, shared, head / p.kv_heads, head % p.kv_heads,
               task % chunks_ * kChunk, s);
    });
  }

  void DoReset(Bytes state) const override { cache_.Reset(state); }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Result<KvCache::Held> held = cache_.Open(state);
    if (!held.ok()) return held.status();
    const int64_t n = fresh.q.len, past = held->tokens;
    const Status room = CheckRoom(past, n, problem_.kv_len);
    if (!room.ok()) return room;
    cache_.Append(state, *held, fresh.k, fresh.v, 0, n, exec);
    const Call call = {fresh.q, held->k, held->v, out.out, past, held->tokens};
    Run(call, nullptr, scratch, exec);
    return {};
  }

  Part mask_;
  int64_t kept_, list_, room_;  // keys a row: kept, of a list, of candidates
  int64_t q_width_, v_width_;   // padded
  int64_t chunks_;
  KvCache cache_;
};

}  // namespace

std::unique_ptr<Plan> MakeTopKPlan(const Problem& problem, int64_t kept) {
  ChooseTarget();
  if (problem.dtype == DType::kF32)
    return std::make_unique<TopKPlan<float>>(problem, kept);
  return std::make_unique<TopKPlan<BF16>>(problem, kept);
}

}  // namespace saccade
