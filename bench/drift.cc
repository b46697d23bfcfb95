#include "bench/drift.h"

#include <algorithm>
#include <cmath>

#include "bench/statistics.h"

namespace saccade::bench {
namespace {

constexpr double kHeld = 0.01;  // a pace that keeps within this has no drift
constexpr int kPolishes = 4;    // the levels are settled before

std::vector<double> RunningMedian(const std::vector<double>& x) {
  const auto n = std::ssize(x);
  const std::ptrdiff_t half = std::min<std::ptrdiff_t>(2, n / 5);
  std::vector<double> smooth;
  for (std::ptrdiff_t r = 0; r < n; ++r) {
    // At the ends as many before as after, so that a slope stays one.
    const std::ptrdiff_t h = std::min({half, r, n - 1 - r});
    smooth.push_back(Median(std::span(x).subspan(
        static_cast<size_t>(r - h), static_cast<size_t>(2 * h + 1))));
  }
  return smooth;
}

// Of logarithms.
std::vector<double> Polish(std::span<const std::vector<RoundTime>> rows,
                           int rounds) {
  std::vector<double> paces(static_cast<size_t>(rounds), 0.0);
  for (int i = 0; i < kPolishes; ++i) {
    std::vector<std::vector<double>> rest(static_cast<size_t>(rounds));
    for (const std::vector<RoundTime>& row : rows) {
      std::vector<double> own;
      for (const RoundTime& t : row)
        own.push_back(std::log(t.seconds) - paces[t.round]);
      const double level = Median(own);
      for (const RoundTime& t : row)
        rest[t.round].push_back(std::log(t.seconds) - level);
    }
    for (size_t r = 0; r < rest.size(); ++r) paces[r] = Median(rest[r]);
  }
  return paces;
}

}  // namespace

std::vector<double> PaceOfRounds(std::span<const std::vector<RoundTime>> rows,
                                 int rounds) {
  if (rounds < 3) return {};
  std::vector<double> paces = RunningMedian(Polish(rows, rounds));
  const auto [least, most] = std::minmax_element(paces.begin(), paces.end());
  if (*most - *least <= kHeld) return {};
  const double middle = Median(paces);
  for (double& p : paces) p = std::exp(p - middle);
  return paces;
}

}  // namespace saccade::bench
