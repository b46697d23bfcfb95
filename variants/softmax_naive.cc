// softmax.naive: softmax attention with all scores held in memory.
//
//   o_i = sum_j p_ij v_j,   p_i = softmax_j(s_ij),   s_ij = scale q_i.k_j
//
// Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, computed the way
// it reads: S = Q K^T for all pairs, a softmax of each row, P V. This is what
// people write first, and the baseline of every comparison. Backward keeps P.
//
// Ours differs from a plain matrix product in one way: P V reads the visible
// keys only, for a masked value may be NaN.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]; S and P are
// [B, Hq, Tq, Tk] in f32. Time Tq Tk (d + e) a head, memory Tq Tk.
#include <algorithm>
#include <cmath>
#include <string>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "variants/softmax_naive.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include "arena.h"
#include "attn_mask.h"
#include "distance_bias.h"
#include "engine/bias_table.h"
#include "engine/kv_cache.h"
#include "engine/pattern.h"
#include "engine/tile.h"
#include "oracle.h"
#include "simd/bf16.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::variants {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// a.b over n elements.
float Dot(const float* a, const float* b, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// y += x a over n elements.
void AddScaled(float x, const float* a, float* y, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, x);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, a + i), hn::LoadU(d, y + i)), d,
               y + i);
  for (; i < n; ++i) y[i] += x * a[i];
}

// s = exp(s - top) over n elements; returns the sum.
float ExpRow(float* s, int64_t n, float top) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto t = hn::Set(d, top);
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto w =
        saccade::HWY_NAMESPACE::Exp(d, hn::Sub(hn::LoadU(d, s + i), t));
    sum = hn::Add(sum, w);
    hn::StoreU(w, d, s + i);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += s[i] = std::exp(s[i] - top);
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade::variants
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::variants {
namespace {

HWY_EXPORT(Dot);
HWY_EXPORT(AddScaled);
HWY_EXPORT(ExpRow);

// One head's rows as contiguous f32.
void LoadHead(const ConstView& x, int64_t b, int64_t h, float* to) {
  for (int64_t t = 0; t < x.len; ++t)
    for (int64_t c = 0; c < x.dim; ++c)
      to[t * x.dim + c] = x.dtype == DType::kF32
                              ? x.Row<float>(b, h, t)[c]
                              : ToFloat(x.Row<BF16>(b, h, t)[c]);
}

void StoreHead(const float* from, int64_t b, int64_t h, const View& x) {
  for (int64_t t = 0; t < x.len; ++t)
    for (int64_t c = 0; c < x.dim; ++c) {
      if (x.dtype == DType::kF32)
        x.Row<float>(b, h, t)[c] = from[t * x.dim + c];
      else
        x.Row<BF16>(b, h, t)[c] = ToBF16(from[t * x.dim + c]);
    }
}

// Keys and values of a pass: rows 0 .. len - 1 are positions 0 .. len - 1.
struct Call {
  ConstView q = {}, k = {}, v = {};
  View out = {};
  float* lse = nullptr;
  int64_t q_position = 0;
  const BiasTable* bias = nullptr;
  ConstView slopes = {};  // the caller's, of ALiBi; instead of `bias`
  MaskView attn_mask = {};

  // What a bias by distance adds to the scores of keys seen.
  void AddBias(int64_t b, int64_t h, int64_t i, Interval seen, float* s) const {
    if (slopes.data != nullptr) {
      const float slope = *slopes.Row<float>(b, h, 0);
      for (int64_t j = seen.begin; j < seen.end; ++j)
        s[j] -= slope * static_cast<float>(std::abs(i - j));
    } else if (bias != nullptr) {
      for (int64_t j = seen.begin; j < seen.end; ++j)
        s[j] += bias->Zero(0, h)[i - j];
    }
  }

  // What the caller's mask adds to a score; -infinity: not visible.
  float MaskOf(int64_t b, int64_t h, int64_t row, int64_t key) const {
    if (attn_mask.data == nullptr) return 0;
    return MaskValue(attn_mask.element, MaskAt(attn_mask, b, h, row, key));
  }
};

// dS of every head by distance, where a bias is learned, and what it makes of
// the gradient by the bias's parameters.
class BiasSums {
 public:
  BiasSums(Arena& arena, const Problem& p, const PlannedBias& bias)
      : p_(p), bias_(bias) {
    if (bias.bias() == nullptr || bias.bias()->parameters() == 0) return;
    at_ = bias.ranges().Of(0);
    sums_ = arena.Take<float>(p.batch * p.q_heads * at_.count);
    parameters_ = arena.Take<double>(bias.bias()->parameters());
  }

  void Start(int64_t head) const {
    std::fill_n(sums_ + head * at_.count, at_.count, 0.0f);
  }
  void Add(int64_t head, int64_t i, Interval seen, const float* ds) const {
    if (at_.count == 0) return;
    float* const sums = sums_ + head * at_.count - at_.first;
    for (int64_t j = seen.begin; j < seen.end; ++j)
      sums[i - j] += ds[j] / p_.scale;
  }
  void Store(const ConstView& parameters, const View& to) const {
    const int64_t n = to.dim;
    for (int64_t h = 0; h < p_.q_heads; ++h) {
      std::fill_n(parameters_, n, 0.0);
      for (int64_t b = 0; b < p_.batch; ++b)
        bias_.bias()->AddGradient(parameters.Row<float>(0, h, 0), at_,
                                  sums_ + (b * p_.q_heads + h) * at_.count,
                                  parameters_);
      for (int64_t x = 0; x < n; ++x)
        to.Row<float>(0, h, 0)[x] = static_cast<float>(parameters_[x]);
    }
  }

 private:
  const Problem& p_;
  const PlannedBias& bias_;
  Distances at_;
  float* sums_ = nullptr;         // [B, Hq, distances]
  double* parameters_ = nullptr;  // derivatives, of one head
};

class NaivePlan final : public Plan {
 public:
  explicit NaivePlan(const Problem& p)
      : Plan(p),
        part_(MaskPart(p)),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .qk_dim = p.qk_dim,
                .v_dim = p.v_dim,
                .dtype = p.dtype,
                .capacity = p.kv_len,
                .append = p.q_len}),
        bias_(MakeDistanceBias(p), {part_}, p, 1) {}

 private:
  std::string DoDescribe() const override { return "all scores of a head"; }

  // What one task holds: a head's rows in f32, and their gradients.
  struct Head {
    Head(Arena& a, const Problem& p, int64_t q_len, bool backward)
        : q(a.Take<float>(q_len * p.qk_dim)),
          k(a.Take<float>(p.kv_len * p.qk_dim)),
          v(a.Take<float>(p.kv_len * p.v_dim)),
          out(a.Take<float>(q_len * p.v_dim)),
          part(a.Take<float>(p.v_dim)) {
      if (!backward) return;
      dout = a.Take<float>(q_len * p.v_dim);
      dq = a.Take<float>(q_len * p.qk_dim);
      dk = a.Take<float>(p.kv_len * p.qk_dim);
      dv = a.Take<float>(p.kv_len * p.v_dim);
    }
    float *q, *k, *v, *out, *part;
    float *dout = nullptr, *dq = nullptr, *dk = nullptr, *dv = nullptr;
  };

  static size_t HeadBytes(const Problem& p, int64_t q_len, bool backward) {
    Arena a;
    Head(a, p, q_len, backward);
    return a.used();
  }

  // Scores of all heads, [B, Hq, q_len, Tk].
  static size_t ScoreBytes(const Problem& p, int64_t q_len) {
    Arena a;
    a.Take<float>(p.batch * p.q_heads * q_len * p.kv_len);
    return a.used();
  }

  Footprint DoMemory(int slots) const override {
    const Problem& p = problem_;
    const size_t n = static_cast<size_t>(slots);
    Footprint f;
    Arena table, gradients;
    bias_.Room(table);
    BiasSums(gradients, p, bias_);
    f.saved = ScoreBytes(p, p.q_len);
    f.forward_scratch =
        table.used() + f.saved + n * HeadBytes(p, p.q_len, false);
    f.backward_scratch =
        gradients.used() + f.saved + n * HeadBytes(p, p.q_len, true);
    f.extend_scratch = f.forward_scratch;
    const bool extends =
        p.mask != Mask::kNone && p.attn_mask == AttnMask::kNone;
    f.state = extends ? cache_.bytes() : 0;
    return f;
  }

  // What a pass was given of a bias, with its table at the front of `scratch`.
  const BiasTable* TakeTable(const Inputs& in, Bytes& scratch, BiasTable* own,
                             Exec& exec) const {
    Arena arena(scratch);
    float* const room = bias_.Room(arena);
    scratch = scratch.subspan(arena.used());
    return bias_.TableOf(in, room, own, exec);
  }

  // Keys that query i sees: a band, cut to the keys there are.
  Interval Keys(int64_t i, int64_t kv_len) const {
    return Interval{i - part_.high, i - part_.low + 1}.Cut({0, kv_len});
  }

  // Scores of one head's query row, then its weights; returns the keys seen, of
  // which the caller's mask may hide some: theirs are 0.
  Interval Weigh(const Head& head, const Call& c, int64_t b, int64_t h,
                 int64_t row, float* s, float* lse) const {
    const auto dot = HWY_DYNAMIC_DISPATCH(Dot);
    const int64_t d = problem_.qk_dim, i = c.q_position + row;
    for (int64_t j = 0; j < c.k.len; ++j)
      s[j] = problem_.scale * dot(head.q + row * d, head.k + j * d, d);
    const Interval seen = Keys(i, c.k.len);
    c.AddBias(b, h, i, seen, s);
    if (c.attn_mask.data != nullptr)
      for (int64_t j = seen.begin; j < seen.end; ++j) {
        const float mask = c.MaskOf(b, h, row, j);
        s[j] = mask == -INFINITY ? mask : s[j] + mask;
      }
    std::fill(s, s + std::min(seen.begin, c.k.len), 0.0f);
    float top = -INFINITY;
    for (int64_t j = seen.begin; j < seen.end; ++j)
      top = s[j] > top || std::isnan(s[j]) ? s[j] : top;
    if (top == -INFINITY) {
      std::fill(s, s + c.k.len, 0.0f);
      if (lse) *lse = top;
      return {};
    }
    std::fill(s + seen.end, s + c.k.len, 0.0f);
    const float sum =
        HWY_DYNAMIC_DISPATCH(ExpRow)(s + seen.begin, seen.size(), top);
    for (int64_t j = seen.begin; j < seen.end; ++j) s[j] /= sum;
    if (lse) *lse = top + std::log(sum);
    return seen;
  }

  void Run(const Call& c, float* scores, Bytes scratch, Exec& exec) const {
    const Problem& p = problem_;
    const auto add = HWY_DYNAMIC_DISPATCH(AddScaled);
    const int64_t group = p.q_heads / p.kv_heads, n = c.q.len;
    const size_t head_bytes = HeadBytes(p, p.q_len, false);
    exec.For(p.batch * p.q_heads, [&](int64_t task, int slot) {
      const int64_t b = task / p.q_heads, h = task % p.q_heads;
      Arena arena(scratch.subspan(slot * head_bytes));
      Head head(arena, p, p.q_len, false);
      LoadHead(c.q, b, h, head.q);
      LoadHead(c.k, b, h / group, head.k);
      LoadHead(c.v, b, h / group, head.v);
      std::fill(head.out, head.out + n * p.v_dim, 0.0f);
      for (int64_t row = 0; row < n; ++row) {
        float* s = scores + (task * n + row) * c.k.len;
        const Interval seen = Weigh(head, c, b, h, row, s,
                                    c.lse ? c.lse + task * n + row : nullptr);
        // In parts of 16 keys: one long sum would gather rounding errors.
        for (int64_t j = seen.begin; j < seen.end;) {
          std::fill(head.part, head.part + p.v_dim, 0.0f);
          for (const int64_t end = std::min(seen.end, j + 16); j < end; ++j)
            if (c.MaskOf(b, h, row, j) != -INFINITY)
              add(s[j], head.v + j * p.v_dim, head.part, p.v_dim);
          add(1, head.part, head.out + row * p.v_dim, p.v_dim);
        }
      }
      StoreHead(head.out, b, h, c.out);
    });
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    const size_t bytes = ScoreBytes(problem_, problem_.q_len);
    BiasTable own;
    const BiasTable* const bias = TakeTable(in, scratch, &own, exec);
    Arena arena(saved.empty() ? scratch : saved);
    float* scores = arena.Take<float>(bytes / sizeof(float));
    Run({in.q, in.k, in.v, out.out, out.lse, QueryOffset(problem_), bias,
         SlopesOf(problem_, in), Broadcast(in.attn_mask)},
        scores, scratch.subspan(bytes), exec);
  }

  // One query row's share of the gradients; hides(j): by the caller's mask.
  template <class Hides>
  void BackwardRow(const Head& head, int64_t row, Interval seen, const float* w,
                   float* ds, Hides hides) const {
    const auto dot = HWY_DYNAMIC_DISPATCH(Dot);
    const auto add = HWY_DYNAMIC_DISPATCH(AddScaled);
    const int64_t d = problem_.qk_dim, e = problem_.v_dim;
    const float* dout = head.dout + row * e;
    const float own = dot(dout, head.out + row * e, e);
    for (int64_t j = seen.begin; j < seen.end; ++j) {
      ds[j] = 0;
      if (hides(j)) continue;
      add(w[j], dout, head.dv + j * e, e);
      ds[j] = problem_.scale * w[j] * (dot(dout, head.v + j * e, e) - own);
    }
    for (int64_t j = seen.begin; j < seen.end; ++j) {
      if (hides(j)) continue;
      add(ds[j], head.k + j * d, head.dq + row * d, d);
      add(ds[j], head.q + row * d, head.dk + j * d, d);
    }
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    const int64_t group = p.q_heads / p.kv_heads, n = p.q_len, m = p.kv_len;
    Arena front(scratch);
    const BiasSums sums(front, p, bias_);
    scratch = scratch.subspan(front.used());
    const Call call{.attn_mask = Broadcast(in.attn_mask)};
    const float* weights = reinterpret_cast<const float*>(up.saved.data());
    float* scores = reinterpret_cast<float*>(scratch.data());
    const Bytes heads = scratch.subspan(ScoreBytes(p, n));
    const size_t head_bytes = HeadBytes(p, n, true);
    exec.For(p.batch * p.kv_heads, [&](int64_t task, int slot) {
      const int64_t b = task / p.kv_heads, kv = task % p.kv_heads;
      Arena arena(heads.subspan(slot * head_bytes));
      Head head(arena, p, n, true);
      LoadHead(in.k, b, kv, head.k);
      LoadHead(in.v, b, kv, head.v);
      std::fill(head.dk, head.dk + m * p.qk_dim, 0.0f);
      std::fill(head.dv, head.dv + m * p.v_dim, 0.0f);
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        LoadHead(in.q, b, h, head.q);
        LoadHead(up.out, b, h, head.out);
        LoadHead(up.dout, b, h, head.dout);
        std::fill(head.dq, head.dq + n * p.qk_dim, 0.0f);
        sums.Start(b * p.q_heads + h);
        for (int64_t row = 0; row < n; ++row) {
          const int64_t at = ((b * p.q_heads + h) * n + row) * m;
          const int64_t i = QueryOffset(p) + row;
          const Interval seen = Keys(i, m);
          BackwardRow(head, row, seen, weights + at, scores + at,
                      [&](int64_t j) {
                        return call.MaskOf(b, h, row, j) == -INFINITY;
                      });
          sums.Add(b * p.q_heads + h, i, seen, scores + at);
        }
        StoreHead(head.dq, b, h, grad.dq);
      }
      StoreHead(head.dk, b, kv, grad.dk);
      StoreHead(head.dv, b, kv, grad.dv);
    });
    if (grad.dbias.data != nullptr)
      sums.Store(bias_.ParametersOf(in), grad.dbias);
  }

  void DoReset(Bytes state) const override { cache_.Reset(state); }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Result<KvCache::Held> held = cache_.Open(state);
    if (!held.ok()) return held.status();
    const int64_t n = fresh.q.len, past = held->tokens;
    if (past + n > problem_.kv_len)
      return Exhausted("the state holds " + std::to_string(past) + " of " +
                       std::to_string(problem_.kv_len) + " tokens, " +
                       std::to_string(n) + " more do not fit");
    cache_.Append(state, *held, fresh.k, fresh.v, 0, n, exec);
    const size_t bytes = ScoreBytes(problem_, problem_.q_len);
    BiasTable own;
    const BiasTable* const bias = TakeTable(fresh, scratch, &own, exec);
    Run({fresh.q, held->k, held->v, out.out, out.lse, past, bias,
         SlopesOf(problem_, fresh)},
        reinterpret_cast<float*>(scratch.data()), scratch.subspan(bytes), exec);
    return {};
  }

  Part part_;
  KvCache cache_;
  PlannedBias bias_;
};

Result<std::unique_ptr<Plan>> MakeNaive(const Problem& p) {
  int64_t pairs;
  if (__builtin_mul_overflow(p.batch * p.q_heads * p.q_len, p.kv_len, &pairs) ||
      pairs > (int64_t{1} << 50))
    return Exhausted("the score matrix would pass 2^50 elements");
  return std::unique_ptr<Plan>(std::make_unique<NaivePlan>(p));
}

// All pairs are computed; the visible ones are what the equation asks for.
Cost NaiveCost(const Problem& p) { return TileCost(p, MakeTileSpec(p)); }

void NaiveOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  oracle::DotSoftmax(
      p, in, out, [](int64_t, int64_t) { return true; }, oracle::Bias(p, in));
}

}  // namespace

const Variant& softmax_naive() {
  static const Variant variant = {
      .name = "softmax.naive",
      .title = "softmax attention, all scores held in memory: the baseline",
      .source = "Vaswani et al. 2017, arXiv:1706.03762, equation 1",
      .traits = {.window = true, .bias = true, .attn_mask = true, .lse = true},
      .cost = NaiveCost,
      .plan = MakeNaive,
      .oracle = NaiveOracle,
  };
  return variant;
}

}  // namespace saccade::variants
#endif  // HWY_ONCE
