// How times of two sides differ: error rates over synthetic runs whose noise is
// like that of real ones, with known truth.
#include "reports/shift.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace saccade::reports {
namespace {

constexpr int kVariants = 10, kLengths = 10, kPasses = 2;
constexpr int kCells = kVariants * kLengths * kPasses;

struct Place {
  int variant, length, pass;
};

Place PlaceOf(int cell) {
  return {cell % kVariants, cell / kVariants % kLengths,
          cell / (kVariants * kLengths)};
}

// The true time of a cell over what it is without a change.
using Truth = std::function<double(const Place&)>;

double Unchanged(const Place&) { return 1; }

// A run: medians, and the time that the machine needs for what never changes.
struct SyntheticRun {
  std::vector<RunTime> cells;
};

struct Noise {
  double run = 0.01;     // of the machine's clock from run to run
  double drift = 0.01;   // of it through a run, either way
  double cell = 0.006;   // of a cell from run to run, with heavy tails
  double batch = 0.004;  // of all cells that are timed in the same rounds
};

SyntheticRun Measure(const Noise& noise, const Truth& truth,
                     std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::student_t_distribution<double> heavy(4);
  std::exponential_distribution<double> tail(1 / 0.08);
  std::uniform_real_distribution<double> uniform;
  SyntheticRun run;
  const double clock = noise.run * normal(random);
  const double slope = noise.drift * (2 * uniform(random) - 1);
  double batch = 0;
  for (int i = 0; i < kCells; ++i) {
    const Place place = PlaceOf(i);
    if (place.variant == 0) batch = noise.batch * normal(random);
    const double now = clock + slope * i / kCells;
    const double level =
        now + batch + noise.cell / std::sqrt(2.0) * heavy(random);
    std::vector<double> samples(6 + random() % 10);
    for (size_t s = 0; s < samples.size(); ++s) {
      double log = level + 0.006 * normal(random);
      if (uniform(random) < 0.15) log += tail(random);
      samples[s] =
          1e5 * std::pow(4, place.length) * truth(place) * std::exp(log);
    }
    run.cells.push_back(TimeOf(samples));
    run.cells.back().clock = now + 0.002 * normal(random);
  }
  return run;
}

Shifts Compare(const std::vector<SyntheticRun>& a,
               const std::vector<SyntheticRun>& b) {
  std::vector<TimedCell> cells(kCells);
  for (int i = 0; i < kCells; ++i) {
    const Place place = PlaceOf(i);
    TimedCell& cell = cells[static_cast<size_t>(i)];
    for (const SyntheticRun& run : a) cell.a.push_back(run.cells[i]);
    for (const SyntheticRun& run : b) cell.b.push_back(run.cells[i]);
    cell.pass = std::to_string(place.pass);
    cell.series = std::to_string(place.variant) + " " + cell.pass;
    cell.length = 128 << place.length;
    cell.batch = std::to_string(place.length) + " " + cell.pass;
  }
  return ComputeShifts(cells);
}

constexpr Noise kCalm = {0.001, 0.002, 0.002, 0.001};
constexpr Noise kUsual = {};
constexpr Noise kBusy = {0.03, 0.03, 0.006, 0.01};

// Over all trials: cells called changed that are not or not that way, and
// changed cells that were found among those whose interval allows it: its half
// is below 2 %.
struct Rates {
  int equal = 0, changed = 0, wrong = 0, allowed = 0, found = 0;
  int tables = 0, bad_tables = 0;  // with more than 5 % wrong
  int means_outside = 0;           // true ones, of intervals of means
};

Rates Try(const Noise& noise, const Truth& truth, int runs, int tables) {
  std::mt19937_64 random(7);
  Rates rates;
  rates.tables = tables;
  for (int t = 0; t < tables; ++t) {
    std::vector<SyntheticRun> a, b;
    for (int r = 0; r < runs; ++r) {
      a.push_back(Measure(noise, Unchanged, random));
      b.push_back(Measure(noise, truth, random));
    }
    const Shifts shifts = Compare(a, b);
    double mean = 0;
    int wrong = 0;
    for (int i = 0; i < kCells; ++i) {
      const TimeRatio& r = shifts.cells[static_cast<size_t>(i)];
      const double is = truth(PlaceOf(i));
      mean += std::log(is) / kCells;
      const bool called = r.p < 0.05;
      const bool right = called && (r.ratio.value > 1) == (is > 1);
      if (is == 1) {
        ++rates.equal;
        wrong += called;
        continue;
      }
      ++rates.changed;
      wrong += called && !right;
      if (r.ratio.high - r.ratio.low >= 2 * 0.02 * r.ratio.value) continue;
      ++rates.allowed;
      rates.found += right;
    }
    rates.wrong += wrong;
    rates.bad_tables += wrong > kCells / 20;
    const Estimate& all = shifts.all.ratio;
    rates.means_outside +=
        std::exp(mean) < all.low || std::exp(mean) > all.high;
  }
  return rates;
}

TEST_CASE("equal programs are called equal") {
  for (const Noise& noise : {kCalm, kUsual, kBusy}) {
    for (const int runs : {1, 3}) {
      CAPTURE(noise.run);
      CAPTURE(runs);
      const Rates r = Try(noise, Unchanged, runs, 20);
      CHECK(r.equal == 20 * kCells);
      CHECK(r.wrong <= r.equal / 20);
      CHECK(r.bad_tables <= 1);
      CHECK(r.means_outside <= 3);  // one in twenty is meant; .02 for more
    }
  }
}

TEST_CASE("a slowdown by 5 % is found where intervals allow it") {
  const struct {
    const char* what;
    Truth truth;
  } slowdowns[] = {
      {"all cells", [](const Place&) { return 1.05; }},
      {"a variant", [](const Place& p) { return p.variant == 3 ? 1.05 : 1; }},
      {"great lengths", [](const Place& p) { return p.length > 5 ? 1.05 : 1; }},
      {"a pass", [](const Place& p) { return p.pass == 1 ? 1.05 : 1; }},
      {"cells here and there",
       [](const Place& p) {
         const int i = p.length * 7 + p.variant * 3 + p.pass;
         return i % 10 == 0 ? 1.05 : 1;
       }},
  };
  for (const auto& slowdown : slowdowns) {
    for (const int runs : {1, 3}) {
      CAPTURE(slowdown.what);
      CAPTURE(runs);
      const Rates r = Try(kCalm, slowdown.truth, runs, 10);
      CHECK(r.allowed >= r.changed / 3);
      CHECK(r.found >= 0.9 * r.allowed);
      CHECK(r.wrong <= (r.equal + r.changed) / 20);
      CHECK(r.means_outside <= 3);
    }
  }
}

TEST_CASE("runs of a busy machine need company to tell") {
  const Truth slower = [](const Place&) { return 1.05; };
  const Rates one = Try(kUsual, slower, 1, 20),
              more = Try(kUsual, slower, 4, 20);
  CHECK(more.allowed > 4 * one.allowed);
  CHECK(one.found >= 0.9 * one.allowed);
  CHECK(more.found >= 0.9 * more.allowed);
}

TEST_CASE("what moves all cells alike is no noise between cells") {
  std::mt19937_64 random(7), again(7);
  const auto noise_of = [](std::mt19937_64& from, const Truth& truth) {
    const SyntheticRun a = Measure(kCalm, Unchanged, from);
    return Compare({a}, {Measure(kCalm, truth, from)}).noise.at("0");
  };
  const RunNoise with = noise_of(random, [](const Place&) { return 1.5; });
  const RunNoise without = noise_of(again, Unchanged);
  CHECK(with.cell == doctest::Approx(without.cell).epsilon(1e-6));
  CHECK_FALSE(with.assumed);
}

TEST_CASE("a slower machine is not a slower program, nor hides one") {
  std::mt19937_64 random(7);
  const auto measure = [&](double clock, double program) {
    SyntheticRun run = Measure(
        kCalm, [&](const Place&) { return clock * program; }, random);
    for (RunTime& time : run.cells) time.clock += std::log(clock);
    return run;
  };
  const SyntheticRun a = measure(1, 1);
  const auto called = [&](const SyntheticRun& b) {
    int slower = 0;
    for (const TimeRatio& r : Compare({a}, {b}).cells)
      slower += r.p < 0.05 && r.ratio.value > 1;
    return slower;
  };
  CHECK(called(measure(1.05, 1)) <= kCells / 20);
  CHECK(called(measure(1.05, 1.1)) > kCells * 3 / 4);
  // The peak alone tells: without it the same run would be called slower.
  SyntheticRun unknown = measure(1.05, 1);
  for (RunTime& time : unknown.cells) time.clock = std::nan("");
  CHECK(called(unknown) > kCells / 2);
}

TEST_CASE("too few cells say nothing of the noise, and it is assumed") {
  TimedCell cell;
  cell.pass = "forward";
  cell.a = {TimeOf({100, 100, 100, 100, 100, 100})};
  cell.b = {TimeOf({101, 101, 101, 101, 101, 101})};
  const Shifts shifts = ComputeShifts({cell});
  CHECK(shifts.noise.at("forward").assumed);
  CHECK(shifts.cells[0].ratio.value == doctest::Approx(1.01));
  CHECK(shifts.cells[0].ratio.low < 1);
  CHECK(shifts.cells[0].p > 0.05);
  // Far beyond what is assumed it is a change all the same.
  cell.b = {TimeOf({120, 120, 120, 120, 120, 120})};
  CHECK(ComputeShifts({cell}).cells[0].p < 0.05);
}

TEST_CASE("one sample has no interval, and none no time") {
  TimedCell cell;
  cell.pass = "forward";
  cell.a = {TimeOf({100})};
  cell.b = {TimeOf({50, 51, 52, 50, 51, 52})};
  CHECK(std::isnan(ComputeShifts({cell}).cells[0].p));
  CHECK_FALSE(TimeOf({}).median.known());
  CHECK(TimeOf({-1, 0, 7}).median.value == 7);
  CHECK(ComputeShifts({}).cells.empty());
}

TEST_CASE("the interval of a median holds it as often as it says") {
  // 1 - 2 P(binomial(n, 1/2) <= cut) by hand.
  CHECK(MedianCoverage(1) == 0);
  CHECK(MedianCoverage(2) == doctest::Approx(0.5));
  CHECK(MedianCoverage(5) == doctest::Approx(0.9375));
  CHECK(MedianCoverage(6) == doctest::Approx(0.96875));
  CHECK(MedianCoverage(9) == doctest::Approx(1 - 20.0 / 512));
  for (int n = 6; n < 300; ++n) CHECK(MedianCoverage(n) >= 0.95);
}

}  // namespace
}  // namespace saccade::reports
