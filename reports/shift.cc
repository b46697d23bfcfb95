#include "reports/shift.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <utility>

#include "record/statistics.h"

namespace saccade::reports {
namespace {

// Fewer differences than this say too little about the noise between runs.
constexpr int kLeastEvidence = 8;
// What is assumed then: 2 % as half of an interval of one run against another.
constexpr double kAssumedNoise = 0.007;
// Moves between runs have heavier tails than the normal law; Student's with
// this many degrees of freedom has such.
constexpr double kTailFreedom = 10;
// Of medians whose number of samples is not known.
constexpr double kUnknownFreedom = 5;
// Median of the absolute value of a standard normal.
constexpr double kNormalMad = 0.6744897501960817;

// A variance and how well it is known.
struct Variance {
  double value = 0, freedom = 1;
};

// Of a sum of independent terms (Satterthwaite 1946).
Variance Sum(std::span<const Variance> terms) {
  double sum = 0, squares = 0;
  for (const Variance& v : terms) {
    sum += v.value;
    squares += v.value * v.value / v.freedom;
  }
  return {sum, squares > 0 ? sum * sum / squares : 1};
}

Variance Scaled(const Variance& v, double factor) {
  return {v.value * factor, v.freedom};
}

double MedianOf(std::vector<double> values) {
  return Median(std::move(values)).value;
}

// The logarithm of a median. `error` is its variance by order statistics, whose
// interval is as wide as the tail of disturbed samples makes it: safe for each
// cell, too much for most. `typical` is what is right for most.
struct LogMedian {
  double value = 0, typical = 0, clock = 0;
  Variance error;
};

LogMedian Log(const RunTime& time) {
  const Estimate& e = time.median;
  const bool counted = e.count > 1;
  const double freedom = counted ? e.count - 1 : kUnknownFreedom;
  const double t = record::StudentQuantile(
      counted ? MedianCoverage(e.count) : 0.95, freedom);
  LogMedian m;
  m.value = std::log(e.value);
  m.typical = time.error * time.error;
  m.clock = time.clock;
  m.error = {std::pow(std::log(e.high / e.low) / (2 * t), 2), freedom};
  return m;
}

// The mean over runs.
LogMedian Mean(const std::vector<LogMedian>& runs) {
  const auto n = static_cast<double>(runs.size());
  LogMedian mean;
  std::vector<Variance> errors;
  for (const LogMedian& m : runs) {
    mean.value += m.value / n;
    mean.clock += m.clock / n;
    mean.typical += m.typical / (n * n);
    errors.push_back(Scaled(m.error, 1 / (n * n)));
  }
  mean.error = Sum(errors);
  return mean;
}

// A cell in logarithms, B over A.
struct Prepared {
  const TimedCell* cell = nullptr;
  std::vector<LogMedian> a, b;  // one a run
  double change = 0, drift = 0, typical = 0;
  Variance error;
  double share = 0;  // 1 / runs of A + 1 / runs of B
};

using Cells = std::vector<const Prepared*>;
using Side = std::vector<LogMedian> Prepared::*;

std::vector<LogMedian> LogAll(const std::vector<RunTime>& runs) {
  std::vector<LogMedian> logs;
  for (const RunTime& run : runs) logs.push_back(Log(run));
  return logs;
}

Prepared Prepare(const TimedCell& cell) {
  Prepared p;
  p.cell = &cell;
  p.a = LogAll(cell.a);
  p.b = LogAll(cell.b);
  const LogMedian a = Mean(p.a), b = Mean(p.b);
  p.change = b.value - a.value;
  p.drift = std::isfinite(b.clock - a.clock) ? b.clock - a.clock : 0;
  p.typical = a.typical + b.typical;
  p.error = Sum(std::vector{a.error, b.error});
  p.share = 1.0 / static_cast<double>(p.a.size()) +
            1.0 / static_cast<double>(p.b.size());
  return p;
}

bool Bounded(const std::vector<RunTime>& runs) {
  return !runs.empty() &&
         std::all_of(runs.begin(), runs.end(), [](const RunTime& run) {
           const Estimate& e = run.median;
           return e.low > 0 && std::isfinite(e.high) && e.count != 1;
         });
}

// A difference whose true value is zero: its square is expected to be
// `sampled` and `weight` times the noise between runs.
struct Residual {
  double value = 0, sampled = 0, weight = 1;
};

// The noise with which half of the residuals are as small as half of normal
// ones are: real changes of some cells, which are residuals too large, move it
// little.
double SolveNoise(const std::vector<Residual>& residuals) {
  const auto typical = [&](double noise) {
    std::vector<double> sizes;
    for (const Residual& r : residuals)
      sizes.push_back(
          std::abs(r.value) /
          std::sqrt(std::max(r.sampled + r.weight * noise, 1e-300)));
    return MedianOf(std::move(sizes));
  };
  if (residuals.empty() || typical(0) <= kNormalMad) return 0;
  double low = 0, high = 1e-8;
  while (typical(high) > kNormalMad && high < 1e4) high *= 4;
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    (typical(middle) > kNormalMad ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// Neighbours in length of each series.
std::vector<Residual> NeighbourResiduals(Cells cells) {
  std::sort(cells.begin(), cells.end(), [](const auto* x, const auto* y) {
    return std::tie(x->cell->series, x->cell->length) <
           std::tie(y->cell->series, y->cell->length);
  });
  std::vector<Residual> residuals;
  for (size_t i = 0; i + 1 < cells.size(); ++i) {
    const Prepared &x = *cells[i], &y = *cells[i + 1];
    if (x.cell->series == y.cell->series)
      residuals.push_back(
          {y.change - x.change, x.typical + y.typical, x.share + y.share});
  }
  return residuals;
}

// How runs of one side differ from their mean, and by how much each of them
// does as a whole, as it is and by its clock.
struct RunResiduals {
  std::vector<Residual> cells;
  std::vector<double> shifts, clocked;
};

void AddRunResiduals(const Cells& cells, Side side, RunResiduals* out) {
  std::map<size_t, std::vector<double>> shifts, clocked;
  std::vector<std::pair<size_t, Residual>> found;
  for (const Prepared* cell : cells) {
    const std::vector<LogMedian>& runs = cell->*side;
    if (runs.size() < 2) continue;
    const LogMedian mean = Mean(runs);
    const double weight = 1 - 1.0 / static_cast<double>(runs.size());
    for (size_t r = 0; r < runs.size(); ++r) {
      const double away = runs[r].value - mean.value;
      found.push_back({r, {away, weight * runs[r].typical, weight}});
      shifts[r].push_back(away);
      clocked[r].push_back(away - (runs[r].clock - mean.clock));
    }
  }
  for (auto& [run, residual] : found) {
    residual.value -= MedianOf(shifts[run]);
    out->cells.push_back(residual);
  }
  for (const auto& [run, values] : shifts) {
    out->shifts.push_back(MedianOf(values));
    out->clocked.push_back(MedianOf(clocked[run]));
  }
}

double RootSquares(const std::vector<double>& values, int freedom) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares / freedom);
}

int MostRuns(const Cells& cells, Side side) {
  size_t most = 0;
  for (const Prepared* cell : cells)
    most = std::max(most, (cell->*side).size());
  return static_cast<int>(most);
}

RunNoise NoiseOf(const Cells& cells) {
  RunNoise noise;
  std::vector<Residual> residuals;
  noise.run_freedom =
      MostRuns(cells, &Prepared::a) + MostRuns(cells, &Prepared::b) - 2;
  if (noise.run_freedom > 0) {
    RunResiduals runs;
    AddRunResiduals(cells, &Prepared::a, &runs);
    AddRunResiduals(cells, &Prepared::b, &runs);
    noise.run = RootSquares(runs.shifts, noise.run_freedom);
    // Where clocks tell why runs differ only the rest is noise: intervals hold
    // both ratios, so that the better of the two may be chosen.
    const double rest = RootSquares(runs.clocked, noise.run_freedom);
    if (rest < noise.run) noise.run = rest;
    residuals = std::move(runs.cells);
  } else {
    residuals = NeighbourResiduals(cells);
  }
  noise.evidence = static_cast<int>(residuals.size());
  noise.cell = std::sqrt(SolveNoise(residuals));
  return noise;
}

using NoiseByPass = std::map<std::string, RunNoise>;

// Pass by pass where there is enough to tell, else of all together.
NoiseByPass NoiseOfEach(const std::map<std::string, Cells>& passes,
                        const Cells& all) {
  NoiseByPass noise;
  for (const auto& [pass, cells] : passes) {
    RunNoise& n = noise[pass] = NoiseOf(cells);
    if (n.evidence < kLeastEvidence) n = NoiseOf(all);
    n.assumed = n.evidence < kLeastEvidence;
    if (n.assumed) n.cell = std::max(n.cell, kAssumedNoise);
  }
  return noise;
}

Variance CellNoise(const RunNoise& noise, double share) {
  // A median of sizes is as sure as the root of .37 times as many squares.
  return {noise.cell * noise.cell * share,
          std::clamp(0.37 * noise.evidence, 2.0, kTailFreedom)};
}

Variance RunShift(const RunNoise& noise, double share) {
  return {noise.run * noise.run * share,
          static_cast<double>(std::max(noise.run_freedom, 1))};
}

// The interval holds the change as it is and without the drift, and both must
// differ from nothing to be a difference.
TimeRatio RatioOf(double change, double drift, const Variance& error) {
  const double least = std::min(change, change - drift);
  const double most = std::max(change, change - drift);
  const double root = std::sqrt(error.value);
  const double arm = record::StudentQuantile(0.95, error.freedom) * root;
  TimeRatio r;
  r.ratio = {std::exp(change), std::exp(least - arm), std::exp(most + arm)};
  const double size = least > 0 ? least : most < 0 ? -most : 0;
  r.p = 1;
  if (size > 0)
    r.p = root > 0 ? record::StudentTail(size / root, error.freedom) : 0;
  return r;
}

// The geometric mean over cells. Cells of a batch may have been disturbed
// together, so that what moves them counts as one.
TimeRatio MeanOf(const Cells& cells, const NoiseByPass& noise) {
  const auto n = static_cast<double>(cells.size());
  double change = 0, drift = 0;
  std::vector<Variance> errors, run;
  std::map<std::string, std::vector<Variance>> batches;
  for (const Prepared* p : cells) {
    change += p->change / n;
    drift += p->drift / n;
    errors.push_back(Scaled(p->error, 1 / (n * n)));
    const RunNoise& of_pass = noise.at(p->cell->pass);
    batches[p->cell->batch].push_back(CellNoise(of_pass, p->share));
    run.push_back(RunShift(of_pass, p->share));
  }
  // Of terms that move together roots add, not squares.
  const auto together = [n](const std::vector<Variance>& terms) {
    double sum = 0;
    for (const Variance& v : terms) sum += std::sqrt(v.value) / n;
    return Variance{sum * sum, terms.front().freedom};
  };
  for (const auto& [batch, terms] : batches) errors.push_back(together(terms));
  errors.push_back(together(run));
  return RatioOf(change, drift, Sum(errors));
}

}  // namespace

void AdjustTogether(const std::vector<TimeRatio*>& ratios) {
  std::vector<double> p;
  for (const TimeRatio* r : ratios) p.push_back(r->p);
  const std::vector<double> adjusted = record::BenjaminiHochberg(p);
  for (size_t i = 0; i < ratios.size(); ++i) ratios[i]->p = adjusted[i];
}

RunTime TimeOf(std::vector<double> samples) {
  std::erase_if(samples, [](double ns) { return !(ns > 0); });
  RunTime time;
  if (samples.empty()) return time;
  time.median = Median(samples);
  for (double& ns : samples) ns = std::abs(ns - time.median.value);
  const auto n = static_cast<double>(samples.size());
  // Of normal samples the median of distances is .674 standard deviations, and
  // the median's error is sqrt(pi / 2) times the mean's.
  time.error = MedianOf(std::move(samples)) / kNormalMad *
               std::sqrt(M_PI / 2 / n) * (1 + 1 / n) / time.median.value;
  return time;
}

Shifts ComputeShifts(const std::vector<TimedCell>& cells) {
  Shifts shifts;
  shifts.cells.resize(cells.size());
  std::vector<Prepared> prepared;
  std::vector<TimeRatio*> ratios;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (!Bounded(cells[i].a) || !Bounded(cells[i].b)) continue;
    prepared.push_back(Prepare(cells[i]));
    ratios.push_back(&shifts.cells[i]);
  }
  if (prepared.empty()) return shifts;
  std::map<std::string, Cells> passes;
  Cells all;
  for (const Prepared& p : prepared) {
    passes[p.cell->pass].push_back(&p);
    all.push_back(&p);
  }
  shifts.noise = NoiseOfEach(passes, all);
  for (size_t i = 0; i < prepared.size(); ++i) {
    const Prepared& p = prepared[i];
    const RunNoise& noise = shifts.noise.at(p.cell->pass);
    *ratios[i] = RatioOf(p.change, p.drift,
                         Sum(std::vector{p.error, CellNoise(noise, p.share),
                                         RunShift(noise, p.share)}));
  }
  AdjustTogether(ratios);
  ratios = {&shifts.all};
  for (const auto& [pass, members] : passes) {
    shifts.means[pass] = MeanOf(members, shifts.noise);
    ratios.push_back(&shifts.means[pass]);
  }
  shifts.all = MeanOf(all, shifts.noise);
  AdjustTogether(ratios);
  return shifts;
}

}  // namespace saccade::reports
