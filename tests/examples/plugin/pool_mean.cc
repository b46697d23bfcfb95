// pool.mean: every visible value weighs the same. What is left of attention
// when nobody looks at queries and keys.
//
//   o_i = (1 / n_i) sum_j v_j   over the n_i visible j;  0 where n_i = 0
//
// Source: the uniform weights that hard-coded attention is compared with, as in
// Tay et al. 2021, arXiv:2005.00743 ("Synthesizer"), section 3.
//
// Shapes: v [B, Hkv, Tk, e]; q and k only say how many they are. Cost a token
// and head: 2 e flops, forward and for a decoding step, whose state is e sums
// and a count.
#include <saccade/plugin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

using saccade::Bytes;
using saccade::ConstView;
using saccade::Exec;
using saccade::Gradients;
using saccade::Inputs;
using saccade::Mask;
using saccade::Outputs;
using saccade::Problem;
using saccade::Result;
using saccade::Status;
using saccade::Upstream;
using saccade::View;

// Keys that query i sees: the first so many.
int64_t Visible(const Problem& p, int64_t i) {
  const int64_t offset = p.mask == Mask::kCausal ? p.kv_len - p.q_len : 0;
  return p.mask == Mask::kNone
             ? p.kv_len
             : std::clamp<int64_t>(i + offset + 1, 0, p.kv_len);
}

// What a decoding state begins with; sums follow, [B, Hkv, e] in f64.
struct Held {
  uint64_t mark;
  int64_t tokens;
};
constexpr uint64_t kMark = 0x6d65616e;

class MeanPlan final : public saccade::Plan {
 public:
  explicit MeanPlan(const Problem& p) : Plan(p) {}

 protected:
  // Sums of a head, in f64, for each slot.
  int64_t Stride() const { return (problem_.v_dim + 7) / 8 * 8; }
  int64_t StateSums() const {
    return problem_.batch * problem_.kv_heads * problem_.v_dim;
  }

  saccade::Footprint DoMemory(int slots) const override {
    saccade::Footprint bytes;
    bytes.forward_scratch = bytes.backward_scratch = bytes.extend_scratch =
        static_cast<size_t>(slots * Stride()) * sizeof(double);
    if (problem_.mask != Mask::kNone)
      bytes.state = sizeof(Held) + static_cast<size_t>(StateSums()) * 8;
    return bytes;
  }

  std::string DoDescribe() const override { return "sums in f64"; }

  double* Sums(Bytes scratch, int slot) const {
    double* const sums =
        reinterpret_cast<double*>(scratch.data()) + slot * Stride();
    std::fill_n(sums, Stride(), 0.0);
    return sums;
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes, Bytes scratch,
                 Exec& exec) const override {
    const Problem& p = problem_;
    const int64_t group = p.q_heads / p.kv_heads;
    exec.For(p.batch * p.kv_heads, [&](int64_t task, int slot) {
      const int64_t b = task / p.kv_heads, h = task % p.kv_heads;
      double* const sum = Sums(scratch, slot);
      int64_t seen = 0;
      for (int64_t i = 0; i < p.q_len; ++i) {
        for (; seen < Visible(p, i); ++seen) {
          const float* const v = in.v.Row<float>(b, h, seen);
          for (int64_t c = 0; c < p.v_dim; ++c) sum[c] += v[c];
        }
        for (int64_t g = 0; g < group; ++g) {
          float* const o = out.out.Row<float>(b, h * group + g, i);
          for (int64_t c = 0; c < p.v_dim; ++c)
            o[c] = seen ? static_cast<float>(sum[c] / double(seen)) : 0.0f;
        }
      }
    });
  }

  // dv_j = sum of dout_i / n_i over the i that see j: from the last on.
  void DoBackward(const Inputs&, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    const int64_t group = p.q_heads / p.kv_heads;
    const auto clear = [&](const View& x, int64_t b, int64_t h) {
      for (int64_t t = 0; t < x.len; ++t)
        std::fill_n(x.Row<float>(b, h, t), x.dim, 0.0f);
    };
    exec.For(p.batch * p.kv_heads, [&](int64_t task, int slot) {
      const int64_t b = task / p.kv_heads, h = task % p.kv_heads;
      clear(grad.dk, b, h);
      for (int64_t g = 0; g < group; ++g) clear(grad.dq, b, h * group + g);
      double* const sum = Sums(scratch, slot);
      int64_t i = p.q_len - 1;
      for (int64_t j = p.kv_len - 1; j >= 0; --j) {
        for (; i >= 0 && Visible(p, i) > j; --i)
          for (int64_t g = 0; g < group; ++g) {
            const float* const d = up.dout.Row<float>(b, h * group + g, i);
            for (int64_t c = 0; c < p.v_dim; ++c)
              sum[c] += d[c] / static_cast<double>(Visible(p, i));
          }
        float* const dv = grad.dv.Row<float>(b, h, j);
        for (int64_t c = 0; c < p.v_dim; ++c)
          dv[c] = static_cast<float>(sum[c]);
      }
    });
  }

  void DoReset(Bytes state) const override {
    std::fill(state.begin(), state.end(), std::byte{0});
    *reinterpret_cast<Held*>(state.data()) = {kMark, 0};
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state, Bytes,
                  Exec& exec) const override {
    const Problem& p = problem_;
    Held& held = *reinterpret_cast<Held*>(state.data());
    if (held.mark != kMark)
      return saccade::Invalid("Extend: state was never Reset");
    const int64_t n = fresh.q.len, group = p.q_heads / p.kv_heads;
    if (held.tokens + n > p.kv_len)
      return saccade::Exhausted("Extend: more tokens than state can hold");
    auto* const sums = reinterpret_cast<double*>(state.data() + sizeof(Held));
    exec.For(p.batch * p.kv_heads, [&](int64_t task, int) {
      const int64_t b = task / p.kv_heads, h = task % p.kv_heads;
      double* const sum = sums + task * p.v_dim;
      for (int64_t t = 0; t < n; ++t) {
        const float* const v = fresh.v.Row<float>(b, h, t);
        const auto count = static_cast<double>(held.tokens + t + 1);
        for (int64_t c = 0; c < p.v_dim; ++c) sum[c] += v[c];
        for (int64_t g = 0; g < group; ++g) {
          float* const o = out.out.Row<float>(b, h * group + g, t);
          for (int64_t c = 0; c < p.v_dim; ++c)
            o[c] = static_cast<float>(sum[c] / count);
        }
      }
    });
    held.tokens += n;
    return {};
  }
};

Result<std::unique_ptr<saccade::Plan>> MakeMean(const Problem& p) {
  return std::unique_ptr<saccade::Plan>(std::make_unique<MeanPlan>(p));
}

saccade::Cost MeanCost(const Problem& p) {
  const double heads = double(p.batch) * double(p.kv_heads);
  const double e = double(p.v_dim), values = heads * double(p.kv_len) * e;
  const double outs = double(p.batch) * double(p.q_heads) * double(p.q_len) * e;
  saccade::Cost cost;
  cost.forward_flops = cost.backward_flops = values + outs;
  cost.forward_bytes = 4 * (values + outs);
  if (p.mask != Mask::kNone) {
    cost.decode_flops = 2 * heads * e;
    cost.decode_bytes = 24 * heads * e;  // a value, and its sum twice
  }
  return cost;
}

// size: a mean of n terms is as sure as the mean of their absolute values.
void MeanOracle(const Problem& p, const saccade::OracleInputs& in,
                const saccade::OracleOutputs& out) {
  const int64_t group = p.q_heads / p.kv_heads;
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.q_heads; ++h)
      for (int64_t i = 0; i < p.q_len; ++i)
        for (int64_t c = 0; c < p.v_dim; ++c) {
          const int64_t n = Visible(p, i);
          double sum = 0, size = 0;
          for (int64_t j = 0; j < n; ++j) {
            const double v =
                in.v[((b * p.kv_heads + h / group) * p.kv_len + j) * p.v_dim +
                     c];
            sum += v;
            size += std::abs(v);
          }
          const int64_t at = ((b * p.q_heads + h) * p.q_len + i) * p.v_dim + c;
          out.out[at] = n > 0 ? sum / double(n) : 0;
          out.size[at] = n > 0 ? size / double(n) : 0;
        }
}

const saccade::Variant kMean = {
    .name = "pool.mean",
    .title = "the mean of all visible values, whatever they are",
    .source = "Tay et al. 2021, arXiv:2005.00743, section 3",
    .traits = {.rotary = false, .scores = false, .bf16 = false},
    .scaled = false,
    .cost = MeanCost,
    .plan = MakeMean,
    .oracle = MeanOracle,
};

}  // namespace

SACCADE_PLUGIN(&kMean)
