#include "reports/stats.h"

#include <algorithm>

namespace saccade::reports {
namespace {

// Student's t, two-sided 95 %, by degrees of freedom.
double StudentT(int freedom) {
  constexpr double kT[] = {12.706, 4.303, 3.182, 2.776, 2.571,
                           2.447,  2.365, 2.306, 2.262, 2.228};
  constexpr int kKnown = 10;
  if (freedom <= kKnown) return kT[freedom - 1];
  // Within 0.2 % from 11 degrees on (first terms of Cornish & Fisher 1938).
  const double z = 1.959964;
  return z + (z * z * z + z) / (4.0 * freedom) +
         (5 * std::pow(z, 5) + 16 * std::pow(z, 3) + 3 * z) /
             (96.0 * freedom * freedom);
}

// How many of n sorted samples at each end lie outside the 95 % interval of
// the median. The number of samples below the true median is binomial(n, 1/2).
size_t OutsideInterval(size_t n) {
  if (n > 200) {  // the normal law is exact to a sample here
    const auto count = static_cast<double>(n);
    return static_cast<size_t>(0.5 * count - 0.98 * std::sqrt(count));
  }
  double term = std::pow(0.5, static_cast<double>(n));
  double tail = term;
  size_t cut = 0;
  while (tail <= 0.025) {
    ++cut;
    term *= static_cast<double>(n - cut + 1) / static_cast<double>(cut);
    tail += term;
  }
  return cut > 0 ? cut - 1 : 0;
}

}  // namespace

bool Overlap(const Estimate& a, const Estimate& b) {
  const auto low = [](const Estimate& e) {
    return e.bounded() ? e.low : e.value;
  };
  const auto high = [](const Estimate& e) {
    return e.bounded() ? e.high : e.value;
  };
  return low(a) <= high(b) && low(b) <= high(a);
}

Estimate Median(std::vector<double> samples) {
  std::erase_if(samples, [](double x) { return std::isnan(x); });
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const size_t n = samples.size();
  Estimate median;
  median.count = static_cast<int>(n);
  median.value = 0.5 * (samples[(n - 1) / 2] + samples[n / 2]);
  const size_t out = OutsideInterval(n);
  median.low = samples[out];
  median.high = samples[n - 1 - out];
  return median;
}

Estimate MeanOverSeeds(const std::vector<Estimate>& readings) {
  std::vector<Estimate> known;
  for (const Estimate& reading : readings) {
    if (reading.known()) known.push_back(reading);
  }
  if (known.empty()) return {};
  const auto n = static_cast<int>(known.size());
  if (n == 1) {
    known[0].count = 1;
    return known[0];
  }
  double sum = 0;
  for (const Estimate& reading : known) sum += reading.value;
  const double mean = sum / n;
  double squares = 0;
  for (const Estimate& reading : known) {
    squares += (reading.value - mean) * (reading.value - mean);
  }
  const double half = StudentT(n - 1) * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half, n};
}

PowerFit FitPower(const std::vector<std::pair<int64_t, double>>& points) {
  std::vector<std::pair<int64_t, double>> used;
  for (const auto& point : points) {
    if (point.first > 0 && point.second > 0 && std::isfinite(point.second)) {
      used.push_back(point);
    }
  }
  std::sort(used.begin(), used.end());
  if (used.size() < kMinFitPoints) return {};
  if (used.size() > kFitPoints) {
    used.erase(used.begin(), used.end() - kFitPoints);
  }
  if (used.front().first == used.back().first) return {};
  const auto n = static_cast<double>(used.size());
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (const auto& [length, value] : used) {
    const double x = std::log(static_cast<double>(length));
    const double y = std::log(value);
    sx += x;
    sy += y;
    sxx += x * x;
    sxy += x * y;
  }
  const double spread = n * sxx - sx * sx;
  return {(n * sxy - sx * sy) / spread, used.front().first, used.back().first};
}

}  // namespace saccade::reports
