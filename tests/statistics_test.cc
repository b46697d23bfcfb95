// Inference over seeds, against published values and by hand.
#include "record/statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "reports/stats.h"

namespace saccade::record {
namespace {

using doctest::Approx;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST_CASE("Student's t is that of the tables") {
  // Fisher & Yates 1963, table III; two-sided.
  const struct {
    double coverage, freedom, t;
  } table[] = {{0.95, 1, 12.706},  {0.95, 2, 4.303},  {0.95, 3, 3.182},
               {0.95, 4, 2.776},   {0.95, 10, 2.228}, {0.95, 30, 2.042},
               {0.95, 120, 1.980}, {0.99, 2, 9.925},  {0.99, 10, 3.169},
               {0.90, 5, 2.015},   {0.999, 3, 12.924}};
  for (const auto& row : table) {
    CAPTURE(row.freedom);
    CHECK(StudentQuantile(row.coverage, row.freedom) ==
          Approx(row.t).epsilon(2.5e-4));
    CHECK(StudentTail(row.t, row.freedom) ==
          Approx(1 - row.coverage).epsilon(1e-3));
  }
  // One degree of freedom is Cauchy's law, two have a closed form too.
  for (const double t : {1e-3, 0.5, 1.0, 7.0, 1e4}) {
    CHECK(StudentTail(t, 1) ==
          Approx(2 / M_PI * std::atan(1 / t)).epsilon(1e-10));
    CHECK(StudentTail(t, 2) ==
          Approx(1 - t / std::sqrt(2 + t * t)).epsilon(1e-7));
    CHECK(StudentTail(-t, 2) == StudentTail(t, 2));
    // Many are the normal law.
    CHECK(StudentTail(t, 1e7) ==
          Approx(std::erfc(t / std::sqrt(2))).epsilon(1e-5));
  }
  CHECK(StudentTail(0, 3) == 1);
  CHECK(StudentTail(std::numeric_limits<double>::infinity(), 3) == 0);
}

TEST_CASE("the mean of paired differences: the sleep data of Student 1908") {
  // Extra hours under the second drug minus the first, ten patients; in all
  // textbooks t = 4.0621, p = .002833, [.7001, 2.4599].
  const std::vector<double> extra = {1.2, 2.4, 1.3, 1.3, 0.0,
                                     1.0, 1.8, 0.8, 4.6, 1.4};
  const MeanTest test = TestMean(extra);
  CHECK(test.mean == Approx(1.58));
  CHECK(test.low == Approx(0.7001142).epsilon(1e-6));
  CHECK(test.high == Approx(2.4598858).epsilon(1e-6));
  CHECK(test.p == Approx(0.00283289).epsilon(1e-5));
  CHECK(test.count == 10);
}

TEST_CASE("means of too little say what they do not know") {
  const MeanTest none = TestMean({});
  CHECK((std::isnan(none.mean) && std::isnan(none.p)));
  const MeanTest one = TestMean(std::vector<double>{3});
  CHECK((one.mean == 3 && std::isnan(one.low) && std::isnan(one.p)));
  const MeanTest same = TestMean(std::vector<double>{2, 2, 2});
  CHECK((same.low == 2 && same.high == 2 && same.p == 0));
  CHECK(TestMean(std::vector<double>{0, 0}).p == 1);
}

TEST_CASE("Holm's adjustment, by hand") {
  // Smallest times 4, next times 3 ...; never less than one before it.
  const std::vector<double> p = {0.01, 0.04, 0.03, 0.005};
  const std::vector<double> adjusted = Holm(p);
  const std::vector<double> expected = {0.03, 0.06, 0.06, 0.02};
  for (size_t i = 0; i < p.size(); ++i) {
    CHECK(adjusted[i] == Approx(expected[i]));
  }
  const std::vector<double> gaps = Holm(std::vector<double>{kNaN, 0.03, 0.9});
  CHECK(std::isnan(gaps[0]));
  CHECK((gaps[1] == Approx(0.06) && gaps[2] == Approx(0.9)));
  CHECK(Holm(std::vector<double>{0.7, 0.6}) == std::vector<double>{1, 1});
  CHECK(Holm({}).empty());
}

reports::BySeed Seeds(const std::vector<double>& bits) {
  reports::BySeed seeds;
  for (size_t i = 0; i < bits.size(); ++i) {
    seeds[static_cast<int64_t>(i)] = {bits[i], bits[i] - 0.05, bits[i] + 0.05,
                                      1};
  }
  return seeds;
}

TEST_CASE("a difference counts when seeds agree on it and it is large enough") {
  // Seeds differ far more than variants do; paired, that cancels out.
  const auto base = Seeds({2.40, 2.50, 2.60});
  const auto worse = Seeds({2.441, 2.540, 2.639});
  const auto small = Seeds({2.411, 2.510, 2.609});
  const auto unsure = Seeds({2.40, 2.70, 2.65});
  const auto differences =
      reports::DifferencesFrom(base, {&worse, &small, &unsure});
  REQUIRE(differences.size() == 3);
  CHECK(differences[0].bits.value == Approx(0.04));
  CHECK(differences[0].bits.count == 3);
  CHECK(differences[0].bits.low ==
        Approx(0.04 - 4.30265 * 0.001 / std::sqrt(3)));
  CHECK(differences[0].p < 0.001);
  CHECK_FALSE(differences[0].tie);
  CHECK(differences[1].p < 0.01);
  CHECK(differences[1].tie);  // sure, and too small to matter
  CHECK(differences[2].bits.value > 0.02);
  CHECK(differences[2].tie);
  // The more are compared the more it takes: two seeds at t = 50.
  const auto two = Seeds({2.40, 2.50});
  const auto other = Seeds({2.4490, 2.5510});
  CHECK_FALSE(reports::DifferencesFrom(two, {&other})[0].tie);
  CHECK(reports::DifferencesFrom(two, {&other, &two, &two, &two})[0].tie);
}

TEST_CASE("with one seed the intervals of both readings must leave zero out") {
  const auto base = Seeds({2.40});
  const auto near = Seeds({2.46}), far = Seeds({2.48});
  const auto differences = reports::DifferencesFrom(base, {&near, &far});
  CHECK(differences[0].bits.high - differences[0].bits.value ==
        Approx(0.05 * std::sqrt(2)));
  CHECK(std::isnan(differences[0].p));
  CHECK(differences[0].tie);
  CHECK_FALSE(differences[1].tie);
}

TEST_CASE("false discoveries: the example of Benjamini & Hochberg 1995") {
  // Their table of 15 p values: four are rejected at .05, by Holm three.
  const std::vector<double> p = {.0001, .0004, .0019, .0095, .0201,
                                 .0278, .0298, .0344, .0459, .3240,
                                 .4262, .5719, .6528, .7590, 1.000};
  const std::vector<double> adjusted = BenjaminiHochberg(p), holm = Holm(p);
  int rejected = 0, by_holm = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    rejected += adjusted[i] < 0.05;
    by_holm += holm[i] < 0.05;
    CHECK(adjusted[i] <= holm[i]);
  }
  CHECK(rejected == 4);
  CHECK(by_holm == 3);
  CHECK(adjusted[3] == Approx(.0095 * 15 / 4));
  CHECK(adjusted[14] == 1);
  // In any order, and without those that are not known.
  const std::vector<double> few =
      BenjaminiHochberg(std::vector{.04, kNaN, .01});
  CHECK(few[0] == Approx(.04));
  CHECK(std::isnan(few[1]));
  CHECK(few[2] == Approx(.02));
}

}  // namespace
}  // namespace saccade::record
