// Samples in rounds: a machine that changes its pace changes no comparison.
#include "bench/rounds.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "bench/drift.h"

namespace saccade::bench {
namespace {

constexpr double kNever = -1;        // no interval is so tight
constexpr double kPeakFlops = 1e11;  // of the undisturbed machine
constexpr double kStreamBytes = 1e10;

// A cell whose every run takes `seconds` on the undisturbed machine.
struct FakeCell {
  double seconds = 0.001;
  int64_t runs = 1;  // a sample
  int most = 20;     // samples
};

// A machine whose time passes only where work is done, and whose pace is
// `slow(share of the run that has passed)`: 1 undisturbed, 1.2 a fifth slower.
class FakeMachine {
 public:
  FakeMachine(std::function<double(double)> slow, double length, double scatter)
      : slow_(std::move(slow)), length_(length), scatter_(scatter) {}

  Course Run(const std::vector<FakeCell>& cells, double tight = kNever) {
    std::vector<Lane> lanes;
    for (const FakeCell& cell : cells)
      lanes.push_back({[this, cell]() -> Result<double> {
                         const double begin = now_;
                         for (int64_t i = 0; i < cell.runs; ++i)
                           Work(cell.seconds);
                         return (now_ - begin) / static_cast<double>(cell.runs);
                       },
                       cell.most});
    RoundRules rules;
    rules.tight = tight;
    rules.clock = [this] { return now_; };
    rules.peak = [this] {
      const double begin = now_;
      Work(0.002);
      const double pace = (now_ - begin) / 0.002;
      return PeakMoment{0, kPeakFlops / pace, kStreamBytes / pace};
    };
    return RunRounds(&lanes, rules);
  }

  double now() const { return now_; }

 private:
  void Work(double seconds) {
    const double noise = std::exp(scatter_ * normal_(rng_));
    now_ += seconds * slow_(std::min(1.0, now_ / length_)) * noise;
  }

  std::function<double(double)> slow_;
  double length_;  // seconds of the whole run
  double scatter_;
  double now_ = 0;
  std::mt19937 rng_{7};
  std::normal_distribution<double> normal_;
};

// As many variants as a comparison has, some slow ones with few samples.
std::vector<FakeCell> MixedCells() {
  std::vector<FakeCell> cells;
  for (int i = 0; i < 7; ++i)
    cells.push_back({1e-4 * (1 + i), 50 / (1 + i), 24});
  cells.push_back({0.02, 1, 12});
  cells.push_back({0.05, 1, 7});
  cells.push_back({0.3, 1, 6});
  return cells;
}

double LengthOf(const std::vector<FakeCell>& cells) {
  FakeMachine steady([](double) { return 1; }, 1, 0);
  steady.Run(cells);
  return steady.now();
}

// Drifts of a fifth, both ways, that come evenly, at once, and midway.
std::map<std::string, std::function<double(double)>> Drifts() {
  std::map<std::string, std::function<double(double)>> drifts;
  for (const double much : {0.2, -0.2}) {
    const std::string by = much > 0 ? "slower" : "faster";
    drifts["evenly " + by] = [much](double x) { return 1 + much * x; };
    drifts["from midway evenly " + by] = [much](double x) {
      return 1 + much * std::max(0.0, 2 * x - 1);
    };
    for (const double when : {0.1, 0.3, 0.43, 0.5, 0.57, 0.9})
      drifts[fmt::format("at {} at once {}", when, by)] = [=](double x) {
        return x < when ? 1 : 1 + much;
      };
    drifts["there and back " + by] = [much](double x) {
      return x > 0.25 && x < 0.7 ? 1 + much : 1;
    };
  }
  return drifts;
}

// The greatest of |a / b - 1|.
double Off(double a, double b) { return std::abs(a / b - 1); }

void CheckComparisons(const std::vector<FakeCell>& cells, const Course& course,
                      double most) {
  std::vector<LaneSummary> sums;
  for (size_t i = 0; i < cells.size(); ++i)
    sums.push_back(Summarise(course, i));
  double worst = 0, worst_share = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    CHECK(sums[i].low <= sums[i].median);
    CHECK(sums[i].median <= sums[i].high);
    worst_share = std::max(
        {worst_share, Off(sums[i].flops, cells[i].seconds * kPeakFlops),
         Off(sums[i].bytes, cells[i].seconds * kStreamBytes)});
    for (size_t j = 0; j < i; ++j)
      worst = std::max(worst, Off(sums[i].median / sums[j].median,
                                  cells[i].seconds / cells[j].seconds));
  }
  CHECK(worst <= most);
  CHECK(worst_share <= most);
}

TEST_CASE("a drift of 20 % changes no ratio and no share of peak by 2 %") {
  for (const std::vector<FakeCell>& cells :
       {MixedCells(), std::vector<FakeCell>{{0.001, 5, 15}, {0.004, 2, 6}},
        std::vector<FakeCell>{{0.3, 1, 6}, {0.5, 1, 6}, {0.001, 5, 7}}}) {
    const double length = LengthOf(cells);
    for (const auto& [name, slow] : Drifts()) {
      CAPTURE(cells.size());
      CAPTURE(name);
      CheckComparisons(cells, FakeMachine(slow, length, 0).Run(cells), 0.02);
      // The same where cells are settled early.
      CheckComparisons(cells, FakeMachine(slow, length, 0).Run(cells, 0.01),
                       0.02);
    }
  }
}

TEST_CASE("drift is told from scatter") {
  const std::vector<FakeCell> cells = MixedCells();
  const double length = LengthOf(cells);
  for (const auto& [name, slow] : Drifts()) {
    CAPTURE(name);
    const Course course = FakeMachine(slow, length, 0.005).Run(cells);
    CHECK(!course.pace.empty());
    CheckComparisons(cells, course, 0.02);
  }
  FakeMachine steady([](double) { return 1; }, length, 0.002);
  CHECK(steady.Run(cells).pace.empty());
}

TEST_CASE("without drift a time is the plain median of its samples") {
  const std::vector<FakeCell> cells = {{0.001, 5, 9}, {0.002, 5, 9}};
  FakeMachine machine([](double) { return 1; }, 1, 0.001);
  const Course course = machine.Run(cells);
  const LaneSummary sum = Summarise(course, 1);
  std::vector<double> ns = sum.ns;
  REQUIRE(ns.size() == 9);
  std::sort(ns.begin(), ns.end());
  CHECK(sum.median == ns[4]);
  CHECK(sum.low == ns[1]);
  CHECK(sum.high == ns[7]);
  CHECK(sum.pace.empty());
}

TEST_CASE("cells with fewer samples spread them over all rounds") {
  FakeMachine machine([](double) { return 1; }, 1, 0);
  const Course course = machine.Run({{0.001, 1, 30}, {0.1, 1, 6}, {0.1, 1, 7}});
  REQUIRE(course.rounds == 30);
  CHECK(course.peaks.size() == 31);
  CHECK(course.samples[0].size() == 30);
  for (const size_t lane : {1, 2}) {
    const std::vector<LaneSample>& few = course.samples[lane];
    REQUIRE(few.size() == 5 + lane);
    double mean = 0;
    for (size_t i = 0; i < few.size(); ++i) {
      mean += few[i].round / static_cast<double>(few.size());
      // Each lies in its part of the rounds.
      const double part = 30.0 / static_cast<double>(few.size());
      CHECK(few[i].round >= std::floor(part * static_cast<double>(i)));
      CHECK(few[i].round < std::ceil(part * static_cast<double>(i + 1)));
    }
    CHECK(std::abs(mean - 14.5) <= 0.5);
  }
}

TEST_CASE("samples are taken until the interval is tight, or time is up") {
  const auto samples = [](double scatter, double tight) {
    FakeMachine machine([](double) { return 1; }, 1, scatter);
    return machine.Run({{0.001, 1, 200}, {0.002, 1, 200}}, tight).samples;
  };
  CHECK(samples(0, 0.01)[0].size() == 6);
  CHECK(samples(0.05, 0.0001)[0].size() == 200);
  const size_t some = samples(0.05, 0.02)[0].size();
  CHECK(some > 6);
  CHECK(some < 200);
  CHECK(samples(0.05, 0.01)[0].size() > some);

  // One that is tight does not end the others, and goes on sparsely, so that
  // it lives through what they do.
  std::vector<Lane> lanes(4, {[] { return Result<double>(1.0); }, 60});
  lanes[2].sample = [i = 0]() mutable {
    return Result<double>(1.0 + 0.3 * (i++ % 5));
  };
  const Course course = RunRounds(&lanes, {});
  CHECK(course.samples[2].size() == 60);
  CHECK(course.samples[0].size() >= 10);
  CHECK(course.samples[0].size() <= 12);
  CHECK(course.samples[0].back().round >= 50);
}

TEST_CASE("a lane that fails gives no more samples, and stops no other") {
  int asked = 0;
  std::vector<Lane> lanes = {
      {[&]() -> Result<double> {
         if (++asked < 3) return 1.0;
         return Invalid("it broke");
       },
       8},
      {[] { return Result<double>(2.0); }, 8},
      {[] { return Result<double>(Invalid("never asked")); }, 0}};
  RoundRules rules;
  rules.tight = kNever;
  const Course course = RunRounds(&lanes, rules);
  CHECK(asked == 3);
  CHECK(course.statuses[0].message() == "it broke");
  CHECK(course.samples[0].size() == 2);
  CHECK(course.samples[1].size() == 8);
  CHECK(course.statuses[2].ok());
  CHECK(Summarise(course, 2).ns.empty());
}

TEST_CASE("a stop is heeded between samples") {
  int taken = 0;
  std::vector<Lane> lanes(3, Lane{[&] {
                                    ++taken;
                                    return Result<double>(1.0);
                                  },
                                  50});
  RoundRules rules;
  rules.stopped = [&] { return taken >= 4; };
  RunRounds(&lanes, rules);
  CHECK(taken == 4);
}

TEST_CASE("the pace of rounds is what rows have in common") {
  const std::vector<double> pace = {1, 1, 1.1, 1.1, 1.1, 1, 1};
  std::vector<std::vector<RoundTime>> rows;
  for (const double level : {1e-6, 3e-3, 7.0}) {
    rows.emplace_back();
    for (int r = 0; r < 7; ++r)
      rows.back().push_back({r, level * pace[static_cast<size_t>(r)]});
  }
  // One row's own trouble, and a gap in another.
  rows[0][1].seconds *= 5;
  rows[2].erase(rows[2].begin() + 3);
  const std::vector<double> found = PaceOfRounds(rows, 7);
  REQUIRE(found.size() == 7);
  for (size_t r = 0; r < 7; ++r)
    CHECK(found[r] == doctest::Approx(pace[r]).epsilon(1e-9));
  CHECK(PaceOfRounds(rows, 2).empty());
}

}  // namespace
}  // namespace saccade::bench
