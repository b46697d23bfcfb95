// The instruments of the program: small languages, statistics, peaks,
// workloads, timing, memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>

#include "bench/cli_parse.h"
#include "bench/diff_limits.h"
#include "bench/compare.h"
#include "bench/memory.h"
#include "bench/peaks.h"
#include "bench/progress.h"
#include "bench/speed.h"
#include "bench/statistics.h"
#include "bench/workload.h"

namespace saccade::bench {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// The first variant of the list, whatever it is.
std::string AnyName() { return std::string(Variants().front()->name); }

TEST_CASE("the median is the middle of the samples") {
  CHECK(std::isnan(Median({})));
  CHECK(Median(std::vector<double>{3}) == 3);
  CHECK(Median(std::vector<double>{9, 1, 5}) == 5);
  CHECK(Median(std::vector<double>{9, 1, 5, 6}) == 5.5);
}

TEST_CASE(
    "the interval of the median lies between the right order statistics") {
  const auto numbers = [](int n) {
    std::vector<double> x(n);
    for (int i = 0; i < n; ++i) x[n - 1 - i] = i + 1;
    return x;
  };
  // Ranks from the usual tables of the sign test.
  struct Row {
    int n, low, high;
  };
  for (const Row row : {Row{6, 1, 6},
                        {8, 1, 8},
                        {9, 2, 8},
                        {12, 3, 10},
                        {15, 4, 12},
                        {20, 6, 15},
                        {30, 10, 21}}) {
    const MedianInterval i = IntervalOfMedian(numbers(row.n));
    CAPTURE(row.n);
    CHECK(i.low == row.low);
    CHECK(i.high == row.high);
    CHECK(i.coverage >= 0.95);
    CHECK(i.coverage < 1);
  }
  const MedianInterval few = IntervalOfMedian(numbers(5));
  CHECK(few.low == 1);
  CHECK(few.high == 5);
  CHECK(few.coverage == doctest::Approx(0.9375));
}

TEST_CASE("the interval holds the true median as often as it says") {
  std::mt19937 rng(1);
  std::exponential_distribution<double> skewed;
  int held = 0;
  constexpr int kTrials = 4000;
  for (int t = 0; t < kTrials; ++t) {
    std::vector<double> x(11);
    for (double& v : x) v = skewed(rng);
    const MedianInterval i = IntervalOfMedian(x);
    held += i.low <= std::log(2.0) && std::log(2.0) <= i.high;
  }
  CHECK(held >= 0.945 * kTrials);
}

TEST_CASE("sweeps are read") {
  using L = std::vector<int64_t>;
  CHECK(*ParseSweep("512:4k:x2") == L{512, 1024, 2048, 4096});
  CHECK(*ParseSweep("256,1k") == L{256, 1024});
  CHECK(*ParseSweep("1k, 256,256") == L{256, 1024});
  CHECK(*ParseSweep("1k:3k:+1k,7") == L{7, 1024, 2048, 3072});
  CHECK(*ParseSweep("3:20:x3") == L{3, 9});
  CHECK(*ParseSweep("1m") == L{1 << 20});
  for (const char* bad :
       {"", ",", "0", "-1", "x", "1q", "1:2", "1:2:3", "1:2:x1", "1:2:x",
        "1:2:*2", "4:2:x2", "1:2:x2:x2", "1.5", "9999999999999999999",
        "99999999m", "1:1m:+1", "1:2:+0", "1 2"}) {
    CAPTURE(bad);
    CHECK(!ParseSweep(bad).ok());
    CHECK(ParseSweep(bad).status().code() == Code::kInvalid);
  }
}

TEST_CASE("durations are read") {
  CHECK(*ParseDuration("90") == 90);
  CHECK(*ParseDuration("90s") == 90);
  CHECK(*ParseDuration("5m") == 300);
  CHECK(*ParseDuration("1.5h") == 5400);
  for (const char* bad : {"", "m", "-1", "0", "5d", "1e999", "nan"})
    CHECK(!ParseDuration(bad).ok());
}

TEST_CASE("shares are read") {
  CHECK(*ParsePercent("5%") == doctest::Approx(0.05));
  CHECK(*ParsePercent("0.5%") == doctest::Approx(0.005));
  for (const char* bad : {"", "5", "%", "-5%", "5 percent", "nan%"})
    CHECK(!ParsePercent(bad).ok());
}

TEST_CASE("durations are written as people read them") {
  CHECK(FormatDuration(-1) == "0 s");
  CHECK(FormatDuration(0.2) == "1 s");
  CHECK(FormatDuration(59) == "59 s");
  CHECK(FormatDuration(59.5) == "1:00 min");
  CHECK(FormatDuration(750) == "12:30 min");
  CHECK(FormatDuration(3723) == "1:02:03 h");
}

TEST_CASE("globs match") {
  CHECK(GlobMatches("*", ""));
  CHECK(GlobMatches("soft*.n?ive", "softmax.naive"));
  CHECK(GlobMatches("*a*a*", "banana"));
  CHECK(GlobMatches("**x", "x"));
  CHECK(!GlobMatches("*.elu", "linear.elu2"));
  CHECK(!GlobMatches("?", ""));
  CHECK(!GlobMatches("a*b", "acd"));
  CHECK(!GlobMatches("", "a"));
}

TEST_CASE("lists of variants keep the commas of a spec's knobs") {
  const std::string name = AnyName();
  const auto all = ExpandSpecs("*");
  REQUIRE(all.ok());
  CHECK(all->size() == Variants().size());
  const auto again = ExpandSpecs(name + ", *," + name);
  REQUIRE(again.ok());
  CHECK(again->size() == Variants().size());
  CHECK(again->front() == name);
  CHECK(ExpandSpecs("nothing.*").status().code() == Code::kNotFound);
  CHECK(!ExpandSpecs("").ok());
  // A variant with two numeric knobs, if the list has one.
  for (const Variant* v : Variants()) {
    std::string spec = std::string(v->name) + ":";
    int knobs = 0;
    for (const Knob& k : v->knobs)
      if (k.choices.empty())
        spec += (knobs++ ? "," : "") + std::string(k.name) + "=" +
                std::to_string(static_cast<int64_t>(k.initial));
    if (knobs < 2) continue;
    const auto two = ExpandSpecs(spec + "," + name);
    REQUIRE(two.ok());
    CHECK(*two == std::vector<std::string>{spec, name});
  }
}

TEST_CASE("peaks are positive and finite") {
  for (const int threads : {1, 2}) {
    CHECK(SampleFmaPeak(threads, DType::kBF16) > 0);
    const double fma = SampleFmaPeak(threads);
    CHECK(std::isfinite(fma));
    CHECK(fma > 1e7);
  }
  const Result<StreamPeak> stream = StreamPeak::Make(size_t{8} << 20);
  REQUIRE(stream.ok());
  CHECK(stream->Sample(2) > 1e6);
  CHECK(StreamPeak::Make(size_t{1} << 62).status().code() == Code::kExhausted);
}

TEST_CASE(
    "a progress bar counts down on a terminal, elsewhere a line a phase") {
  std::ostringstream terminal, file;
  {
    Progress bar(terminal, true), lines(file, false);
    for (Progress* p : {&bar, &lines}) {
      p->AddPhase("first", 30);
      p->AddPhase("second", 10);
      p->Begin("first");
      CHECK(p->Remaining() == doctest::Approx(40).epsilon(0.01));
      p->Update(0.5, "a cell");
      p->Begin("second");
      CHECK(p->Remaining() == doctest::Approx(10).epsilon(0.01));
      p->Say("a model is trained");
      p->Expect("second", 20);
      CHECK(p->Remaining() == doctest::Approx(20).epsilon(0.01));
    }
  }
  CHECK(terminal.str().find("75 %") != std::string::npos);
  CHECK(terminal.str().ends_with("\r\x1b[K"));
  const std::string log = file.str();
  CHECK(log.find('\r') == std::string::npos);
  CHECK(std::count(log.begin(), log.end(), '\n') == 3);
  CHECK(log.ends_with("saccade: a model is trained\n"));
}

CellSpec SmallCell(const std::string& spec, Pass pass, int64_t length,
                   int threads = 1) {
  CellSpec cell;
  cell.spec = spec;
  cell.shape.heads = 2;
  cell.shape.dim = 16;
  cell.pass = pass;
  cell.length = length;
  cell.threads = threads;
  return cell;
}

TEST_CASE("decoding keeps near its context, however long it is timed") {
  for (const Variant* v : Variants()) {
    const Result<PlannedCell> planned =
        PlanCell(SmallCell(std::string(v->name), Pass::kDecode, 40));
    if (!planned.ok()) continue;
    CAPTURE(v->name);
    auto work = Workload::Make(&*planned, Pages::kSmall, 1);
    REQUIRE(work.ok());
    REQUIRE((*work)->Allocate().ok());
    REQUIRE((*work)->Prepare(Serial()).ok());
    const int64_t slack = planned->capacity - planned->cell.length;
    for (int sample = 0; sample < 10; ++sample) {
      REQUIRE((*work)->Rewind(slack / 2).ok());
      for (int64_t i = 0; i < slack / 2; ++i)
        REQUIRE((*work)->Run(Serial()).ok());
      CHECK((*work)->Finite());
    }
  }
}

TEST_CASE("a cell goes to a child process and comes back the same") {
  CellSpec cell =
      SmallCell("some.name:knob=3,other=4+rope", Pass::kBackward, 77, 3);
  cell.shape.mask = Mask::kNone;
  cell.shape.kv_heads = 1;
  cell.dtype = DType::kBF16;
  const Result<CellSpec> back = CellFromJson(ToJson(cell).dump());
  REQUIRE(back.ok());
  CHECK(ToJson(*back) == ToJson(cell));
  for (const char* bad : {"", "[]", "{}", "{\"pass\":\"forward\"}", "nonsense"})
    CHECK(CellFromJson(bad).status().code() == Code::kInvalid);
}

TEST_CASE("the process grows by what the plan says, within a MiB and 5 %") {
  // One thread: of several, one may find no work and touch no scratch.
  if (kSanitized) return;  // which keeps memory of its own
  for (const Variant* v : Variants())
    for (const Pass pass : kPasses) {
      CellSpec cell = SmallCell(std::string(v->name), pass, 1024);
      cell.shape.heads = 4;
      cell.shape.dim = 64;
      const Result<PlannedCell> planned = PlanCell(cell);
      if (!planned.ok()) continue;
      const Result<int64_t> growth =
          MeasureGrowthInChild(SACCADE_PROGRAM, cell, 120, nullptr);
      INFO(v->name, " ", NameOf(pass), ": ", growth.status().message());
      REQUIRE(growth.ok());
      const auto said = static_cast<double>(PlannedBytes(*planned));
      CHECK(std::abs(static_cast<double>(*growth) - said) <=
            0x1p20 + 0.05 * said);
    }
}

TEST_CASE("a child that cannot be run, or is too slow, is an error") {
  const CellSpec cell = SmallCell(AnyName(), Pass::kForward, 64);
  CHECK(MeasureGrowthInChild("/nowhere/saccade", cell, 10, nullptr)
            .status()
            .code() == Code::kIo);
  CHECK(MeasureGrowthInChild("/bin/cat", cell, 10, nullptr).status().code() ==
        Code::kIo);
  const StopFlag stop{true};
  CHECK(
      MeasureGrowthInChild(SACCADE_PROGRAM, cell, 10, &stop).status().code() ==
      Code::kInvalid);
  CellSpec unknown = cell;
  unknown.spec = "nothing.here";
  const auto said = MeasureGrowthInChild(SACCADE_PROGRAM, unknown, 10, nullptr);
  CHECK(said.status().message().find("nothing.here") != std::string::npos);
}

TEST_CASE("rounds interleave the cells, and every sample is kept") {
  const std::string name = AnyName();
  std::vector<PlannedCell> cells;
  for (const int64_t length : {32, 33})
    cells.push_back(
        std::move(*PlanCell(SmallCell(name, Pass::kForward, length))));
  SpeedSettings settings;
  settings.sample_seconds = 1e-4;
  settings.cell_seconds = 1;
  settings.least_rounds = settings.most_rounds = 7;
  settings.longest_pass = 1e9;  // whatever runs beside the tests
  TimeModel model(1e9);
  SpeedBench bench(settings, nullptr, nullptr, &model);
  std::vector<SpeedResult> results;
  int peaks = 0;
  const Status status = bench.RunGroup(
      {&cells[0], &cells[1]}, Serial(), 1e9,
      [&](const SpeedResult& r) {
        results.push_back(r);
        return Status();
      },
      [](double, std::string_view) {},
      [&](DType, double flops, double) { peaks += flops > 0; });
  REQUIRE(status.ok());
  REQUIRE(results.size() == 2);
  CHECK(peaks == 8);  // before, between and after
  for (const SpeedResult& r : results) {
    CHECK(r.status == "ok");
    const std::vector<double>& ns = r.times.ns;
    CHECK(ns.size() == 7);
    CHECK(r.times.flops > 0);
    CHECK(*std::min_element(ns.begin(), ns.end()) > 0);
  }
}

TEST_CASE("what would take too long, or too much, is skipped with the reason") {
  const std::string name = AnyName();
  const PlannedCell cell =
      std::move(*PlanCell(SmallCell(name, Pass::kForward, 256)));
  const auto reason = [&](SpeedSettings settings, double seconds_left) {
    TimeModel model(1e9);
    model.Learn(cell, 0.5);
    SpeedBench bench(settings, nullptr, nullptr, &model);
    SpeedResult result;
    const Status status = bench.RunGroup(
        {&cell}, Serial(), seconds_left,
        [&](const SpeedResult& r) {
          result = r;
          return Status();
        },
        [](double, std::string_view) {}, [](DType, double, double) {});
    CHECK(status.ok());
    CHECK(result.status == "skipped");
    CHECK(result.times.ns.empty());
    return result.reason;
  };
  SpeedSettings settings;
  settings.longest_pass = 0.25;
  CHECK(reason(settings, 1e9).find("longer than 0.25 s") != std::string::npos);
  settings.longest_pass = 1;
  CHECK(reason(settings, 1).find("left") != std::string::npos);
  settings.memory_share = 1e-9;
  CHECK(reason(settings, 1e9).find("GiB") != std::string::npos);
}

TEST_CASE("what is too long is found out by running it, not guessed") {
  const PlannedCell cell =
      std::move(*PlanCell(SmallCell(AnyName(), Pass::kForward, 64)));
  const auto result_of = [&](double longest_pass, double fma_peak) {
    SpeedSettings settings;
    settings.longest_pass = longest_pass;
    TimeModel model(fma_peak);
    SpeedBench bench(settings, nullptr, nullptr, &model);
    SpeedResult result;
    const Status status = bench.RunGroup(
        {&cell}, Serial(), 1e9,
        [&](const SpeedResult& r) {
          result = r;
          return Status();
        },
        [](double, std::string_view) {}, [](DType, double, double) {});
    CHECK(status.ok());
    return result;
  };
  // A machine that seems to need no time at all.
  const SpeedResult slow = result_of(1e-9, 1e30);
  CHECK(slow.status == "skipped");
  CHECK(slow.reason.find("longer than") != std::string::npos);
  // One that would need longer, did it reach but a tenth of its peak.
  CHECK(result_of(100, cell.flops() / 30).status == "ok");
}

TEST_CASE("times of longer lengths are foretold from shorter ones") {
  const std::string name = AnyName();
  const PlannedCell at1k =
      std::move(*PlanCell(SmallCell(name, Pass::kForward, 1024)));
  const PlannedCell at2k =
      std::move(*PlanCell(SmallCell(name, Pass::kForward, 2048)));
  TimeModel model(1e9);
  CHECK(model.Run(at1k) > 0);
  model.Learn(at1k, 1);
  CHECK(model.Run(at1k) == doctest::Approx(1));
  CHECK(model.Run(at2k) ==
        doctest::Approx(at2k.flops() / at1k.flops()).epsilon(1e-6));
}

}  // namespace
}  // namespace saccade::bench
