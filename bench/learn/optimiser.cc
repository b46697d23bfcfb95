#include "bench/learn/optimiser.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace saccade::bench {
namespace {

double SquaredNorm(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

}  // namespace

double Optimiser::Rate(int64_t step) const {
  const OptimiserOptions& o = options_;
  if (step < o.warmup) {
    return o.rate * static_cast<double>(step + 1) /
           static_cast<double>(o.warmup);
  }
  const double done =
      static_cast<double>(step - o.warmup) /
      static_cast<double>(std::max<int64_t>(o.steps - o.warmup, 1));
  const double cosine = 0.5 + 0.5 * std::cos(std::numbers::pi * done);
  return o.rate * (o.last_rate + (1 - o.last_rate) * cosine);
}

double Optimiser::Step(Parameters& parameters, Exec& exec) {
  const std::vector<Parameter>& tensors = parameters.tensors();
  const auto count = static_cast<int64_t>(tensors.size());
  std::vector<double> squares(tensors.size());
  exec.For(count, [&](int64_t i, int) {
    squares[i] =
        SquaredNorm(parameters.gradient(tensors[i].at), tensors[i].size());
  });
  double norm = 0;
  for (const double s : squares) norm += s;
  norm = std::sqrt(norm);

  const OptimiserOptions& o = options_;
  const auto rate = static_cast<float>(Rate(moments_.step));
  const auto scale = static_cast<float>(std::min(1.0, o.clip / norm));
  ++moments_.step;
  const auto n = static_cast<double>(moments_.step);
  const auto unbias1 = static_cast<float>(1 / (1 - std::pow(o.beta1, n)));
  const auto unbias2 = static_cast<float>(1 / (1 - std::pow(o.beta2, n)));
  const auto beta1 = static_cast<float>(o.beta1);
  const auto beta2 = static_cast<float>(o.beta2);
  const auto epsilon = static_cast<float>(o.epsilon);
  exec.For(count, [&](int64_t i, int) {
    const Parameter& t = tensors[i];
    const float* const g = parameters.gradient(t.at);
    float* const x = parameters.value(t.at);
    float* const m = moments_.first.data() + t.at;
    float* const v = moments_.second.data() + t.at;
    const float keep =
        t.rows > 1 ? 1 - rate * static_cast<float>(o.decay) : 1.0f;
    for (int64_t j = 0; j < t.size(); ++j) {
      const float grad = scale * g[j];
      m[j] = beta1 * m[j] + (1 - beta1) * grad;
      v[j] = beta2 * v[j] + (1 - beta2) * grad * grad;
      x[j] = keep * x[j] -
             rate * (m[j] * unbias1) / (std::sqrt(v[j] * unbias2) + epsilon);
    }
  });
  return norm;
}

}  // namespace saccade::bench
