#include "record/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace saccade::record {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The continued fraction of the incomplete beta function (Abramowitz & Stegun
// 1964, 26.5.8), from its front by the method of Lentz (1976). Converges fast
// for x < (a + 1) / (a + b + 2).
double BetaFraction(double x, double a, double b) {
  constexpr int kMost = 10000;  // about sqrt(max(a, b)) are needed
  constexpr double kTiny = 1e-300;
  const auto nonzero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / nonzero(1 - (a + b) * x / (a + 1));
  double value = d;
  for (int m = 1; m < kMost; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    value *= d * c;
    const double odd =
        -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    value *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return value;
}

// The regularised incomplete beta function I_x(a, b); y is 1 - x, which the
// caller knows without a loss of digits.
double IncompleteBeta(double x, double y, double a, double b) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(a * std::log(x) + b * std::log(y) + std::lgamma(a + b) -
               std::lgamma(a) - std::lgamma(b));
  return x < (a + 1) / (a + b + 2) ? front * BetaFraction(x, a, b) / a
                                   : 1 - front * BetaFraction(y, b, a) / b;
}

// P values with their places, the least first; NaN is left out.
std::vector<std::pair<double, size_t>> Ordered(std::span<const double> p) {
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.emplace_back(p[i], i);
  }
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

double StudentTail(double t, double freedom) {
  if (std::isnan(t)) return kNaN;
  if (std::isinf(t)) return 0;
  const double sum = freedom + t * t;
  return IncompleteBeta(freedom / sum, t * t / sum, 0.5 * freedom, 0.5);
}

double StudentQuantile(double coverage, double freedom) {
  double low = 0, high = 1;
  while (StudentTail(high, freedom) > 1 - coverage) high *= 2;
  while (high - low > 1e-12 * high) {
    const double middle = 0.5 * (low + high);
    (StudentTail(middle, freedom) > 1 - coverage ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

MeanTest TestMean(std::span<const double> samples) {
  const auto n = static_cast<int>(samples.size());
  if (n == 0) return {kNaN, kNaN, kNaN, kNaN, 0};
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  if (n == 1) return {mean, kNaN, kNaN, kNaN, 1};
  double squares = 0;
  for (const double x : samples) squares += (x - mean) * (x - mean);
  const double error = std::sqrt(squares / (n - 1) / n);
  const double half = StudentQuantile(0.95, n - 1) * error;
  // Samples without any spread say that a mean is what it is.
  const double p = mean == 0 ? 1 : StudentTail(mean / error, n - 1);
  return {mean, mean - half, mean + half, p, n};
}

std::vector<double> Holm(std::span<const double> p) {
  const auto order = Ordered(p);
  std::vector<double> adjusted(p.size(), kNaN);
  double least = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto left = static_cast<double>(order.size() - i);
    least = std::max(least, std::min(left * order[i].first, 1.0));
    adjusted[order[i].second] = least;
  }
  return adjusted;
}

std::vector<double> BenjaminiHochberg(std::span<const double> p) {
  const auto order = Ordered(p);
  std::vector<double> adjusted(p.size(), kNaN);
  double most = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const double factor =
        static_cast<double>(order.size()) / static_cast<double>(i + 1);
    most = std::min(most, factor * order[i].first);
    adjusted[order[i].second] = most;
  }
  return adjusted;
}

}  // namespace saccade::record
