#include "engine/additive_plan.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "arena.h"
#include "engine/additive.h"
#include "engine/extend.h"
#include "engine/kv_cache.h"
#include "engine/pattern.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using additive::KeyBlock;
using additive::kKeys;
using additive::kQueries;
using additive::kUnit;
using additive::QueryRows;

constexpr int64_t kTask = 32;      // queries of a forward task
constexpr int64_t kAtOnce = 64;    // units of a key that is made ready
constexpr int64_t kBackTasks = 8;  // of a backward pass, at least, if it can

// The larger of what was and |x|; what is not a number stays.
inline float Most(float most, float x) {
  return std::abs(x) <= most || std::isnan(most) ? most : std::abs(x);
}

template <class T>
void LoadRow(const ConstView& x, int64_t b, int64_t h, int64_t t, float* to) {
  const T* const row = x.Row<T>(b, h, t);
  for (int64_t c = 0; c < x.dim; ++c) to[c] = Get(row[c]);
}

// A pass's tensors and where they stand; keys are rows 0 .. keys - 1.
struct Call {
  ConstView q, k, v;
  View out;
  float* lse;
  const float* learned;  // of head 0
  int64_t learned_stride;
  int64_t q_position, keys;
};

template <class T>
class AdditivePlan final : public Plan {
 public:
  AdditivePlan(const Problem& p, std::unique_ptr<const AdditiveWeights> weights)
      : Plan(p),
        weights_(std::move(weights)),
        mask_(MaskPart(p)),
        units_(additive::Padded(p.qk_dim)),
        width_(additive::PaddedRow(p.v_dim)),
        blocks_((p.kv_len + kKeys - 1) / kKeys),
        values_({.batch = p.batch,
                 .heads = p.kv_heads,
                 .v_dim = p.v_dim,
                 .dtype = p.dtype,
                 .capacity = p.kv_len,
                 .append = p.q_len}) {
    const int64_t heads = std::max<int64_t>(p.batch * p.kv_heads, 1);
    parts_ = std::clamp<int64_t>((kBackTasks + heads - 1) / heads, 1,
                                 std::max<int64_t>(blocks_, 1));
  }

 private:
  std::string DoDescribe() const override {
    return "additive scores, " + std::to_string(kKeys) +
           " keys a block, backward in " + std::to_string(parts_) + " parts";
  }

  // What all tasks of a pass read: heads' weights, keys made ready, which are
  // in memory of their own.
  struct Shared {
    Shared(Arena& a, Arena& ready, const AdditivePlan& plan)
        : w(a.Take<float>(plan.problem_.q_heads * plan.units_)),
          b(a.Take<float>(plan.problem_.q_heads * plan.units_)),
          keys(a.Take<KeyBlock>(plan.KeyBlocks())) {
      for (int64_t n = 0; n < plan.KeyBlocks(); ++n) {
        KeyBlock block(ready, plan.units_);
        if (keys != nullptr) keys[n] = block;
      }
    }
    float *w, *b;
    KeyBlock* keys;  // [B, Hkv][block]
  };

  struct ForwardSlot {
    ForwardSlot(Arena& a, int64_t units, int64_t width)
        : q(a, kTask, units),
          out(a.Take<float>(kTask * width)),
          top(a.Take<float>(kTask)),
          sum(a.Take<float>(kTask)),
          p(a.Take<float>(kQueries * kKeys)),
          v(a.Take<float>(kKeys * width)) {}
    QueryRows q;
    float *out, *top, *sum, *p, *v;
  };

  struct BackwardSlot {
    BackwardSlot(Arena& a, int64_t units, int64_t width)
        : q(a, 1, units),
          dout(a.Take<float>(width)),
          row(a.Take<float>(std::max(units, width))),
          p(a.Take<float>(kKeys)),
          ds(a.Take<float>(kKeys)),
          v(a.Take<float>(width * kKeys)),
          dk(a.Take<float>(units * kUnit)),
          dv(a.Take<float>(kKeys * width)) {}
    QueryRows q;
    float *dout, *row, *p, *ds, *v, *dk, *dv;
  };

  // Parts of gradients: dq [part][B, Hq, Tq][units], dw [part][B, Hq][units];
  // delta = out.dout [B, Hq, Tq]; db [units].
  struct Sums {
    Sums(Arena& a, const AdditivePlan& plan)
        : dq(a.Take<float>(plan.parts_ * plan.Rows() * plan.units_)),
          dw(a.Take<double>(plan.parts_ * plan.Heads() * plan.units_)),
          delta(a.Take<float>(plan.Rows())),
          dw_sum(a.Take<double>(plan.units_)),
          db_sum(a.Take<double>(plan.units_)) {}
    float* dq;
    double* dw;
    float* delta;
    double *dw_sum, *db_sum;
  };

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t Rows() const { return Heads() * problem_.q_len; }
  int64_t KeyBlocks() const {
    return problem_.batch * problem_.kv_heads * blocks_;
  }
  template <class Slot>
  size_t SlotBytes() const {
    Arena a;
    Slot(a, units_, width_);
    return a.used();
  }

  Footprint DoMemory(int slots) const override {
    const auto n = static_cast<size_t>(slots);
    Arena shared, sums, saved, beside, ready;
    Shared(shared, shared, *this);
    Shared(beside, ready, *this);
    Sums(sums, *this);
    saved.Take<float>(Rows());
    Footprint f;
    f.forward_scratch = shared.used() + n * SlotBytes<ForwardSlot>();
    f.backward_scratch =
        shared.used() + sums.used() + n * SlotBytes<BackwardSlot>();
    f.saved = saved.used();
    if (problem_.mask != Mask::kNone) {
      f.extend_scratch = beside.used() + n * SlotBytes<ForwardSlot>();
      f.state = ValueBytes() + ready.used();
    }
    return f;
  }

  size_t ValueBytes() const {
    return (values_.bytes() + kAlign - 1) / kAlign * kAlign;
  }

  Interval Keys(int64_t i, Interval within) const {
    return Interval{i - mask_.high, i - mask_.low + 1}.Cut(within);
  }
  additive::Weights WeightsOf(const Shared& shared, int64_t h) const {
    const float* const w = shared.w + h * units_;
    double sum = 0;
    for (int64_t u = 0; u < units_; ++u) sum += double{w[u]};
    return {w, static_cast<float>(sum), units_};
  }

  void PrepareWeights(const Call& c, const Shared& shared) const {
    const Problem& p = problem_;
    for (int64_t h = 0; h < p.q_heads; ++h) {
      std::fill_n(shared.w + h * units_, units_, 0.0f);
      std::fill_n(shared.b + h * units_, units_, 0.0f);
      weights_->Weights(c.learned + h * c.learned_stride, shared.w + h * units_,
                        shared.b + h * units_);
    }
  }

  void Prepare(const Call& c, const Shared& shared, Exec& exec) const {
    const Problem& p = problem_;
    PrepareWeights(c, shared);
    const int64_t used = (c.keys + kKeys - 1) / kKeys;
    exec.For(p.batch * p.kv_heads * used, [&](int64_t task, int) {
      const int64_t head = task / used, first = task % used * kKeys;
      const KeyBlock& block = shared.keys[head * blocks_ + task % used];
      const int64_t n = std::min(kKeys, c.keys - first);
      std::fill_n(block.raw, units_ * kUnit, 0.0f);
      std::fill_n(block.most, kKeys, 0.0f);
      for (int64_t j = 0; j < n; ++j) {
        const T* const row =
            c.k.Row<T>(head / p.kv_heads, head % p.kv_heads, first + j);
        for (int64_t u = 0; u < p.qk_dim; ++u) {
          const float x = Get(row[u]);
          block.raw[u * kUnit + j] = x;
          block.most[j] = Most(block.most[j], x);
        }
      }
      additive::Powers(block.raw, units_ * kUnit, block.power);
    });
  }

  // Keys of a piece of a sequence, behind those that are there.
  void Append(const ConstView& k, int64_t past, const Shared& shared,
              Exec& exec) const {
    const Problem& p = problem_;
    if (k.len == 0) return;
    const int64_t begin = past / kKeys;
    const int64_t used = (past + k.len - 1) / kKeys + 1 - begin;
    exec.For(p.batch * p.kv_heads * used, [&](int64_t task, int) {
      const int64_t head = task / used, n = begin + task % used;
      const KeyBlock& block = shared.keys[head * blocks_ + n];
      const Interval keys =
          Interval{n * kKeys, (n + 1) * kKeys}.Cut({past, past + k.len});
      if (keys.begin == n * kKeys) {
        std::fill_n(block.raw, units_ * kUnit, 0.0f);
        std::fill_n(block.power, units_ * kUnit, 0.0f);
        std::fill_n(block.most, kKeys, 0.0f);
      }
      for (int64_t key = keys.begin; key < keys.end; ++key) {
        const T* const row =
            k.Row<T>(head / p.kv_heads, head % p.kv_heads, key - past);
        float* const raw = block.raw + key % kKeys;
        float* const power = block.power + key % kKeys;
        float& most = block.most[key % kKeys];
        most = 0;
        float some[kAtOnce];
        for (int64_t u = 0; u < p.qk_dim; u += kAtOnce) {
          const int64_t count = std::min(kAtOnce, p.qk_dim - u);
          for (int64_t x = 0; x < count; ++x) {
            some[x] = Get(row[u + x]);
            raw[(u + x) * kUnit] = some[x];
            most = Most(most, some[x]);
          }
          additive::Powers(some, count, some);
          for (int64_t x = 0; x < count; ++x) power[(u + x) * kUnit] = some[x];
        }
        for (int64_t u = p.qk_dim; u < units_; ++u) power[u * kUnit] = 1;
      }
    });
  }

  void LoadQuery(const Call& c, const Shared& shared, int64_t b, int64_t h,
                 int64_t row, const QueryRows& to) const {
    std::fill_n(to.raw, units_, 0.0f);
    LoadRow<T>(c.q, b, h, row, to.raw);
    for (int64_t u = 0; u < problem_.qk_dim; ++u)
      to.raw[u] += shared.b[h * units_ + u];
    *to.most = 0;
    for (int64_t u = 0; u < problem_.qk_dim; ++u)
      *to.most = Most(*to.most, to.raw[u]);
    additive::Powers(to.raw, units_, to.power);
  }

  // Values of keys first .. first + n - 1, rows padded with zeros.
  void LoadValues(const Call& c, int64_t b, int64_t h, int64_t first, int64_t n,
                  float* v) const {
    for (int64_t j = 0; j < n; ++j) {
      std::fill_n(v + j * width_ + problem_.v_dim, width_ - problem_.v_dim,
                  0.0f);
      LoadRow<T>(c.v, b, h, first + j, v + j * width_);
    }
  }

  // Weights and values of up to kQueries rows of a task against a block.
  void AddBlock(const additive::Weights& w, const KeyBlock& block,
                Interval block_keys, int64_t position, int64_t row, int64_t n,
                const ForwardSlot& s) const {
    Interval common{0, kKeys}, any, seen[kQueries];
    for (int64_t r = 0; r < n; ++r) {
      const Interval keys = Keys(position + row + r, block_keys);
      seen[r] = keys.empty() ? Interval{}
                             : Interval{keys.begin - block_keys.begin,
                                        keys.end - block_keys.begin};
      common = common.Cut(seen[r]);
      if (keys.empty()) continue;
      any = any.empty() ? seen[r]
                        : Interval{std::min(any.begin, seen[r].begin),
                                   std::max(any.end, seen[r].end)};
    }
    additive::Scores(w, s.q.At(row, units_), n, block, any, s.p);
    for (int64_t r = 0; r < n; ++r) {
      if (seen[r].empty()) continue;
      float* const p = s.p + r * kKeys;
      float& top = s.top[row + r];
      const float largest = additive::Largest(p, seen[r]);
      const float before = top;
      // Not below what was, unless that is what it is not: a number.
      if (!(largest <= top)) top = largest;
      if (top == -INFINITY) top = 0;  // all of them are no numbers
      const float by = before == -INFINITY ? 0.0f : std::exp(before - top);
      if (by != 1) {
        s.sum[row + r] *= by;
        additive::Multiply(by, width_, s.out + (row + r) * width_);
      }
      s.sum[row + r] += additive::Exponentials(p, seen[r], top);
    }
    // Together where all see; by themselves beside that.
    if (common.empty()) common = {0, 0};
    const auto add = [&](int64_t r, int64_t rows, Interval keys) {
      if (!keys.empty())
        additive::AddValues(s.p + r * kKeys, rows, s.v, keys, width_,
                            s.out + (row + r) * width_);
    };
    add(0, n, common);
    for (int64_t r = 0; r < n; ++r) {
      if (common.empty()) {
        add(r, 1, seen[r]);
        continue;
      }
      add(r, 1, {seen[r].begin, common.begin});
      add(r, 1, {common.end, seen[r].end});
    }
  }

  void RunTask(const Call& c, const Shared& shared, int64_t b, int64_t h,
               int64_t first, const ForwardSlot& s) const {
    const Problem& p = problem_;
    const int64_t n = std::min(kTask, c.q.len - first);
    const int64_t kv = h / (p.q_heads / p.kv_heads);
    const additive::Weights w = WeightsOf(shared, h);
    for (int64_t r = 0; r < n; ++r)
      LoadQuery(c, shared, b, h, first + r, s.q.At(r, units_));
    std::fill_n(s.out, n * width_, 0.0f);
    std::fill_n(s.sum, n, 0.0f);
    std::fill_n(s.top, n, -INFINITY);
    const int64_t position = c.q_position + first;
    const Interval all =
        Interval{position - mask_.high, position + n - mask_.low}.Cut(
            {0, c.keys});
    for (int64_t block = all.begin / kKeys; block * kKeys < all.end; ++block) {
      const Interval keys =
          Interval{block * kKeys, (block + 1) * kKeys}.Cut({0, c.keys});
      LoadValues(c, b, kv, keys.begin, keys.size(), s.v);
      for (int64_t row = 0; row < n; row += kQueries)
        AddBlock(w, shared.keys[(b * p.kv_heads + kv) * blocks_ + block], keys,
                 position, row, std::min(kQueries, n - row), s);
    }
    for (int64_t r = 0; r < n; ++r) {
      const bool blind = s.top[r] == -INFINITY;
      T* const to = c.out.template Row<T>(b, h, first + r);
      for (int64_t e = 0; e < p.v_dim; ++e)
        Put(blind ? 0.0f : s.out[r * width_ + e] / s.sum[r], to + e);
      if (c.lse != nullptr)
        c.lse[(b * p.q_heads + h) * c.q.len + first + r] =
            s.top[r] + std::log(s.sum[r]);
    }
  }

  void Run(const Call& c, const Shared& shared, Bytes slots, Exec& exec) const {
    const Problem& p = problem_;
    const size_t each = SlotBytes<ForwardSlot>();
    const int64_t tasks = (c.q.len + kTask - 1) / kTask;
    exec.For(Heads() * tasks, [&](int64_t task, int slot) {
      Arena own(slots.subspan(static_cast<size_t>(slot) * each));
      const ForwardSlot s(own, units_, width_);
      const int64_t head = task / tasks;
      RunTask(c, shared, head / p.q_heads, head % p.q_heads,
              task % tasks * kTask, s);
    });
  }

  Call CallOf(const Inputs& in) const {
    const bool given = in.bias.data != nullptr;
    return {.q = in.q,
            .k = in.k,
            .v = in.v,
            .out = {},
            .lse = nullptr,
            .learned = given ? in.bias.Row<float>(0, 0, 0) : weights_->start(),
            .learned_stride = given ? in.bias.head_stride : 0,
            .q_position = QueryOffset(problem_),
            .keys = problem_.kv_len};
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Call call = CallOf(in);
    call.out = out.out;
    call.lse = out.lse;
    if (!saved.empty()) {
      Arena arena(saved);
      call.lse = arena.Take<float>(Rows());
    }
    Arena arena(scratch);
    const Shared shared(arena, arena, *this);
    Prepare(call, shared, exec);
    Run(call, shared, scratch.subspan(arena.used()), exec);
    if (out.lse != nullptr && call.lse != out.lse)
      std::copy_n(call.lse, Rows(), out.lse);
  }

  // Gradients of a block of keys, from one head's queries.
  void BackHead(const Call& c, const ConstView& dout, const float* lse,
                const Shared& shared, const KeyBlock& block,
                Interval block_keys, int64_t b, int64_t h, const Sums& sums,
                float* dq, double* dw, const BackwardSlot& s) const {
    const Problem& p = problem_;
    const additive::Weights w = WeightsOf(shared, h);
    const Interval rows = Interval{block_keys.begin + mask_.low - c.q_position,
                                   block_keys.end + mask_.high - c.q_position}
                              .Cut({0, c.q.len});
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const Interval seen = Keys(c.q_position + row, block_keys);
      if (seen.empty()) continue;
      const Interval keys{seen.begin - block_keys.begin,
                          seen.end - block_keys.begin};
      const int64_t at = (b * p.q_heads + h) * c.q.len + row;
      LoadQuery(c, shared, b, h, row, s.q);
      std::fill_n(s.dout, width_, 0.0f);
      LoadRow<T>(dout, b, h, row, s.dout);
      additive::Scores(w, s.q, 1, block, keys, s.p);
      additive::Exponentials(s.p, keys, lse[at]);
      additive::ScoreGradients(s.p, s.dout, sums.delta + at, s.v, p.v_dim, keys,
                               s.ds);
      additive::AddValueGradients(s.p, s.dout, keys, width_, s.dv);
      additive::AddUnits(w, s.q, block, keys, s.ds, dq + row * units_, s.dk,
                         dw);
    }
  }

  void BackTask(const Call& c, const ConstView& dout, const float* lse,
                const Gradients& grad, const Shared& shared, const Sums& sums,
                int64_t b, int64_t kv, int64_t part,
                const BackwardSlot& s) const {
    const Problem& p = problem_;
    const int64_t group = p.q_heads / p.kv_heads;
    const int64_t first_head = b * p.q_heads + kv * group;
    float* const dq = sums.dq + (part * Rows() + first_head * p.q_len) * units_;
    double* const dw = sums.dw + (part * Heads() + first_head) * units_;
    std::fill_n(dq, group * p.q_len * units_, 0.0f);
    std::fill_n(dw, group * units_, 0.0);
    const int64_t end = blocks_ * (part + 1) / parts_;
    for (int64_t n = blocks_ * part / parts_; n < end; ++n) {
      const Interval keys =
          Interval{n * kKeys, (n + 1) * kKeys}.Cut({0, c.keys});
      const KeyBlock& block = shared.keys[(b * p.kv_heads + kv) * blocks_ + n];
      // By column: keys lie in the lanes.
      std::fill_n(s.v, p.v_dim * kKeys, 0.0f);
      for (int64_t j = 0; j < keys.size(); ++j) {
        const T* const row = c.v.Row<T>(b, kv, keys.begin + j);
        for (int64_t e = 0; e < p.v_dim; ++e) s.v[e * kKeys + j] = Get(row[e]);
      }
      std::fill_n(s.dk, units_ * kUnit, 0.0f);
      std::fill_n(s.dv, kKeys * width_, 0.0f);
      for (int64_t g = 0; g < group; ++g)
        BackHead(c, dout, lse, shared, block, keys, b, kv * group + g, sums,
                 dq + g * p.q_len * units_, dw + g * units_, s);
      for (int64_t j = 0; j < keys.size(); ++j) {
        T* const dk = grad.dk.template Row<T>(b, kv, keys.begin + j);
        T* const dv = grad.dv.template Row<T>(b, kv, keys.begin + j);
        for (int64_t u = 0; u < p.qk_dim; ++u) Put(s.dk[u * kUnit + j], dk + u);
        for (int64_t e = 0; e < p.v_dim; ++e) Put(s.dv[j * width_ + e], dv + e);
      }
    }
  }

  // Adds the parts up, in order; db is the sum of dq over queries.
  void Finish(const Call& c, const Gradients& grad, const Sums& sums,
              Exec& exec) const {
    const Problem& p = problem_;
    exec.For(Heads(), [&](int64_t head, int) {
      for (int64_t t = 0; t < p.q_len; ++t) {
        float* const all = sums.dq + (head * p.q_len + t) * units_;
        for (int64_t part = 1; part < parts_; ++part)
          for (int64_t u = 0; u < units_; ++u)
            all[u] += all[part * Rows() * units_ + u];
        T* const to =
            grad.dq.template Row<T>(head / p.q_heads, head % p.q_heads, t);
        for (int64_t u = 0; u < p.qk_dim; ++u) Put(all[u], to + u);
      }
    });
    if (grad.dbias.data == nullptr) return;
    for (int64_t h = 0; h < p.q_heads; ++h) {
      std::fill_n(sums.dw_sum, units_, 0.0);
      std::fill_n(sums.db_sum, units_, 0.0);
      for (int64_t b = 0; b < p.batch; ++b) {
        const int64_t head = b * p.q_heads + h;
        for (int64_t part = 0; part < parts_; ++part)
          for (int64_t u = 0; u < units_; ++u)
            sums.dw_sum[u] += sums.dw[(part * Heads() + head) * units_ + u];
        for (int64_t t = 0; t < p.q_len; ++t)
          for (int64_t u = 0; u < units_; ++u)
            sums.db_sum[u] +=
                double{sums.dq[(head * p.q_len + t) * units_ + u]};
      }
      weights_->Gradient(c.learned + h * c.learned_stride, sums.dw_sum,
                         sums.db_sum, grad.dbias.Row<float>(0, h, 0));
    }
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    const Call call = CallOf(in);
    Arena arena(scratch);
    const Shared shared(arena, arena, *this);
    const Sums sums(arena, *this);
    Prepare(call, shared, exec);
    const auto* const lse = reinterpret_cast<const float*>(up.saved.data());
    exec.For(Heads(), [&](int64_t head, int) {
      for (int64_t t = 0; t < p.q_len; ++t) {
        const T* const out =
            up.out.Row<T>(head / p.q_heads, head % p.q_heads, t);
        const T* const dout =
            up.dout.Row<T>(head / p.q_heads, head % p.q_heads, t);
        double sum = 0;
        for (int64_t e = 0; e < p.v_dim; ++e)
          sum += double{Get(out[e])} * double{Get(dout[e])};
        sums.delta[head * p.q_len + t] = static_cast<float>(sum);
      }
    });
    const Bytes slots = scratch.subspan(arena.used());
    const size_t each = SlotBytes<BackwardSlot>();
    exec.For(p.batch * p.kv_heads * parts_, [&](int64_t task, int slot) {
      Arena own(slots.subspan(static_cast<size_t>(slot) * each));
      const BackwardSlot s(own, units_, width_);
      const int64_t head = task / parts_;
      BackTask(call, up.dout, lse, grad, shared, sums, head / p.kv_heads,
               head % p.kv_heads, task % parts_, s);
    });
    Finish(call, grad, sums, exec);
  }

  void DoReset(Bytes state) const override { values_.Reset(state); }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Result<KvCache::Held> held = values_.Open(state);
    if (!held.ok()) return held.status();
    const int64_t n = fresh.q.len, past = held->tokens;
    const Status room = CheckRoom(past, n, problem_.kv_len);
    if (!room.ok()) return room;
    ConstView no_keys = fresh.v;  // of width 0: keys are held made ready
    no_keys.dim = 0;
    values_.Append(state, *held, no_keys, fresh.v, 0, n, exec);
    Call call = CallOf(fresh);
    call.v = held->v;
    call.out = out.out;
    call.lse = out.lse;
    call.q_position = past;
    call.keys = held->tokens;
    Arena arena(scratch), ready(state.subspan(ValueBytes()));
    const Shared shared(arena, ready, *this);
    PrepareWeights(call, shared);
    Append(fresh.k, past, shared, exec);
    Run(call, shared, scratch.subspan(arena.used()), exec);
    return {};
  }

  std::unique_ptr<const AdditiveWeights> weights_;
  Part mask_;
  int64_t units_, width_, blocks_;
  int64_t parts_;  // of the keys, in a backward pass
  KvCache values_;
};

}  // namespace

std::unique_ptr<Plan> MakeAdditivePlan(
    const Problem& problem, std::unique_ptr<const AdditiveWeights> weights) {
  ChooseTarget();
  if (problem.dtype == DType::kF32)
    return std::make_unique<AdditivePlan<float>>(problem, std::move(weights));
  return std::make_unique<AdditivePlan<BF16>>(problem, std::move(weights));
}

}  // namespace saccade
