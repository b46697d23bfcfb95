#include "bench/lenses/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "activation.h"
#include "bench/learn/matrix.h"
#include "bench/learn/pass.h"
#include "bench/learn/random.h"

namespace saccade::bench {
namespace {

constexpr int64_t kHeads = 8, kWidth = 64;
constexpr int64_t kColumns = 64;  // of the identity at a time
// Of the sum of absolute values: what float arithmetic may be off by, with room
// for weights that were rounded on their way.
constexpr double kRounding = 1e-4;

float Activated(Activation f, double x) {
  return static_cast<float>(Activate(f, x));
}

// Adds, for columns [first, first + cols) of the identity, what came out.
void Keep(const std::vector<float>& out, int64_t first, int64_t cols,
          Weights* w) {
  for (int64_t r = 0; r < w->batch * w->heads * w->len; ++r) {
    std::copy_n(&out[r * kColumns], cols, &w->a[r * w->keys + first]);
  }
}

// Whether out is the weights times v [batch, kv_heads, len, kColumns].
bool IsProduct(const Weights& w, const std::vector<float>& v,
               const std::vector<float>& out, int64_t kv_heads) {
  std::vector<double> sum(kColumns), size(kColumns);
  for (int64_t b = 0; b < w.batch; ++b) {
    for (int64_t h = 0; h < w.heads; ++h) {
      const int64_t kv = b * kv_heads + h / (w.heads / kv_heads);
      for (int64_t i = 0; i < w.len; ++i) {
        std::fill(sum.begin(), sum.end(), 0);
        std::fill(size.begin(), size.end(), 0);
        const auto row = w.Row(b, h, i);
        for (int64_t j = 0; j < w.keys; ++j) {
          if (row[j] == 0) continue;
          for (int64_t c = 0; c < kColumns; ++c) {
            const double term = static_cast<double>(row[j]) *
                                v[(kv * w.keys + j) * kColumns + c];
            sum[c] += term;
            size[c] += std::abs(term);
          }
        }
        const float* got = &out[((b * w.heads + h) * w.len + i) * kColumns];
        for (int64_t c = 0; c < kColumns; ++c) {
          if (!(std::abs(got[c] - sum[c]) <= kRounding * size[c])) return false;
        }
      }
    }
  }
  return true;
}

}  // namespace

Inputs Drawn::inputs(const Variant& variant) const {
  const Problem& p = problem;
  const auto view = [&](const std::vector<float>& x, int64_t heads,
                        int64_t dim) {
    return Contiguous<const void>(x.data(), DType::kF32, p.batch, heads,
                                  p.q_len, dim);
  };
  Inputs in;
  in.q = view(q, p.q_heads, p.qk_dim);
  in.k = view(k, p.kv_heads, p.qk_dim);
  // g++ 12 cannot know that there are no more inputs than places for them.
  for (size_t e = 0; e < std::min(variant.inputs.size(), extras.size()); ++e) {
    if (!variant.inputs[e].value_width) {
      in.extra[e] = view(extras[e], p.q_heads,
                         WidthOf(variant.inputs[e], p.qk_dim, p.v_dim));
    }
  }
  return in;
}

Drawn DrawInputs(const Spec& spec, int64_t len, int64_t period, uint64_t seed) {
  Drawn drawn;
  Problem& p = drawn.problem;
  const int64_t heads =
      spec.variant->layer.heads > 0 ? spec.variant->layer.heads : kHeads;
  p.batch = kHeads / heads;
  p.q_heads = p.kv_heads = heads;
  p.q_len = p.kv_len = len;
  p.qk_dim = p.v_dim = kWidth;
  p.mask = Mask::kCausal;
  p.knobs = spec.knobs;
  p.positions = spec.positions;
  const auto fill = [&](std::string_view name, int64_t dim, Activation f) {
    Random random(seed, name);
    std::vector<float> x(p.batch * heads * len * dim);
    for (int64_t row = 0; row < p.batch * heads * len; ++row) {
      const bool again = period > 0 && row % len >= period;
      for (int64_t c = 0; c < dim; ++c) {
        x[row * dim + c] =
            again ? x[(row - period) * dim + c] : Activated(f, random.Normal());
      }
    }
    return x;
  };
  drawn.q = fill("q", kWidth, Activation::kNone);
  drawn.k = fill("k", kWidth, Activation::kNone);
  for (size_t e = 0; e < spec.variant->inputs.size(); ++e) {
    const ExtraInput& extra = spec.variant->inputs[e];
    if (!extra.value_width) {
      drawn.extras[e] =
          fill(extra.name, WidthOf(extra, kWidth, kWidth), extra.activation);
    }
  }
  return drawn;
}

Result<std::vector<float>> RunOn(const Variant& variant, const Problem& problem,
                                 const Inputs& in, const std::vector<float>& v,
                                 Exec& exec) {
  const Problem& p = problem;
  Result<std::unique_ptr<Plan>> plan = MakePlan(variant, p);
  if (!plan.ok()) return plan.status();
  std::vector<float> out(p.batch * p.q_heads * p.q_len * p.v_dim);
  const std::vector<float> open(
      p.batch * p.q_heads * std::max(p.q_len, p.kv_len) * p.v_dim, 1.f);
  const auto view = [&](const std::vector<float>& x, bool per_query) {
    return Contiguous<const void>(x.data(), DType::kF32, p.batch,
                                  per_query ? p.q_heads : p.kv_heads,
                                  per_query ? p.q_len : p.kv_len, p.v_dim);
  };
  Inputs inputs = in;
  inputs.v = view(v, false);
  for (size_t e = 0; e < variant.inputs.size(); ++e) {
    const ExtraInput& extra = variant.inputs[e];
    if (extra.value_width) inputs.extra[e] = view(open, extra.per_query);
  }
  Buffer scratch((*plan)->Memory(exec.slots()).forward_scratch);
  const Status status =
      (*plan)->Forward(inputs,
                       {Contiguous<void>(out.data(), DType::kF32, p.batch,
                                         p.q_heads, p.q_len, p.v_dim)},
                       {}, scratch.bytes(), exec);
  if (!status.ok()) return status;
  return out;
}

Result<Weights> WeightsOf(const Variant& variant, const Problem& problem,
                          const Inputs& in, Exec& exec) {
  Problem p = problem;
  p.v_dim = kColumns;
  Weights w(p.batch, p.q_heads, p.q_len, p.kv_len);
  std::vector<float> v(p.batch * p.kv_heads * w.keys * kColumns);
  for (int64_t first = 0; first < w.keys; first += kColumns) {
    const int64_t cols = std::min(kColumns, w.keys - first);
    std::fill(v.begin(), v.end(), 0.f);
    for (int64_t head = 0; head < p.batch * p.kv_heads; ++head) {
      for (int64_t c = 0; c < cols; ++c) {
        v[(head * w.keys + first + c) * kColumns + c] = 1;
      }
    }
    const auto out = RunOn(variant, p, in, v, exec);
    if (!out.ok()) return out.status();
    Keep(*out, first, cols, &w);
  }
  Random random(1, "values");
  for (float& x : v) x = static_cast<float>(random.Normal());
  const auto out = RunOn(variant, p, in, v, exec);
  if (!out.ok()) return out.status();
  if (!IsProduct(w, v, *out, p.kv_heads)) {
    return Unsupported(fmt::format(
        "{} is not linear in v, so it has no weights", variant.name));
  }
  return w;
}

Result<Weights> WeightsOf(const Model& model, std::span<const int32_t> tokens,
                          int64_t batch, Exec& exec) {
  const int64_t len = static_cast<int64_t>(tokens.size()) / batch;
  const auto pass =
      ModelPass::Make(model, {.batch = batch, .len = len, .train = true}, exec);
  if (!pass.ok()) return pass.status();
  const std::vector<int32_t> targets(tokens.size(), -1);
  const Status status = (*pass)->Forward(model, tokens, targets);
  if (!status.ok()) return status;
  const Problem p = model.AttentionProblem(batch, len, 0);
  const auto units = std::count_if(model.units().begin(), model.units().end(),
                                   [](const Unit& u) { return u.attention; });
  Weights all(batch, units * p.q_heads, len);
  int64_t first = 0;
  for (size_t u = 0; u < model.units().size(); ++u) {
    if (!model.units()[u].attention) continue;
    const auto w = WeightsOf(*model.spec().variant, p,
                             (*pass)->AttentionRead(model, u), exec);
    if (!w.ok()) return w.status();
    for (int64_t b = 0; b < batch; ++b) {
      std::copy_n(w->Row(b, 0, 0).data(), p.q_heads * len * len,
                  all.Row(b, first, 0).data());
    }
    first += p.q_heads;
  }
  return all;
}

RowRange LateRows(const Weights& w) {
  const int64_t end = std::min<int64_t>(w.len, 128);
  return {end / 2, end};
}

void ForRows(const Weights& w, RowRange rows,
             const std::function<void(int64_t head, int64_t i,
                                      std::span<const double> p)>& visit) {
  std::vector<double> p(w.len);
  for (int64_t b = 0; b < w.batch; ++b) {
    for (int64_t h = 0; h < w.heads; ++h) {
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        const auto row = w.Row(b, h, i);
        double sum = 0;
        for (int64_t j = 0; j <= i; ++j) sum += p[j] = std::abs(row[j]);
        if (!(sum > 0)) continue;
        for (int64_t j = 0; j <= i; ++j) p[j] /= sum;
        visit(h, i, {p.data(), static_cast<size_t>(i + 1)});
      }
    }
  }
}

double MeanOverRows(
    const Weights& w, RowRange rows,
    const std::function<double(int64_t i, std::span<const double> p)>& read) {
  double sum = 0, count = 0;
  ForRows(w, rows, [&](int64_t, int64_t i, std::span<const double> p) {
    sum += read(i, p);
    ++count;
  });
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

double GreatestOfHeads(
    const Weights& w, RowRange rows,
    const std::function<double(int64_t i, std::span<const double> p)>& read) {
  std::vector<double> sums(w.heads), counts(w.heads);
  ForRows(w, rows, [&](int64_t h, int64_t i, std::span<const double> p) {
    sums[h] += read(i, p);
    ++counts[h];
  });
  double greatest = std::numeric_limits<double>::quiet_NaN();
  for (int64_t h = 0; h < w.heads; ++h) {
    if (counts[h] == 0) continue;
    greatest = std::fmax(greatest, sums[h] / counts[h]);
  }
  return greatest;
}

}  // namespace saccade::bench
