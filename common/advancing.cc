#include "advancing.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "arena.h"
#include "content_free.h"
#include "engine/additive.h"
#include "engine/extend.h"
#include "engine/kv_cache.h"
#include "engine/pattern.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using additive::kKeys;

constexpr int64_t kTask = 32;     // queries of a task
constexpr int64_t kKeyTask = 64;  // keys of a task of a backward pass
constexpr int64_t kGroup = additive::kQueries;

// Where the rows of one head look: [row]. Weights are relative to the nearest
// visible key's: of key near + a, exp(-a (a + lead) / 2 sigma^2).
struct Places {
  Places(Arena& a, int64_t rows)
      : keys(a.Take<Interval>(rows)),
        near(a.Take<int32_t>(rows)),
        lead(a.Take<float>(rows)) {}
  Places At(int64_t row) const {
    Places x = *this;
    x.keys += row;
    x.near += row;
    x.lead += row;
    return x;
  }
  Interval* keys;
  int32_t* near;
  float* lead;  // 2 (near - mu)
};

struct Call {
  ConstView v, step;
  View out;
  int64_t position;  // of the first query
  int64_t keys;      // rows of v
};

template <class T>
void LoadRow(const ConstView& x, int64_t b, int64_t h, int64_t t, float* to) {
  const T* const row = x.Row<T>(b, h, t);
  for (int64_t c = 0; c < x.dim; ++c) to[c] = Get(row[c]);
}

// out[r] += sum of p[r][x] values[x] over seen[r], of up to kGroup rows; values
// are read once where all see the same. Every row has one sum for each part
// where it sees anything, so that its bits do not depend on what others see,
// and what it does not see may hold anything.
void AddSeen(const float* p, const float* values, const Interval* seen,
             int64_t rows, int64_t width, float* out) {
  constexpr int64_t kPart = 32;
  Interval all{kKeys, 0};
  for (int64_t r = 0; r < rows; ++r)
    if (!seen[r].empty())
      all = {std::min(all.begin, seen[r].begin),
             std::max(all.end, seen[r].end)};
  for (int64_t part = all.begin / kPart * kPart; part < all.end;
       part += kPart) {
    Interval own[kGroup];
    bool alike = true;
    for (int64_t r = 0; r < rows; ++r) {
      own[r] = seen[r].Cut({part, part + kPart});
      alike = alike && own[r].begin == own[0].begin && own[r].end == own[0].end;
    }
    const int64_t together = alike ? rows : 1;
    for (int64_t r = 0; r < rows; r += together)
      if (!own[r].empty())
        additive::AddValues(p + r * kKeys, together, values, own[r], width,
                            out + r * width);
  }
}

template <class T>
class AdvancingPlan final : public Plan {
 public:
  AdvancingPlan(const Problem& p, const AdvancingBell& bell)
      : Plan(p),
        bell_(bell),
        sharpness_(1 / (2 * bell.sigma * bell.sigma)),
        width_(additive::PaddedRow(p.v_dim)),
        mask_(MaskPart(p)),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .v_dim = p.v_dim,
                .dtype = p.dtype,
                .capacity = p.kv_len,
                .append = p.q_len}) {}

 private:
  std::string DoDescribe() const override {
    return "moving bells, " + std::to_string(kTask) + " queries a task";
  }

  struct Slot {
    Slot(Arena& a, int64_t width)
        : p(a.Take<float>(kGroup * kKeys)),
          ds(a.Take<float>(kKeys)),
          row(a.Take<float>(width)),
          out(a.Take<float>(std::max(kTask, kKeyTask) * width)),
          values(a.Take<float>(kKeys * width)) {}
    float *p, *ds, *row, *out, *values;
  };
  size_t SlotBytes() const {
    Arena a;
    Slot(a, width_);
    return a.used();
  }
  Slot SlotOf(Bytes slots, int slot) const {
    const size_t each = SlotBytes();
    Arena own(slots.subspan(static_cast<size_t>(slot) * each, each));
    return Slot(own, width_);
  }

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t AllRows() const { return Heads() * problem_.q_len; }

  Footprint DoMemory(int slots) const override {
    const size_t all = static_cast<size_t>(slots) * SlotBytes();
    Arena forward, backward, saved;
    Places(forward, AllRows());
    forward.Take<float>(AllRows());
    Places(backward, AllRows());
    backward.Take<double>(AllRows());
    saved.Take<float>(AllRows());
    Footprint f;
    f.forward_scratch = forward.used() + all;
    f.backward_scratch = backward.used() + all;
    f.saved = saved.used();
    if (problem_.mask != Mask::kNone) {
      f.extend_scratch = f.forward_scratch;
      Arena sums;
      sums.Take<double>(Heads());
      f.state = CacheBytes() + sums.used();
    }
    return f;
  }
  size_t CacheBytes() const {
    return (cache_.bytes() + kAlign - 1) / kAlign * kAlign;
  }

  // Step x of a row, and e^x.
  double Step(const Call& c, int64_t head, int64_t t) const {
    const int64_t heads = problem_.q_heads;
    return double{Get(*c.step.Row<T>(head / heads, head % heads, t))};
  }
  static double Advance(double x) {
    return std::exp(x > AdvancingBell::kFastest ? AdvancingBell::kFastest : x);
  }

  // Which keys count for a row at position i whose bell stands at mu.
  void Look(int64_t i, double mu, int64_t keys, const Places& to) const {
    const Interval seen =
        Interval{i - mask_.high, i - mask_.low + 1}.Cut({0, keys});
    if (seen.empty()) {
      // Behind all rows before, and before all behind.
      const int64_t at = i - mask_.high >= keys ? keys : 0;
      *to.keys = {at, at};
      *to.near = 0;
      *to.lead = 0;
      return;
    }
    const double first = static_cast<double>(seen.begin),
                 last = static_cast<double>(seen.end - 1);
    if (std::isnan(mu)) {
      *to.near = static_cast<int32_t>(seen.begin);
      *to.lead = NAN;
      *to.keys = seen;
      return;
    }
    const double near = std::clamp(std::nearbyint(mu), first, last);
    const double lead = near - mu, far = AdvancingBell::kFar / sharpness_;
    // a (a + 2 lead) <= far, between its roots: of their product -far, the
    // smaller one follows from the larger.
    const double large = std::abs(lead) + std::sqrt(lead * lead + far);
    const double small = far / large;
    const double down = std::min(lead > 0 ? large : small, near - first);
    const double up = std::min(lead > 0 ? small : large, last - near);
    *to.near = static_cast<int32_t>(near);
    *to.lead = static_cast<float>(2 * lead);
    *to.keys = {*to.near - static_cast<int64_t>(down),
                *to.near + static_cast<int64_t>(up) + 1};
  }

  // Places of all rows; kappa [B, Hq], or null for sequences that begin, moves
  // on.
  void FindPlaces(const Call& c, const Places& places, double* kappas,
                  Exec& exec) const {
    const int64_t n = c.step.len;
    if (n == 0) return;
    exec.For(Heads(), [&](int64_t head, int) {
      auto kappa = static_cast<double>(c.position - 1);
      if (kappas != nullptr) kappa = kappas[head];
      const Places own = places.At(head * n);
      for (int64_t t = 0; t < n; ++t) {
        kappa += Advance(Step(c, head, t));
        Look(c.position + t, bell_.offset + kappa, c.keys, own.At(t));
      }
      // Both ends rise from row to row, but for roundings.
      for (int64_t t = 1; t < n; ++t) {
        own.keys[t].begin = std::max(own.keys[t].begin, own.keys[t - 1].begin);
        own.keys[t].end = std::max(own.keys[t].end, own.keys[t - 1].end);
      }
      if (kappas != nullptr) kappas[head] = kappa;
    });
  }

  // Logarithm of the weight that key `near + a` has in a row.
  float Log(int64_t a, float lead) const {
    const auto x = static_cast<float>(a);
    return -x * (x + lead) * static_cast<float>(sharpness_);
  }

  // Weights of `keys` of a block that begins at `first`, in p; returns their
  // sum. `within` becomes the keys' places in the block.
  float Weigh(const Places& row, Interval block, float* p,
              Interval* within) const {
    const Interval keys = row.keys->Cut(block);
    if (keys.empty()) {
      *within = {};
      return 0;
    }
    *within = {keys.begin - block.begin, keys.end - block.begin};
    for (int64_t j = keys.begin; j < keys.end; ++j)
      p[j - block.begin] = Log(j - *row.near, *row.lead);
    return additive::Exponentials(p, *within, 0);
  }

  // Block n up to the end of `of`. It begins where it does for all, so that
  // sums over lanes do not depend on what others see.
  static Interval Block(int64_t n, Interval of) {
    return {n * kKeys, std::min((n + 1) * kKeys, of.end)};
  }

  // Rows of a view as padded floats, one after another.
  void LoadRows(const ConstView& x, int64_t b, int64_t h, Interval rows,
                float* to) const {
    for (int64_t t = rows.begin; t < rows.end; ++t, to += width_) {
      LoadRow<T>(x, b, h, t, to);
      std::fill(to + x.dim, to + width_, 0.0f);
    }
  }
  // What all of a head's rows from .. from + n - 1 look at.
  static Interval Union(const Places& places, int64_t n) {
    return {places.keys[0].begin, places.keys[n - 1].end};
  }

  void ForwardTask(const Call& c, const Places& places, int64_t b, int64_t h,
                   int64_t first, float* inverse, const Slot& s) const {
    const Problem& p = problem_;
    const int64_t n = std::min(kTask, c.step.len - first);
    const int64_t kv = h / (p.q_heads / p.kv_heads);
    std::fill_n(s.out, n * width_, 0.0f);
    std::fill_n(inverse, n, 0.0f);
    const Interval all = Union(places, n);
    for (int64_t block = all.begin / kKeys; block * kKeys < all.end; ++block) {
      const Interval keys = Block(block, all);
      LoadRows(c.v, b, kv, keys, s.values);
      for (int64_t row = 0; row < n; row += kGroup) {
        const int64_t rows = std::min(kGroup, n - row);
        Interval seen[kGroup];
        for (int64_t r = 0; r < rows; ++r)
          inverse[row + r] +=
              Weigh(places.At(row + r), keys, s.p + r * kKeys, &seen[r]);
        AddSeen(s.p, s.values, seen, rows, width_, s.out + row * width_);
      }
    }
    for (int64_t r = 0; r < n; ++r) {
      inverse[r] = places.keys[r].empty() ? 0 : 1 / inverse[r];
      T* const to = c.out.template Row<T>(b, h, first + r);
      for (int64_t e = 0; e < p.v_dim; ++e)
        Put(s.out[r * width_ + e] * inverse[r], to + e);
    }
  }

  void Run(const Call& c, float* inverse, double* kappas, Bytes scratch,
           Exec& exec) const {
    const int64_t heads = problem_.q_heads, n = c.step.len;
    Arena arena(scratch);
    const Places places(arena, AllRows());
    float* const own = arena.Take<float>(AllRows());
    if (inverse == nullptr) inverse = own;
    FindPlaces(c, places, kappas, exec);
    const Bytes slots = scratch.subspan(arena.used());
    const int64_t tasks = (n + kTask - 1) / kTask;
    exec.For(Heads() * tasks, [&](int64_t task, int slot) {
      const int64_t head = task / tasks, first = task % tasks * kTask;
      const int64_t at = head * n + first;
      ForwardTask(c, places.At(at), head / heads, head % heads, first,
                  inverse + at, SlotOf(slots, slot));
    });
  }

  Call CallOf(const Inputs& in, const View& out) const {
    return {.v = in.v,
            .step = in.extra[0],
            .out = out,
            .position = QueryOffset(problem_),
            .keys = problem_.kv_len};
  }
  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    float* inverse = nullptr;
    if (!saved.empty()) inverse = reinterpret_cast<float*>(saved.data());
    Run(CallOf(in, out.out), inverse, nullptr, scratch, exec);
  }

  // Gradients by mu of a task's rows: of a key's score they are its distance
  // from mu over sigma^2, and as those by all scores of a row sum to 0, its
  // distance from the nearest key will do.
  void PlaceTask(const Call& c, const Upstream& up, const Places& places,
                 const float* inverse, int64_t b, int64_t h, int64_t first,
                 double* dmu, const Slot& s) const {
    const Problem& p = problem_;
    const int64_t n = std::min(kTask, c.step.len - first);
    const int64_t kv = h / (p.q_heads / p.kv_heads);
    float delta[kTask];
    LoadRows(up.dout, b, h, {first, first + n}, s.out);
    for (int64_t r = 0; r < n; ++r) {
      LoadRow<T>(up.out, b, h, first + r, s.row);
      double sum = 0;
      for (int64_t e = 0; e < p.v_dim; ++e)
        sum += double{s.row[e]} * double{s.out[r * width_ + e]};
      delta[r] = static_cast<float>(sum);
    }
    std::fill_n(dmu, n, 0.0);
    const Interval all = Union(places, n);
    for (int64_t block = all.begin / kKeys; block * kKeys < all.end; ++block) {
      const Interval keys = Block(block, all);
      // By column: keys lie in the lanes.
      std::fill_n(s.values, p.v_dim * kKeys, 0.0f);
      for (int64_t j = 0; j < keys.size(); ++j) {
        const T* const row = c.v.Row<T>(b, kv, keys.begin + j);
        for (int64_t e = 0; e < p.v_dim; ++e)
          s.values[e * kKeys + j] = Get(row[e]);
      }
      for (int64_t r = 0; r < n; ++r) {
        Interval seen;
        Weigh(places.At(r), keys, s.p, &seen);
        if (seen.empty()) continue;
        additive::ScoreGradients(s.p, s.out + r * width_, delta + r, s.values,
                                 p.v_dim, seen, s.ds);
        double sum = 0;
        for (int64_t j = seen.begin; j < seen.end; ++j)
          sum += double{s.ds[j]} *
                 static_cast<double>(keys.begin + j - places.near[r]);
        dmu[r] += 2 * sharpness_ * double{inverse[r]} * sum;
      }
    }
  }

  // A row's mu is the sum of all steps up to it.
  void StepGradients(const Call& c, const double* dmu, const View& dstep,
                     Exec& exec) const {
    const int64_t heads = problem_.q_heads, n = c.step.len;
    exec.For(Heads(), [&](int64_t head, int) {
      double sum = 0;
      for (int64_t t = n; t-- > 0;) {
        sum += dmu[head * n + t];
        const double x = Step(c, head, t);
        const double by = x > AdvancingBell::kFastest ? 0 : Advance(x);
        Put(static_cast<float>(by * sum),
            dstep.Row<T>(head / heads, head % heads, t));
      }
    });
  }

  // Gradients by values, as Forward's sums with queries and keys exchanged: the
  // rows that see a key follow each other, too.
  void ValueTask(const Call& c, const ConstView& dout, const Places& all,
                 const float* inverse, int64_t b, int64_t kv, int64_t first,
                 const View& dv, const Slot& s) const {
    const Problem& p = problem_;
    const int64_t group = p.q_heads / p.kv_heads, n = c.step.len;
    const Interval keys = Interval{first, first + kKeyTask}.Cut({0, c.keys});
    std::fill_n(s.out, keys.size() * width_, 0.0f);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const int64_t head = b * p.q_heads + h;
      const Places places = all.At(head * n);
      const auto seen_by = [&](Interval some) {
        const Interval *const keys_of = places.keys, *const end = keys_of + n;
        const auto from = std::partition_point(
            keys_of, end,
            [&](const Interval& x) { return x.end <= some.begin; });
        const auto to = std::partition_point(
            from, end, [&](const Interval& x) { return x.begin < some.end; });
        return Interval{from - keys_of, to - keys_of};
      };
      const Interval rows = seen_by(keys);
      for (int64_t n_block = rows.begin / kKeys; n_block * kKeys < rows.end;
           ++n_block) {
        const Interval block = Block(n_block, rows);
        LoadRows(dout, b, h, block, s.values);
        for (int64_t j = 0; j < keys.size(); j += kGroup) {
          const int64_t count = std::min(kGroup, keys.size() - j);
          Interval seen[kGroup];
          for (int64_t x = 0; x < count; ++x) {
            const int64_t key = keys.begin + j + x;
            const Interval own = seen_by({key, key + 1}).Cut(block);
            seen[x] = {};
            if (own.empty()) continue;
            seen[x] = {own.begin - block.begin, own.end - block.begin};
            float* const weights = s.p + x * kKeys;
            for (int64_t i = own.begin; i < own.end; ++i)
              weights[i - block.begin] =
                  Log(key - places.near[i], places.lead[i]);
            additive::Exponentials(weights, seen[x], 0);
            for (int64_t i = own.begin; i < own.end; ++i)
              weights[i - block.begin] *= inverse[head * n + i];
          }
          AddSeen(s.p, s.values, seen, count, width_, s.out + j * width_);
        }
      }
    }
    for (int64_t j = 0; j < keys.size(); ++j) {
      T* const to = dv.Row<T>(b, kv, keys.begin + j);
      for (int64_t e = 0; e < p.v_dim; ++e) Put(s.out[j * width_ + e], to + e);
    }
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    const Call call = CallOf(in, {});
    const auto* const inverse = reinterpret_cast<const float*>(up.saved.data());
    ZeroRows(grad.dq, exec);
    ZeroRows(grad.dk, exec);
    Arena arena(scratch);
    const Places places(arena, AllRows());
    double* const dmu = arena.Take<double>(AllRows());
    FindPlaces(call, places, nullptr, exec);
    const Bytes slots = scratch.subspan(arena.used());
    const int64_t tasks = (p.q_len + kTask - 1) / kTask;
    exec.For(Heads() * tasks, [&](int64_t task, int slot) {
      const int64_t head = task / tasks, first = task % tasks * kTask;
      const int64_t at = head * p.q_len + first;
      PlaceTask(call, up, places.At(at), inverse + at, head / p.q_heads,
                head % p.q_heads, first, dmu + at, SlotOf(slots, slot));
    });
    StepGradients(call, dmu, grad.dextra[0], exec);
    const int64_t blocks = (p.kv_len + kKeyTask - 1) / kKeyTask;
    exec.For(p.batch * p.kv_heads * blocks, [&](int64_t task, int slot) {
      const int64_t head = task / blocks;
      ValueTask(call, up.dout, places, inverse, head / p.kv_heads,
                head % p.kv_heads, task % blocks * kKeyTask, grad.dv,
                SlotOf(slots, slot));
    });
  }

  double* Kappas(Bytes state) const {
    return reinterpret_cast<double*>(state.data() + CacheBytes());
  }
  void DoReset(Bytes state) const override {
    cache_.Reset(state);
    std::fill_n(Kappas(state), Heads(), -1.0);
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Result<KvCache::Held> held = cache_.Open(state);
    if (!held.ok()) return held.status();
    const int64_t n = fresh.q.len, past = held->tokens;
    const Status room = CheckRoom(past, n, problem_.kv_len);
    if (!room.ok()) return room;
    ConstView no_keys = fresh.v;  // of width 0
    no_keys.dim = 0;
    cache_.Append(state, *held, no_keys, fresh.v, 0, n, exec);
    const Call call = {.v = held->v,
                       .step = fresh.extra[0],
                       .out = out.out,
                       .position = past,
                       .keys = held->tokens};
    Run(call, nullptr, Kappas(state), scratch, exec);
    return {};
  }

  AdvancingBell bell_;
  double sharpness_;  // 1 / 2 sigma^2
  int64_t width_;
  Part mask_;
  KvCache cache_;
};

}  // namespace

std::unique_ptr<Plan> MakeAdvancingPlan(const Problem& problem,
                                        const AdvancingBell& bell) {
  ChooseTarget();
  if (problem.dtype == DType::kF32)
    return std::make_unique<AdvancingPlan<float>>(problem, bell);
  return std::make_unique<AdvancingPlan<BF16>>(problem, bell);
}

Cost AdvancingCost(const Problem& problem, const AdvancingBell& bell) {
  TileSpec spec = ContentFreeSpec(problem);
  const auto far =
      static_cast<int64_t>(bell.sigma * std::sqrt(2 * AdvancingBell::kFar));
  const auto offset = static_cast<int64_t>(bell.offset);
  Part& part = spec.pattern.front();
  part.low = std::max(part.low, -offset - far);
  part.high = std::min(part.high, -offset + far);
  if (part.low > part.high) part.low = part.high = 0;
  return ContentFreeCost(problem, spec);
}

}  // namespace saccade
