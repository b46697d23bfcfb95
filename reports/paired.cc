#include "reports/paired.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "record/statistics.h"

namespace saccade::reports {
namespace {

constexpr double kTrimmed = 0.2;  // of each end

// A mean of logarithms, its variance and how well that is known.
struct LogMean {
  double value = kNaN, variance = kNaN, freedom = 1;
  int count = 0;
};

// Yuen's: the mean of the middle, with the variance of all when each end is
// drawn in to the middle's.
LogMean TrimmedMean(std::vector<double> logs) {
  std::sort(logs.begin(), logs.end());
  const auto n = static_cast<int>(logs.size());
  const int cut = static_cast<int>(kTrimmed * n);
  LogMean m;
  m.count = n;
  if (n == 0) return m;
  const double kept = n - 2 * cut;
  m.value = 0;
  for (int i = cut; i < n - cut; ++i) m.value += logs[i] / kept;
  if (kept < 3) return m;
  double mean = 0, squares = 0;
  for (int i = 0; i < n; ++i) mean += logs[std::clamp(i, cut, n - cut - 1)] / n;
  for (int i = 0; i < n; ++i)
    squares += std::pow(logs[std::clamp(i, cut, n - cut - 1)] - mean, 2);
  m.freedom = kept - 1;
  m.variance = squares / (kept * m.freedom);
  return m;
}

TimeRatio RatioOf(const LogMean& m) {
  TimeRatio r;
  r.ratio = {std::exp(m.value), kNaN, kNaN, m.count};
  if (!std::isfinite(m.variance)) return r;
  const double error = std::sqrt(m.variance);
  const double arm = record::StudentQuantile(0.95, m.freedom) * error;
  r.ratio.low = std::exp(m.value - arm);
  r.ratio.high = std::exp(m.value + arm);
  r.p = m.value == 0 ? 1
        : error > 0  ? record::StudentTail(m.value / error, m.freedom)
                     : 0;
  return r;
}

LogMean OfTurns(std::span<const double> a, std::span<const double> b) {
  std::vector<double> logs;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (a[i] > 0 && b[i] > 0) logs.push_back(std::log(b[i] / a[i]));
  return TrimmedMean(std::move(logs));
}

// Of means that are independent (degrees of freedom: Satterthwaite 1946).
LogMean MeanOf(const std::vector<LogMean>& means) {
  const auto n = static_cast<double>(means.size());
  LogMean all{0, 0, 1, static_cast<int>(means.size())};
  double squares = 0;
  for (const LogMean& m : means) {
    const double variance = m.variance / (n * n);
    all.value += m.value / n;
    all.variance += variance;
    squares += variance * variance / m.freedom;
  }
  if (squares > 0) all.freedom = all.variance * all.variance / squares;
  return all;
}

}  // namespace

TimeRatio RatioOfTurns(std::span<const double> a, std::span<const double> b) {
  return RatioOf(OfTurns(a, b));
}

Shifts ComparePaired(const std::vector<PairedCell>& cells) {
  Shifts shifts;
  std::vector<TimeRatio*> ratios;
  std::map<std::string, std::vector<LogMean>> passes;
  std::vector<LogMean> all;
  shifts.cells.reserve(cells.size());
  for (const PairedCell& cell : cells) {
    const LogMean mean = OfTurns(cell.a, cell.b);
    ratios.push_back(&shifts.cells.emplace_back(RatioOf(mean)));
    if (!std::isfinite(mean.variance)) continue;
    passes[cell.pass].push_back(mean);
    all.push_back(mean);
  }
  AdjustTogether(ratios);
  ratios.clear();
  for (const auto& [pass, means] : passes)
    ratios.push_back(&(shifts.means[pass] = RatioOf(MeanOf(means))));
  if (!all.empty()) shifts.all = RatioOf(MeanOf(all));
  ratios.push_back(&shifts.all);
  AdjustTogether(ratios);
  return shifts;
}

}  // namespace saccade::reports
