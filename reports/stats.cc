#include "reports/stats.h"

#include <algorithm>
#include <cmath>

#include "record/statistics.h"

namespace saccade::reports {
namespace {

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

double HalfWidth(const Estimate& e) {
  return e.bounded() ? (e.high - e.low) / 2 : 0;
}

Difference DifferenceOf(const BySeed& base, const BySeed& other) {
  std::vector<double> pairs;
  std::vector<Estimate> bases, others;
  for (const auto& [seed, reading] : other) {
    const auto same = base.find(seed);
    others.push_back(reading);
    if (same != base.end() && same->second.known() && reading.known())
      pairs.push_back(reading.value - same->second.value);
  }
  for (const auto& [seed, reading] : base) bases.push_back(reading);
  if (pairs.size() > 1) {
    const record::MeanTest test = record::TestMean(pairs);
    return {{test.mean, test.low, test.high, test.count}, test.p};
  }
  // As if independent: the bytes are the same, so this errs to the safe side.
  const Estimate a = MeanOverSeeds(bases), b = MeanOverSeeds(others);
  const double value = b.value - a.value;
  const double half = std::hypot(HalfWidth(a), HalfWidth(b));
  return {{value, value - half, value + half, static_cast<int>(pairs.size())}};
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

double MedianCoverage(int samples) {
  if (samples < 1) return 0;
  if (samples > 200) return 0.95;
  const size_t out = OutsideInterval(static_cast<size_t>(samples));
  double term = std::pow(0.5, samples), tail = term;
  for (size_t i = 1; i <= out; ++i) {
    term *= (samples - static_cast<double>(i) + 1) / static_cast<double>(i);
    tail += term;
  }
  return 1 - 2 * tail;
}

Estimate MeanOverSeeds(const std::vector<Estimate>& readings) {
  std::vector<Estimate> known;
  for (const Estimate& reading : readings) {
    if (reading.known()) known.push_back(reading);
  }
  if (known.empty()) return {};
  if (known.size() == 1) {
    known[0].count = 1;
    return known[0];
  }
  std::vector<double> values;
  for (const Estimate& reading : known) values.push_back(reading.value);
  const record::MeanTest test = record::TestMean(values);
  return {test.mean, test.low, test.high, test.count};
}

std::vector<Difference> Differences(
    const std::vector<std::pair<const BySeed*, const BySeed*>>& pairs) {
  std::vector<Difference> differences;
  std::vector<double> p;
  for (const auto& [base, other] : pairs) {
    differences.push_back(DifferenceOf(*base, *other));
    p.push_back(differences.back().p);
  }
  const std::vector<double> adjusted = record::Holm(p);
  for (size_t i = 0; i < differences.size(); ++i) {
    Difference& d = differences[i];
    d.p = adjusted[i];
    // Without seeds there is nothing to adjust.
    const bool sure =
        std::isnan(d.p) ? d.bits.low > 0 || d.bits.high < 0 : d.p < 0.05;
    d.tie = !sure || std::abs(d.bits.value) <= kTieBits;
  }
  return differences;
}

std::vector<Difference> DifferencesFrom(
    const BySeed& base, const std::vector<const BySeed*>& others) {
  std::vector<std::pair<const BySeed*, const BySeed*>> pairs;
  for (const BySeed* other : others) pairs.emplace_back(&base, other);
  return Differences(pairs);
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
