#include "bench/learn/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/learn/random.h"

namespace saccade::bench {

double Mean(std::span<const double> x) {
  double sum = 0;
  for (const double v : x) sum += v;
  return x.empty() ? 0 : sum / static_cast<double>(x.size());
}

Interval95 Bootstrap(std::span<const double> samples) {
  const double mean = Mean(samples);
  if (samples.size() < 2) return {mean, mean, mean};
  constexpr int64_t kResamples = 1000;
  const auto n = static_cast<int64_t>(samples.size());
  Random random(1, "bootstrap");
  std::vector<double> means(kResamples);
  for (double& m : means) {
    for (int64_t i = 0; i < n; ++i) m += samples[random.Below(n)];
    m /= static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  return {mean, means[kResamples * 25 / 1000],
          means[kResamples * 975 / 1000 - 1]};
}

Interval95 Wilson(int64_t successes, int64_t trials) {
  if (trials <= 0) return {0, 0, 1};
  constexpr double kZ = 1.959963984540054;
  const auto n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double scale = 1 / (1 + kZ * kZ / n);
  const double centre = scale * (p + kZ * kZ / (2 * n));
  const double half =
      scale * kZ * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  // The ends are exact where all answers agree; rounding would miss them.
  return {p, successes == 0 ? 0 : centre - half,
          successes == trials ? 1 : centre + half};
}

}  // namespace saccade::bench
