// The judgement of a report, on records whose verdict is plain to see, and its
// statistics against values worked out by hand.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report_fixture.h"
#include "reports/stats.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

using doctest::Approx;

// Model and verdict of records; the verdict points into the model.
struct Judged {
  explicit Judged(const std::vector<Fields>& records)
      : model(MakeModel({RunOf(records)})), verdict(MakeVerdict(model)) {}
  Judged(const Judged&) = delete;

  const VerdictRow& Row(const std::string& spec) const {
    for (const VerdictRow& row : verdict.rows) {
      if (model.at(row.entry()).spec == spec) return row;
    }
    FAIL("no row for " << spec);
    return verdict.rows.front();
  }
  // Specs of the rows with a mark, joined by spaces.
  std::string Marked(bool VerdictRow::*mark) const {
    std::string specs;
    for (const VerdictRow& row : verdict.rows) {
      if (!(row.*mark)) continue;
      specs += (specs.empty() ? "" : " ") + model.at(row.entry()).spec;
    }
    return specs;
  }
  bool Finds(const std::string& words) const {
    return std::any_of(
        verdict.findings.begin(), verdict.findings.end(),
        [&](const std::string& finding) { return Mentions(finding, words); });
  }

  Model model;
  Verdict verdict;
};

// Six samples: the interval of the median is from the first to the last.
std::vector<double> Around(double ns, double half) {
  return {ns - half, ns, ns, ns, ns, ns + half};
}

TEST_CASE("The variant with the least time is the fastest, and alone") {
  const Judged judged({Speed("a.slow", 1024, Around(8e6, 1e5)),
                       Speed("a.fast", 1024, Around(2e6, 1e5)),
                       Speed("a.middle", 1024, Around(4e6, 1e5))});
  CHECK(judged.Marked(&VerdictRow::fastest) == "a.fast");
  CHECK(
      judged.Finds("Fastest forward pass at n = 1k: a.fast, 2.00 ms, 4.0× the "
                   "speed of a.slow."));
  CHECK(judged.Row("a.fast").words == "fastest here");
  CHECK(judged.Row("a.fast").speedup == Approx(4));
  CHECK(judged.Row("a.middle").speedup == Approx(2));
  CHECK_FALSE(judged.Row("a.middle").tied_with_baseline);
  CHECK_FALSE(judged.Finds("a tie"));
}

TEST_CASE("Times whose intervals overlap are a tie, and said to be one") {
  const Judged judged({Speed("a.base", 64, Around(9e6, 1e5)),
                       Speed("a.one", 64, Around(2.00e6, 1e5)),
                       Speed("a.two", 64, Around(2.15e6, 1e5)),
                       Speed("a.three", 64, Around(2.5e6, 1e5)),
                       Speed("a.near", 64, Around(8.9e6, 1e5))});
  CHECK(judged.Marked(&VerdictRow::fastest) == "a.one a.two");
  CHECK(
      judged.Finds("a.one, 2.00 ms, 4.5× the speed of a.base; a tie with "
                   "a.two."));
  CHECK(judged.Row("a.one").words == "tied for fastest");
  CHECK(judged.Row("a.two").words == "tied for fastest");
  CHECK(judged.Row("a.three").words == "");
  CHECK(judged.Row("a.near").tied_with_baseline);
  CHECK(VerdictTableOf(judged.model, judged.verdict).rows[4][3].small ==
        "a tie");
}

TEST_CASE("What fails its check has no time and is never the best") {
  const Judged judged(
      {Speed("a.right", 64, {2e6}), Speed("a.wrong", 64, {1e6}),
       Speed("a.half", 64, {1.5e6}), Memory("a.right", "forward", 64, 500, 0),
       Memory("a.wrong", "forward", 64, 5, 0), Verify("a.right", "forward", 0),
       Verify("a.wrong", "forward", 1), Verify("a.half", "forward", 0),
       Verify("a.half", "backward", 2)});
  CHECK(judged.Marked(&VerdictRow::fastest) == "a.right");
  CHECK(judged.Marked(&VerdictRow::least_scratch) == "a.right");
  CHECK_FALSE(judged.Row("a.wrong").time->outcome.ok());
  CHECK(std::isnan(judged.Row("a.wrong").speedup));
  // A pass that is right keeps its time when another pass is wrong.
  CHECK(judged.Row("a.half").time->outcome.ok());
  CHECK(judged.Row("a.half").failed == "backward");
  CHECK(judged.Finds("Not correct here: a.wrong and a.half."));
}

TEST_CASE("A tie that noise makes is told with the noise") {
  const Judged judged({Speed("a.one", 64, {1e6, 1e6, 1e6, 1e6, 1e6, 9e6}),
                       Speed("a.two", 64, Around(8e6, 1e5))});
  CHECK(judged.Finds(
      "its samples leave the median between 1.00 ms and 9.00 ms; a tie with "
      "a.two."));
}

TEST_CASE("A time of nothing is a failure, not the fastest") {
  const Judged judged({Speed("a.zero", 64, {0}), Speed("a.real", 64, {1e6})});
  CHECK(judged.Marked(&VerdictRow::fastest) == "a.real");
  CHECK_FALSE(judged.Row("a.zero").time->outcome.ok());
}

TEST_CASE("What learned through a wrong pass has no quality") {
  const Judged judged(
      {Verify("a.wrong", "backward", 1), Text("a.wrong", "plain", 128, 1.0),
       Text("a.right", "plain", 128, 2.0), Verify("a.right", "forward", 0)});
  CHECK(judged.Marked(&VerdictRow::best_text) == "a.right");
  CHECK_FALSE(judged.Row("a.wrong").near.known());
}

TEST_CASE("The least memory is named, and equal figures tie") {
  const Judged judged({Speed("a.one", 64, {1e6}), Speed("a.two", 64, {1e6}),
                       Speed("a.three", 64, {1e6}),
                       Memory("a.one", "forward", 64, 4096, 0),
                       Memory("a.two", "forward", 64, 1024, 0),
                       Memory("a.three", "forward", 64, 1024, 0),
                       Memory("a.one", "decode", 64, 0, 100),
                       Memory("a.two", "decode", 64, 0, 900),
                       Memory("a.three", "decode", 64, 0, 901)});
  CHECK(judged.Marked(&VerdictRow::least_scratch) == "a.two a.three");
  CHECK(judged.Marked(&VerdictRow::least_state) == "a.one");
  CHECK(
      judged.Finds("Least scratch memory in a forward pass at n = 64: a.two, "
                   "1.00 KiB; a tie with a.three."));
  CHECK(judged.Finds("Least state in decoding after 64 tokens: a.one, 100 B."));
}

TEST_CASE("Memory is told at the nearest length that was measured") {
  const Judged judged({Speed("a.one", 512, {1e6}),
                       Memory("a.one", "forward", 256, 7, 0),
                       Memory("a.one", "forward", 1024, 9, 0)});
  CHECK(judged.verdict.weighed == 256);
  CHECK(judged.Row("a.one").weight->scratch == 7);
  const Table table = VerdictTableOf(judged.model, judged.verdict);
  CHECK(table.columns[6].text == "scratch, n = 256");
}

TEST_CASE("Memory that grows with length is told from memory that does not") {
  const int64_t mib = 1 << 20;
  const Judged judged({Speed("a.square", 64, {1e6}), Speed("a.flat", 64, {1e6}),
                       Memory("a.square", "forward", 64, mib, 0),
                       Memory("a.square", "forward", 128, 4 * mib, 0),
                       Memory("a.flat", "forward", 64, mib, 0),
                       Memory("a.flat", "forward", 128, mib, 0)});
  CHECK(
      judged.Finds("grows with length for a.square, and not for the other "
                   "1."));
}

// A variant that reads text at 1 and 16 times its training length.
std::vector<Fields> Reads(const std::string& variant, double near, double far) {
  return {Text(variant, "plain", 128, near), Text(variant, "plain", 2048, far)};
}

std::vector<Fields> Join(std::initializer_list<std::vector<Fields>> lists) {
  std::vector<Fields> all;
  for (const auto& list : lists)
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

TEST_CASE("The best at the far length wins on text, not the best at hand") {
  const Judged judged(
      Join({Reads("a.level", 2.60, 2.58), Reads("a.breaks", 2.40, 4.90),
            Reads("a.fades", 2.50, 2.80)}));
  CHECK(judged.Marked(&VerdictRow::best_text) == "a.level");
  CHECK(
      judged.Finds("Best on text at 16 times the training length: a.level, "
                   "2.58 bits a byte. Worse there by half a bit or more "
                   "without a test window: a.breaks."));
  CHECK(judged.Row("a.level").words == "stays level to 16×");
  CHECK(judged.Row("a.fades").words == "loses 0.30 bit by 16×");
  CHECK(judged.Row("a.breaks").words == "breaks down at 16× (+2.50 bit)");
}

TEST_CASE("A window at test time counts, and is named where it wins") {
  const Judged judged(Join({Reads("a.level", 2.60, 2.58),
                            Reads("a.breaks", 2.40, 4.90),
                            {Text("a.breaks", "window", 2048, 2.41)}}));
  CHECK(judged.Marked(&VerdictRow::best_text) == "a.breaks");
  CHECK(judged.Finds("a.breaks under a test window, 2.41 bits a byte."));
  CHECK(judged.Row("a.breaks").words ==
        "breaks down at 16× (+2.50 bit), level under a test window");
}

TEST_CASE("Readings within two hundredths of a bit are a tie") {
  const Judged judged(
      Join({Reads("a.one", 2.5, 2.500), Reads("a.two", 2.5, 2.519),
            Reads("a.three", 2.5, 2.521)}));
  CHECK(judged.Marked(&VerdictRow::best_text) == "a.one a.two");
  CHECK(judged.Finds("a.one, 2.50 bits a byte; a tie with a.two."));
}

TEST_CASE("Seeds that scatter make a tie of readings further apart") {
  // By seed a.two is .08 and .20 behind, a.three .1 both times.
  const Judged judged({Text("a.one", "plain", 128, 2.45, 1),
                       Text("a.one", "plain", 128, 2.55, 2),
                       Text("a.two", "plain", 128, 2.53, 1),
                       Text("a.two", "plain", 128, 2.75, 2),
                       Text("a.three", "plain", 128, 2.55, 1),
                       Text("a.three", "plain", 128, 2.65, 2)});
  CHECK(judged.Marked(&VerdictRow::best_text) == "a.one a.two");
  CHECK(judged.Row("a.one").far.count == 2);
  const Difference& behind = judged.Row("a.two").behind;
  CHECK(behind.bits.value == Approx(0.14));
  CHECK(behind.bits.low == Approx(0.14 - 12.706 * 0.06).epsilon(1e-4));
  // t = 7/3 with one degree of freedom, for the second of two comparisons.
  CHECK(behind.p == Approx(0.2578).epsilon(1e-3));
}

TEST_CASE("Time's growth is fitted for each variant and told in words") {
  std::vector<Fields> records;
  for (const int64_t n : {128, 256, 512, 1024, 2048}) {
    const auto x = static_cast<double>(n);
    records.push_back(Speed("a.linear", n, {50 * x}));
    records.push_back(Speed("a.square", n, {2 * x * x}));
  }
  const Judged judged(records);
  CHECK(judged.Row("a.linear").growth.exponent == Approx(1));
  CHECK(judged.Row("a.square").growth.exponent == Approx(2));
  CHECK(judged.verdict.length == 2048);
  CHECK(
      judged.Finds("about linearly for a.linear (1.00); about quadratically "
                   "for a.square (2.00)."));
}

TEST_CASE("Lengths compare where the baseline still has a time") {
  const Judged judged({Speed("a.base", 64, {1e6}), Speed("a.base", 128, {4e6}),
                       Failed(Speed("a.base", 256, {1}), "skipped", "too long"),
                       Speed("a.other", 64, {1e6}),
                       Speed("a.other", 128, {2e6}),
                       Speed("a.other", 256, {3e6})});
  CHECK(judged.verdict.length == 128);
  CHECK(judged.Row("a.other").speedup == Approx(2));
}

TEST_CASE("Every figure of the verdict says how it was made") {
  const Judged judged(Join(
      {Reads("a.one", 2.5, 2.5),
       {Text("a.one", "window", 2048, 2.5), Speed("a.one", 64, {1e6}),
        Memory("a.one", "forward", 64, 1, 1), Verify("a.one", "forward", 0)}}));
  const Table table = VerdictTableOf(judged.model, judged.verdict);
  CHECK(table.columns.size() == 12);
  for (const Column& column : table.columns) {
    if (column.number) CHECK_MESSAGE(!column.how.empty(), column.text);
  }
  for (const auto& row : table.rows) CHECK(row.size() == table.columns.size());
}

TEST_CASE("Medians and their intervals are those of order statistics") {
  const Estimate odd = Median({5, 1, 3});
  CHECK(odd.value == 3);
  CHECK(odd.low == 1);
  CHECK(odd.high == 5);
  CHECK(odd.count == 3);
  CHECK(Median({4, 1, 3, 2}).value == 2.5);
  CHECK(Median({7}).low == 7);
  // P(fewer than 1 of 6 below) = 1/64: first to last, 97 %.
  const Estimate six = Median({1, 2, 3, 4, 5, 6});
  CHECK(six.low == 1);
  CHECK(six.high == 6);
  // (1 + 10) / 1024 < 0.025 < (1 + 10 + 45) / 1024: second to ninth.
  const Estimate ten = Median({10, 9, 8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(ten.value == 5.5);
  CHECK(ten.low == 2);
  CHECK(ten.high == 9);
  // Of 20 the table in Conover 1999 has the 6th to the 15th.
  std::vector<double> twenty(20);
  for (size_t i = 0; i < 20; ++i) twenty[i] = static_cast<double>(i + 1);
  CHECK(Median(twenty).low == 6);
  CHECK(Median(twenty).high == 15);
  // Above 200, n/2 -+ 0.98 sqrt(n): 200 -+ 19.6 of 400.
  std::vector<double> many(400);
  for (size_t i = 0; i < 400; ++i) many[i] = static_cast<double>(i + 1);
  CHECK(Median(many).low == 181);
  CHECK(Median(many).high == 220);
  const Estimate gaps = Median({kNaN, 2, kNaN});
  CHECK(gaps.value == 2);
  CHECK(gaps.count == 1);
  CHECK_FALSE(Median({}).known());
  CHECK_FALSE(Median({kNaN}).known());
}

TEST_CASE("Means over seeds have Student's interval") {
  // Mean 2, deviation 1, t(2) = 4.303: 4.303 / sqrt 3 = 2.4843.
  const Estimate three = MeanOverSeeds({{1}, {2}, {3}});
  CHECK(three.value == 2);
  CHECK(three.high == Approx(4.4843).epsilon(1e-4));
  CHECK(three.low == Approx(-0.4843).epsilon(1e-3));
  CHECK(three.count == 3);
  // Two seeds a distance 2 apart: deviation sqrt 2, t(1) = 12.706.
  CHECK(MeanOverSeeds({{1}, {3}}).high == Approx(14.706).epsilon(1e-4));
  // Of 31 with deviation 1: t(30) = 2.0423.
  std::vector<Estimate> many(31, Estimate{0});
  for (size_t i = 0; i < 15; ++i) {
    many[2 * i].value = 1;
    many[2 * i + 1].value = -1;
  }
  CHECK(MeanOverSeeds(many).high ==
        Approx(2.0423 / std::sqrt(31)).epsilon(0.002));
  // A lone seed keeps its own interval; unknown ones do not count.
  const Estimate lone = MeanOverSeeds({{2, 1, 4, 9}, {kNaN}});
  CHECK(lone.value == 2);
  CHECK(lone.low == 1);
  CHECK(lone.high == 4);
  CHECK(lone.count == 1);
  CHECK_FALSE(MeanOverSeeds({}).known());
}

TEST_CASE("Power laws are fitted on logarithms over the longest lengths") {
  const PowerFit cube = FitPower({{2, 24}, {4, 192}, {8, 1536}});
  CHECK(cube.exponent == Approx(3));
  CHECK(cube.first == 2);
  CHECK(cube.last == 8);
  // log2: x 0 1 2, y 0 1 3; sum (x - 1) y / sum (x - 1)^2 = 3 / 2.
  CHECK(FitPower({{4, 8}, {1, 1}, {2, 2}}).exponent == Approx(1.5));
  // Two short lengths with another law are left out.
  const PowerFit tail =
      FitPower({{1, 1e6}, {2, 1e6}, {4, 16}, {8, 64}, {16, 256}, {32, 1024}});
  CHECK(tail.exponent == Approx(2));
  CHECK(tail.first == 4);
  CHECK_FALSE(FitPower({{1, 1}, {2, 2}}).known());
  const double inf = std::numeric_limits<double>::infinity();
  CHECK_FALSE(
      FitPower({{1, 1}, {2, 2}, {4, 0}, {8, -1}, {16, inf}, {0, 1}}).known());
  CHECK_FALSE(FitPower({{4, 1}, {4, 2}, {4, 3}}).known());
}

TEST_CASE("Intervals that touch overlap, unknown ones are points") {
  CHECK(Overlap({2, 1, 3}, {4, 3, 5}));
  CHECK_FALSE(Overlap({2, 1, 3}, {4, 3.1, 5}));
  CHECK(Overlap({2}, {4, 2, 5}));
  CHECK_FALSE(Overlap({2}, {4, 2.1, 5}));
  CHECK(Overlap({2}, {2}));
}

TEST_CASE("Numbers are written as people read them") {
  CHECK(FormatTime(12) == "12 ns");
  CHECK(FormatTime(999.6) == "1.00 µs");
  CHECK(FormatTime(1.234e7) == "12.3 ms");
  CHECK(FormatTime(kNaN) == "–");
  CHECK(FormatBytes(1023) == "1023 B");
  CHECK(FormatBytes(1536) == "1.50 KiB");
  CHECK(FormatBytes(3.0 * (1 << 30)) == "3.00 GiB");
  CHECK(FormatLength(1000) == "1000");
  CHECK(FormatLength(16384) == "16k");
  CHECK(FormatShare(0.618) == "62 %");
  CHECK(FormatShare(0.004) == "0.4 %");
  CHECK(FormatRatio(8.06) == "8.1×");
  CHECK(FormatRatio(0.52) == "0.52×");
  CHECK(FormatTime(std::numeric_limits<double>::infinity()) == "–");
  CHECK(FormatTime(1e300) == "1.00e+285 Ms");
  CHECK(FormatShare(1e300) == "1.00e+302 %");
  CHECK(FormatFixed(-0.001, 2) == "0.00");
  CHECK(FormatFixed(-0.02, 2) == "-0.02");
  CHECK(Clean("a\x1b[0m\nb\u202e", 99) == "a\ufffd[0m b\ufffd");
  CHECK(Clean("äöü", 3) == "äö…");
  CHECK(Clean("\xc3(") == "\ufffd(");
}

}  // namespace
}  // namespace saccade::reports
