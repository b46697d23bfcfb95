#include "reports/shift.h"

#include <algorithm>
#include <cmath>
#include <numeric>
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

// The logarithm of a median, and its error towards less and towards more.
struct LogMedian {
  double value = 0;
  Variance less, more;
  double Both() const { return 0.5 * (less.value + more.value); }
};

LogMedian Log(const Estimate& e) {
  const bool counted = e.count > 1;
  const double freedom = counted ? e.count - 1 : kUnknownFreedom;
  const double t = record::StudentQuantile(
      counted ? MedianCoverage(e.count) : 0.95, freedom);
  LogMedian m;
  m.value = std::log(e.value);
  m.less = {std::pow((m.value - std::log(e.low)) / t, 2), freedom};
  m.more = {std::pow((std::log(e.high) - m.value) / t, 2), freedom};
  return m;
}

// The mean over runs.
LogMedian Mean(const std::vector<LogMedian>& runs) {
  const auto n = static_cast<double>(runs.size());
  LogMedian mean;
  std::vector<Variance> less, more;
  for (const LogMedian& m : runs) {
    mean.value += m.value / n;
    less.push_back(Scaled(m.less, 1 / (n * n)));
    more.push_back(Scaled(m.more, 1 / (n * n)));
  }
  mean.less = Sum(less);
  mean.more = Sum(more);
  return mean;
}

// A cell in logarithms. Its change is B over A by samples alone, whose arms
// combine those of both medians (Zou & Donner 2008).
struct Prepared {
  const TimedCell* cell = nullptr;
  std::vector<LogMedian> a, b;  // one a run
  double change = 0;
  Variance less, more;
  double share = 0;  // 1 / runs of A + 1 / runs of B
};

std::vector<LogMedian> LogAll(const std::vector<Estimate>& runs) {
  std::vector<LogMedian> logs;
  for (const Estimate& run : runs) logs.push_back(Log(run));
  return logs;
}

Prepared Prepare(const TimedCell& cell) {
  Prepared p;
  p.cell = &cell;
  p.a = LogAll(cell.a);
  p.b = LogAll(cell.b);
  const LogMedian a = Mean(p.a), b = Mean(p.b);
  p.change = b.value - a.value;
  p.less = Sum(std::vector{b.less, a.more});
  p.more = Sum(std::vector{b.more, a.less});
  p.share = 1.0 / static_cast<double>(p.a.size()) +
            1.0 / static_cast<double>(p.b.size());
  return p;
}

bool Bounded(const std::vector<Estimate>& runs) {
  return !runs.empty() &&
         std::all_of(runs.begin(), runs.end(), [](const Estimate& e) {
           return e.value > 0 && e.low > 0 && std::isfinite(e.high) &&
                  e.count != 1;
         });
}

// A difference whose true value is zero: its square is expected to be
// `sampled` and `weight` times the noise between runs.
struct Residual {
  double value = 0, sampled = 0, weight = 1;
};

double MedianOf(std::vector<double> values) {
  return Median(std::move(values)).value;
}

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

using Cells = std::vector<const Prepared*>;
using Side = std::vector<LogMedian> Prepared::*;

// Neighbours in length of each series.
std::vector<Residual> NeighbourResiduals(Cells cells) {
  std::sort(cells.begin(), cells.end(), [](const auto* x, const auto* y) {
    return std::tie(x->cell->series, x->cell->length) <
           std::tie(y->cell->series, y->cell->length);
  });
  std::vector<Residual> residuals;
  for (size_t i = 0; i + 1 < cells.size(); ++i) {
    const Prepared &x = *cells[i], &y = *cells[i + 1];
    if (x.cell->series != y.cell->series) continue;
    residuals.push_back(
        {y.change - x.change,
         0.5 * (x.less.value + x.more.value + y.less.value + y.more.value),
         x.share + y.share});
  }
  return residuals;
}

// How runs of one side differ from their mean, and by how much each of them
// does as a whole: pairs of the run and the residual.
using OfRun = std::pair<size_t, Residual>;
void AddRunResiduals(const Cells& cells, Side side,
                     std::vector<Residual>* residuals,
                     std::vector<double>* shifts) {
  std::vector<OfRun> found;
  std::map<size_t, std::vector<double>> by_run;
  for (const Prepared* cell : cells) {
    const std::vector<LogMedian>& runs = cell->*side;
    if (runs.size() < 2) continue;
    const double mean = Mean(runs).value;
    const double weight = 1 - 1.0 / static_cast<double>(runs.size());
    for (size_t r = 0; r < runs.size(); ++r) {
      const double away = runs[r].value - mean;
      found.push_back({r, {away, weight * runs[r].Both(), weight}});
      by_run[r].push_back(away);
    }
  }
  std::map<size_t, double> shift;
  for (auto& [run, values] : by_run)
    shifts->push_back(shift[run] = MedianOf(std::move(values)));
  for (auto& [run, residual] : found) {
    residual.value -= shift[run];
    residuals->push_back(residual);
  }
}

size_t MostRuns(const Cells& cells, Side side) {
  size_t most = 0;
  for (const TimedCell* cell : cells)
    most = std::max(most, (cell->*side).size());
  return most;
}

RunNoise NoiseOf(const Cells& cells) {
  RunNoise noise;
  std::vector<Residual> residuals;
  noise.run_freedom = static_cast<int>(MostRuns(cells, &Prepared::a) +
                                       MostRuns(cells, &Prepared::b)) -
                      2;
  if (noise.run_freedom > 0) {
    std::vector<double> shifts;
    AddRunResiduals(cells, &Prepared::a, &residuals, &shifts);
    AddRunResiduals(cells, &Prepared::b, &residuals, &shifts);
    double squares = 0;
    for (const double s : shifts) squares += s * s;
    noise.run = std::sqrt(squares / noise.run_freedom);
  } else {
    residuals = NeighbourResiduals(cells);
  }
  noise.evidence = static_cast<int>(residuals.size());
  noise.cell = std::sqrt(SolveNoise(residuals));
  return noise;
}

// Pass by pass where there is enough to tell, else of all together.
std::map<std::string, RunNoise> NoiseByPass(
    const std::map<std::string, Cells>& passes) {
  Cells all;
  for (const auto& [pass, cells] : passes)
    all.insert(all.end(), cells.begin(), cells.end());
  std::map<std::string, RunNoise> noise;
  for (const auto& [pass, cells] : passes) {
    RunNoise& n = noise[pass] = NoiseOf(cells);
    if (n.evidence < kLeastEvidence) n = NoiseOf(all);
    n.assumed = n.evidence < kLeastEvidence;
    if (n.assumed) n.cell = std::max(n.cell, kAssumedNoise);
  }
  return noise;
}

Variance CellNoise(const RunNoise& noise, double share) {
  // A median of sizes knows as much as the root of .37 times as many squares.
  return {noise.cell * noise.cell * share,
          std::clamp(0.37 * noise.evidence, 2.0, kTailFreedom)};
}

Variance RunShift(const RunNoise& noise, double share) {
  return {noise.run * noise.run * share,
          static_cast<double>(std::max(noise.run_freedom, 1))};
}

// The interval holds the change as it is and without the drift, and both must
// differ from nothing to be a difference.
TimeRatio RatioOf(double change, double drift, const Variance& less,
                  const Variance& more, int count) {
  const double near = std::min(change, change - drift);
  const double far = std::max(change, change - drift);
  const auto arm = [](const Variance& v) {
    return record::StudentQuantile(0.95, v.freedom) * std::sqrt(v.value);
  };
  TimeRatio r;
  r.ratio = {std::exp(change), std::exp(near - arm(less)),
             std::exp(far + arm(more)), count};
  r.p = 1;
  const auto tail = [](double size, const Variance& v) {
    return v.value > 0
               ? record::StudentTail(size / std::sqrt(v.value), v.freedom)
           : size == 0 ? 1.0
                       : 0.0;
  };
  if (near > 0) r.p = tail(near, less);
  if (far < 0) r.p = tail(-far, more);
  return r;
}

// The geometric mean over cells. Cells of a batch may have been disturbed
// together, so that what moves them counts as one.
TimeRatio MeanOf(const Cells& cells,
                 const std::map<std::string, RunNoise>& noise) {
  const auto n = static_cast<double>(cells.size());
  double change = 0, drift = 0;
  std::vector<Variance> less, more, run;
  std::map<std::string, std::vector<Variance>> batches;
  for (const Prepared* p : cells) {
    change += p->change / n;
    drift += p->cell->drift / n;
    less.push_back(Scaled(p->less, 1 / (n * n)));
    more.push_back(Scaled(p->more, 1 / (n * n)));
    const RunNoise& of_pass = noise.at(p->cell->pass);
    batches[p->cell->batch].push_back(CellNoise(of_pass, p->share));
    run.push_back(RunShift(of_pass, p->share));
  }
  // Of terms that move together roots add, not squares.
  const auto together = [n](const std::vector<Variance>& terms) {
    Variance sum;
    for (const Variance& v : terms) sum.value += std::sqrt(v.value) / n;
    return Variance{sum.value * sum.value, terms.front().freedom};
  };
  for (const auto& [batch, terms] : batches) {
    less.push_back(together(terms));
    more.push_back(less.back());
  }
  less.push_back(together(run));
  more.push_back(less.back());
  return RatioOf(change, drift, Sum(less), Sum(more),
                 static_cast<int>(cells.size()));
}

void Adjust(const std::vector<TimeRatio*>& ratios) {
  std::vector<double> p;
  for (const TimeRatio* r : ratios) p.push_back(r->p);
  const std::vector<double> adjusted = record::Holm(p);
  for (size_t i = 0; i < ratios.size(); ++i) ratios[i]->p = adjusted[i];
}

}  // namespace

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
  shifts.noise = NoiseByPass(passes);
  for (size_t i = 0; i < prepared.size(); ++i) {
    const Prepared& p = prepared[i];
    const RunNoise& noise = shifts.noise.at(p.cell->pass);
    const Variance own = CellNoise(noise, p.share);
    const Variance run = RunShift(noise, p.share);
    *ratios[i] =
        RatioOf(p.change, p.cell->drift, Sum(std::vector{p.less, own, run}),
                Sum(std::vector{p.more, own, run}), 1);
  }
  Adjust(ratios);
  ratios = {&shifts.all};
  for (const auto& [pass, members] : passes) {
    shifts.means[pass] = MeanOf(members, shifts.noise);
    ratios.push_back(&shifts.means[pass]);
  }
  shifts.all = MeanOf(all, shifts.noise);
  Adjust(ratios);
  return shifts;
}

}  // namespace saccade::reports
