// Two sides of runs compared: what is found, what is said, how it ends.
#include "reports/diff.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "bench/cli.h"
#include "bench/diff_limits.h"
#include "reports/text.h"
#include "tests/report_fixture.h"

namespace saccade::reports {
namespace {

using Records = std::vector<Fields>;

// Twelve samples about a time, of which one was disturbed; another seed is
// another run.
Fields Timed(const std::string& variant, int64_t length, double ns,
             uint64_t seed) {
  std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(length));
  std::normal_distribution<double> normal(0, 0.003);
  std::vector<double> samples;
  for (int i = 0; i < 12; ++i)
    samples.push_back(ns * (1 + normal(random)) * (i == 5 ? 1.4 : 1));
  return Speed(variant, length, samples);
}

// A run of two variants at eight lengths each.
Records Times(uint64_t seed, double flash = 1, double window = 1) {
  Records records;
  for (int64_t n = 128; n <= 16384; n *= 2) {
    const auto length = static_cast<double>(n);
    records.push_back(Timed("flash", n, flash * length * length, 2 * seed));
    records.push_back(Timed("window", n, window * 1000 * length, 2 * seed + 1));
  }
  return records;
}

record::Run Ended(Records records) {
  records.push_back({{"kind", "end"}});
  return RunOf(records);
}

Diff Of(const Records& a, const Records& b) {
  return MakeDiff({Ended(a)}, {Ended(b)}, 0.03);
}

int Count(const std::vector<DiffRow>& rows, Change change) {
  return static_cast<int>(
      std::count_if(rows.begin(), rows.end(),
                    [&](const DiffRow& row) { return row.change == change; }));
}

bool Remarked(const Diff& diff, DiffRemark::Kind kind, std::string_view text) {
  return std::any_of(
      diff.remarks.begin(), diff.remarks.end(), [&](const DiffRemark& remark) {
        return remark.kind == kind && Mentions(remark.text, text);
      });
}

Fields Accuracy(const std::string& variant, int64_t seed, double accuracy) {
  return {{"kind", "probe"},   {"variant", variant},  {"probe", "induction"},
          {"switch", "plain"}, {"seed", seed},        {"train_len", 128},
          {"eval_len", 2048},  {"accuracy", accuracy}};
}

TEST_CASE("a variant that became slower is told from one that did not") {
  const Diff diff = Of(Times(1), Times(2, 1.08));
  REQUIRE(diff.times.size() == 16);
  for (const DiffRow& row : diff.times) {
    const bool flash = row.cell["variant"] == "flash";
    CHECK(row.change == (flash ? Change::kSlower : Change::kSame));
    CHECK(row.by.low <= row.by.value);
    CHECK(row.by.value <= row.by.high);
    CHECK(row.by.value == doctest::Approx(row.b / row.a).epsilon(1e-3));
  }
  // One pass: its mean is that of all, and is told once.
  REQUIRE(diff.means.size() == 1);
  CHECK(diff.means[0].by.value ==
        doctest::Approx(std::sqrt(1.08)).epsilon(0.005));
  CHECK(diff.means[0].change == Change::kSlower);
  CHECK(Count(Of(Times(2, 1.08), Times(1)).times, Change::kFaster) == 8);
}

TEST_CASE("a uniform slowdown is found, with no cell to stand out from") {
  const Diff diff = Of(Times(1), Times(2, 1.08, 1.08));
  CHECK(Count(diff.times, Change::kSlower) == 16);
}

TEST_CASE("figures have the same digits in text, Markdown and JSON") {
  const Diff diff = Of(Times(1), Times(2, 1.08));
  const std::string text = ShowDiff(diff, DiffFormat::kText, true);
  const std::string markdown = ShowDiff(diff, DiffFormat::kMarkdown, true);
  const auto json =
      nlohmann::json::parse(ShowDiff(diff, DiffFormat::kJson, false));
  CheckMarkdown(markdown);
  REQUIRE(json["times"].size() == 16);
  for (const auto& row : json["times"]) {
    const std::vector<std::string> cells = {
        row["cell"]["variant"],
        FormatLength(row["cell"]["kv_len"]),
        FormatTime(row["a"]),
        FormatTime(row["b"]),
        fmt::format("{:.3f}", row["ratio"].get<double>()),
        fmt::format("{:.3f} to {:.3f}", row["low"].get<double>(),
                    row["high"].get<double>()),
        row["verdict"]};
    const auto all_in = [&](const std::string& line) {
      return std::all_of(cells.begin(), cells.end(), [&](const auto& cell) {
        return Mentions(line, cell);
      });
    };
    for (const std::string* shown : {&text, &markdown}) {
      const std::vector<std::string> lines = LinesOf(*shown);
      CHECK(std::any_of(lines.begin(), lines.end(), all_in));
    }
    // No digit is kept back.
    const double ratio = row["ratio"];
    CHECK(ratio == std::round(ratio * 1000) / 1000);
  }
}

TEST_CASE("columns are of what varies; the rest is said once") {
  Records a = Times(1), b = Times(2, 1.08);
  for (Records* side : {&a, &b})
    for (Fields& fields : *side) {
      fields["dtype"] = "f32";
      fields["mask"] = fields["kv_len"] > 1000 ? "causal" : "none";
    }
  const std::string text = ShowDiff(Of(a, b), DiffFormat::kText, true);
  CHECK(Mentions(text, "Of dtype f32."));
  const std::vector<std::string> lines = LinesOf(text);
  const auto head = std::find_if(
      lines.begin(), lines.end(),
      [](const std::string& line) { return line.starts_with("variant"); });
  REQUIRE(head != lines.end());
  CHECK(Mentions(*head, "mask"));
  CHECK_FALSE(Mentions(*head, "dtype"));
  // What is the same is counted, and shown when asked for.
  const std::string brief = ShowDiff(Of(a, b), DiffFormat::kText, false);
  CHECK(Mentions(brief, "16 times: 8 slower, 8 same"));
  CHECK_FALSE(Mentions(brief, "window"));
}

TEST_CASE("several runs a side are pooled and tell the noise between them") {
  std::vector<record::Run> a, b;
  const double shifts[] = {1, 1.02, 0.985};
  for (uint64_t r = 0; r < 3; ++r) {
    a.push_back(Ended(Times(10 + r, shifts[r], shifts[r])));
    b.push_back(Ended(Times(20 + r, shifts[2 - r], shifts[2 - r])));
  }
  const Diff diff = MakeDiff(a, b, 0.03);
  REQUIRE(diff.noise.contains("forward"));
  CHECK(diff.noise.at("forward").run > 0.01);
  CHECK(diff.noise.at("forward").run < 0.03);
  CHECK(diff.noise.at("forward").cell < 0.005);
  CHECK(Count(diff.times, Change::kSlower) == 0);
  CHECK(Count(diff.times, Change::kFaster) == 0);
  CHECK(diff.a.size() == 3);
}

TEST_CASE("samples are taken at the pace of their machine") {
  // For the second half of B's samples the machine had slowed by half.
  record::Run b = Ended({});
  b.records.clear();
  for (Fields fields : Times(2)) {
    std::vector<double> ns = fields["ns"], pace(ns.size(), 1.0);
    for (size_t i = ns.size() / 2; i < ns.size(); ++i)
      ns[i] *= 1.5, pace[i] = 1.5;
    fields["ns"] = ns;
    fields["pace"] = pace;
    b.records.emplace_back(fields);
  }
  const Diff diff = MakeDiff({Ended(Times(1))}, {b}, 0.03);
  CHECK(Count(diff.times, Change::kSame) == 16);
}

TEST_CASE("bytes are exact, but growth, which is measured") {
  Records a = {Memory("flash", "forward", 1024, 1000, 0),
               Memory("window", "forward", 1024, 1000, 64)};
  Records b = {Memory("flash", "forward", 1024, 1001, 0),
               Memory("window", "forward", 1024, 1000, 32)};
  for (Fields& fields : a) fields["rss_growth_bytes"] = 10'000'000;
  for (Fields& fields : b) fields["rss_growth_bytes"] = 10'900'000;
  b[1]["rss_growth_bytes"] = 12'000'000;
  const Diff diff = Of(a, b);
  REQUIRE(diff.bytes.size() == 8);
  for (const DiffRow& row : diff.bytes) {
    CAPTURE(row.measure);
    const bool flash = row.cell["variant"] == "flash";
    Change expected = Change::kSame;
    if (flash && row.measure == "scratch_bytes") expected = Change::kBigger;
    if (!flash && row.measure == "state_bytes") expected = Change::kSmaller;
    if (!flash && row.measure == "rss_growth_bytes") expected = Change::kBigger;
    CHECK(row.change == expected);
  }
  // From nothing to something is more than any share.
  Records grown = a;
  grown[0]["state_bytes"] = 1;
  const auto limits = bench::ParseLimits("bigger>500%");
  REQUIRE(limits.ok());
  CHECK(Beyond(Of(a, grown), *limits).size() == 1);
}

TEST_CASE("readings are paired by seed, and fewer bits are better") {
  Records a, b;
  const double base[] = {2.10, 2.50, 2.30};
  for (int64_t seed = 1; seed <= 3; ++seed) {
    const double bits = base[seed - 1];
    const double jitter = 0.002 * static_cast<double>(seed);
    a.push_back(Text("flash", "plain", 256, bits, seed));
    b.push_back(Text("flash", "plain", 256, bits + 0.1 + jitter, seed));
    a.push_back(Text("window", "plain", 256, bits, seed));
    b.push_back(Text("window", "plain", 256, bits, seed));
    a.push_back(Text("linear", "plain", 256, bits, seed));
    b.push_back(Text("linear", "plain", 256, bits + 0.001 + jitter / 10, seed));
    a.push_back(Accuracy("flash", seed, 0.5 + jitter));
    b.push_back(Accuracy("flash", seed, 0.9 + jitter / 2));
  }
  // Another seed, of one side alone, takes no part.
  b.push_back(Text("flash", "plain", 256, 9, 4));
  const Diff diff = Of(a, b);
  REQUIRE(diff.readings.size() == 4);
  CHECK(diff.readings[0].change == Change::kWorse);
  CHECK(diff.readings[0].by.value == doctest::Approx(0.104));
  CHECK(diff.readings[0].a == doctest::Approx(2.3));
  CHECK(diff.readings[1].change == Change::kSame);
  CHECK(diff.readings[2].change == Change::kSame);
  CHECK(diff.readings[3].change == Change::kBetter);
  CHECK(diff.readings[3].measure == "accuracy");
}

TEST_CASE("a check that fails in B alone is a regression under any limit") {
  Records a = Times(1), b = Times(2);
  a.push_back(Verify("flash", "forward", 0));
  b.push_back(Verify("flash", "forward", 3));
  a.push_back(Verify("window", "forward", 1));
  b.push_back(Verify("window", "forward", 0));
  const Diff diff = Of(a, b);
  CHECK(Count(diff.checks, Change::kBroken) == 1);
  CHECK(Count(diff.checks, Change::kMended) == 1);
  const auto limits = bench::ParseLimits("slower>50%");
  REQUIRE(limits.ok());
  const auto beyond = Beyond(diff, *limits);
  REQUIRE(beyond.size() == 1);
  CHECK(Describe(*beyond[0]) ==
        "flash, forward, target AVX2: check broken, 3 of 10 cases fail");
}

TEST_CASE("a cell that fails in B is broken, one that is skipped is missing") {
  const Records a = {Timed("flash", 128, 1e4, 1), Timed("flash", 256, 1e4, 1),
                     Timed("flash", 512, 1e4, 1)};
  const Records b = {Timed("flash", 128, 1e4, 2),
                     Failed(a[1], "fail", "the result is not finite"),
                     Failed(a[2], "skipped", "no time was left")};
  const Diff diff = Of(a, b);
  CHECK(diff.times.size() == 1);
  CHECK(Count(diff.checks, Change::kBroken) == 1);
  REQUIRE(diff.gaps.size() == 1);
  CHECK(diff.gaps[0].side == 'B');
  CHECK(diff.gaps[0].reason == "skipped: no time was left");
  CHECK(Mentions(ShowDiff(diff, DiffFormat::kText, false), "no time was left"));
}

TEST_CASE("what differs beside the figures is said first") {
  record::Run a = Ended(Times(1)), b = Ended(Times(2));
  Fields header = Header("another processor");
  header["commit"] = "4567def";
  b.header = record::Record(header);
  b.records.emplace_back(Fields{{"kind", "noise"}, {"reason", "a busy disk"}});
  const Diff diff = MakeDiff({a}, {b}, 0.03);
  using Kind = DiffRemark::Kind;
  CHECK(Remarked(diff, Kind::kUnlike, "another processor"));
  CHECK(Remarked(diff, Kind::kBuild, "commits: A 0123abc, B 4567def"));
  CHECK(Remarked(diff, Kind::kNoise, "Noise in B: a busy disk"));
  CHECK_FALSE(MakeDiff({a}, {a}, 0.03).Has(Kind::kUnlike));
  // Two programs on one side are no side.
  CHECK(Remarked(MakeDiff({a, b}, {a}, 0.03), Kind::kUnlike,
                 "The runs of A have different commits"));
  b.records.erase(b.records.end() - 2, b.records.end());
  CHECK(Remarked(MakeDiff({a}, {b}, 0.03), Kind::kNote,
                 "did not come to its end"));
}

TEST_CASE("limits are read strictly") {
  const auto limits =
      bench::ParseLimits("slower>3%, bigger > 1.5% ,worse>0.02,broken");
  REQUIRE(limits.ok());
  REQUIRE(limits->size() == 4);
  CHECK((*limits)[0].beyond == doctest::Approx(0.03));
  CHECK((*limits)[1].beyond == doctest::Approx(0.015));
  CHECK((*limits)[2].beyond == doctest::Approx(0.02));
  CHECK((*limits)[3].change == Change::kBroken);
  for (const char* bad :
       {"", "slow", "slower>", "slower>3", "slower>-1%", "slower>nan%",
        "worse>2%", "worse>x", "faster>3%", "broken>1", "slower>3%%",
        "slower>1e9%", "slower>3% bigger"}) {
    CAPTURE(bad);
    CHECK_FALSE(bench::ParseLimits(bad).ok());
  }
  CHECK(Mentions(bench::ParseLimits("slowr>3%").status().message(), "slower"));
}

// ---- the command

struct Answer {
  int code = 0;
  std::string out, err;
};

Answer Saccade(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  const int code = bench::RunCommand(
      arguments, {out, err, false, SACCADE_PROGRAM, nullptr, false});
  return {code, out.str(), err.str()};
}

std::string FileOf(const Records& records) {
  Records all = {Header()};
  all.insert(all.end(), records.begin(), records.end());
  all.push_back({{"kind", "end"}});
  return Lines(all);
}

TEST_CASE("the exit code of a diff says whether a limit was passed") {
  ReportFolder folder;
  const std::string a = folder.Run(FileOf(Times(1)), "a"),
                    b = folder.Run(FileOf(Times(2, 1.08)), "b");
  CHECK(Saccade({"diff", a, b}).code == 0);
  const Answer slower = Saccade({"diff", a, b, "--fail-on", "slower>3%"});
  CHECK(slower.code == 1);
  CHECK(Mentions(slower.err, "flash, forward, n 16k: B / A 1.0"));
  CHECK(Saccade({"diff", a, b, "--fail-on", "slower>20%"}).code == 0);
  CHECK(Saccade({"diff", a, b, "--fail-on", "slower>3%", "--only", "win*"})
            .code == 0);
  CHECK(Saccade({"diff", a, a, b, "--fail-on", "slower>3%"}).code == 2);
  CHECK(Saccade({"diff", a, a, "--vs", b, b, "--fail-on", "slower>3%"}).code ==
        1);
  // What is looked for above 1 % is not called the same at 2 %.
  const std::string c = folder.Run(FileOf(Times(3, 1.02, 1.02)), "c");
  CHECK(Saccade({"diff", a, c, "--fail-on", "slower>3%"}).code == 0);
  CHECK(Saccade({"diff", a, c, "--fail-on", "slower>1%"}).code == 1);
}

TEST_CASE("wrong use of diff is one line") {
  ReportFolder folder;
  const std::string a = folder.Run(FileOf(Times(1)), "a"),
                    none = folder.Run(FileOf({}), "none");
  const std::vector<std::vector<std::string>> wrong = {
      {"diff", a},
      {"diff", a, folder.File("missing")},
      {"diff", a, none},
      {"diff", a, a, "--only", "nobody"},
      {"diff", a, a, "--fail-on", "slower>x"},
      {"diff", a, a, "--same", "3"},
      {"diff", a, a, "--format", "xml"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const Answer answer = Saccade(arguments);
    CAPTURE(answer.err);
    CHECK(answer.code == 2);
    CHECK(answer.out.empty());
    CHECK(std::count(answer.err.begin(), answer.err.end(), '\n') == 1);
  }
}

TEST_CASE("a strict diff refuses noise, and runs of other machines") {
  ReportFolder folder;
  Records noisy = Times(2);
  noisy.push_back({{"kind", "noise"}, {"reason", "a busy disk"}});
  const std::string a = folder.Run(FileOf(Times(1)), "a"),
                    b = folder.Run(FileOf(noisy), "b");
  std::string other = FileOf(Times(2));
  other.replace(other.find("a processor"), 11, "b processor");
  const std::string c = folder.Run(other, "c");
  CHECK(Saccade({"diff", a, a, "--strict"}).code == 0);
  CHECK(Saccade({"diff", a, b}).code == 0);
  const Answer noise = Saccade({"diff", a, b, "--strict"});
  CHECK(noise.code == 4);
  CHECK(Mentions(noise.err, "a busy disk"));
  CHECK(Saccade({"diff", a, c, "--strict"}).code == 2);
}

TEST_CASE("names from outside stay inert in a diff") {
  const std::string evil = "x|y<b>@me`\x1b[31m";
  const Records a = {Timed(evil, 128, 1e4, 1)}, b = {Timed(evil, 128, 2e4, 2)};
  const Diff diff = Of(a, b);
  CheckMarkdown(ShowDiff(diff, DiffFormat::kMarkdown, true));
  CHECK_FALSE(Mentions(ShowDiff(diff, DiffFormat::kText, true), "\x1b"));
  CHECK(nlohmann::json::accept(ShowDiff(diff, DiffFormat::kJson, true)));
}

}  // namespace
}  // namespace saccade::reports
