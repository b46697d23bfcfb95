// How a report tells ours from outside implementations, over many settings.
#include <doctest/doctest.h>

#include "reports/contest.h"
#include "reports/sections.h"
#include "tests/report_fixture.h"

namespace saccade::reports {
namespace {

using doctest::Approx;

// Six samples: the interval of the median is from the first to the last.
std::vector<double> Around(double ns, double half) {
  return {ns - half, ns, ns, ns, ns, ns + half};
}

Fields Timed(const std::string& who, double ms, Fields more,
             const std::string& computes = "") {
  Fields fields = Speed(who, 1024, Around(ms * 1e6, 1e4));
  if (!computes.empty()) {
    fields["kind"] = "peer";
    fields["peer"] = who;
    fields["variant"] = computes;
  }
  fields["flops"] = 1e9;
  fields["dtype"] = "f32";
  fields["threads"] = 1;
  fields.update(more);
  return fields;
}

Fields Variant(const std::string& name, int64_t order) {
  return {{"kind", "variant"},     {"variant", name}, {"title", "a title"},
          {"source", "somewhere"}, {"family", "s"},   {"order", order},
          {"baseline", order == 0}};
}

// In each setting of bf16 the peer is ahead, and in no other.
std::vector<Fields> ManySettings() {
  std::vector<Fields> records = {Header(), Variant("s.plain", 0),
                                 Variant("s.fast", 1), Variant("s.window", 2)};
  for (const char* const dtype : {"f32", "bf16"})
    for (const int threads : {1, 2, 4}) {
      const Fields where = {{"dtype", dtype}, {"threads", threads}};
      const bool behind = std::string(dtype) == "bf16";
      records.push_back(Timed("s.plain", 9, where));
      records.push_back(Timed("s.fast", 2, where));
      records.push_back(Timed("s.window", 1, where));
      records.back()["flops"] = 1e8;
      records.push_back(Timed("theirs", behind ? 1.6 : 3, where, "s.plain"));
      records.push_back(Timed("theirs.window", 4, where, "s.window"));
      Fields none = Timed("third", 1, where, "s.plain");
      records.push_back(Failed(none, "unsupported", "it has no such pass"));
      Fields late = Timed("s.plain", 1, where);
      late["q_len"] = late["kv_len"] = 4096;
      records.push_back(Failed(
          late, "skipped",
          "a pass takes too long: about " + std::to_string(threads) + " s"));
    }
  records.push_back({{"kind", "end"}});
  return records;
}

record::Run ManyRun() {
  std::vector<Fields> records = ManySettings();
  records.erase(records.begin());
  return RunOf(records);
}

TEST_CASE("A peer is held against the variant whose function it computes") {
  const Model model = MakeModel({ManyRun()});
  const std::vector<Contest> contests = ContestsOf(model);
  REQUIRE(contests.size() == 12);
  for (const Contest& c : contests) {
    const std::string& peer = model.at(c.peer).name;
    const std::string& setting = model.settings[c.setting].name;
    CAPTURE(setting);
    const bool bf16 = Mentions(setting, "bf16");
    CHECK(c.ratio() == Approx(peer == "theirs.window" ? 4 : bf16 ? 0.8 : 1.5));
    CHECK(c.behind() == (peer == "theirs" && bf16));
  }
  const Standing standing = StandingOf(contests);
  CHECK(standing.cells == 6);
  CHECK(standing.ahead == 3);
  CHECK(standing.tied == 0);
  CHECK(std::isnan(GeometricMean({})));
  CHECK(GeometricMean({0.5, 2, 8}) == Approx(2));
}

TEST_CASE("A tie with a peer counts neither for nor against") {
  std::vector<Fields> records = {
      Timed("s.plain", 2, Fields::object()),
      Timed("theirs", 1.999, Fields::object(), "s.plain")};
  const Model model = MakeModel({RunOf(records)});
  const std::vector<Contest> contests = ContestsOf(model);
  REQUIRE(contests.size() == 1);
  CHECK(contests[0].tie());
  CHECK_FALSE(contests[0].behind());
  CHECK(StandingOf(contests).tied == 1);
  CHECK(StandingOf(contests).ahead == 0);
}

TEST_CASE("The terminal says how ours stands, and each lack once") {
  const std::string text = VerdictTable(ManyRun());
  CAPTURE(text);
  CHECK(Mentions(text, "ahead of all in 3 of 6 cells."));
  CHECK(Mentions(text, "theirs.window              4.0×"));
  CHECK(Mentions(text, "theirs                     1.1×"));  // of 1.5 and 0.8
  CHECK(Mentions(text, "0.80× forward, n = 1k, bf16, 2 threads: theirs\n"));
  CHECK_FALSE(Mentions(text, "forward, n = 1k, f32"));
  const auto lines = LinesOf(text);
  const auto said = [&](const std::string& line) {
    return std::count(lines.begin(), lines.end(), line);
  };
  CHECK(said("  third: it has no such pass") == 1);
  CHECK(said("  6 cells skipped: a pass takes too long") == 1);
  CHECK(Mentions(text, "5 more in the report."));
}

TEST_CASE("Many settings make a table each pass, and fold their figures") {
  ReportFolder folder;
  std::string text;
  for (const Fields& fields : ManySettings()) text += fields.dump() + "\n";
  REQUIRE(WriteReport({folder.Run(text)}, folder.File("out")).ok());
  const std::string html = folder.Html();
  CheckMarkdown(folder.Markdown());
  size_t open = 0, folded = 0;
  const size_t fold = html.find("<details class=\"more\">");
  REQUIRE(fold != std::string::npos);
  for (const Element& e : CheckPage(html)) {
    const auto id = e.attributes.find("id");
    if (e.name != "figure" || !id->second.starts_with("time-")) continue;
    ++(e.begin < fold ? open : folded);
  }
  CHECK(open == 1);
  CHECK(folded == 5);
  const Section section =
      PeerSection(MakeModel({*record::ReadRun(folder.File("run.jsonl"))}));
  REQUIRE(section.figures.size() == 1);
  const Json& series = section.figures[0].chart["series"];
  REQUIRE(series.size() == 2);
  CHECK(series[0]["style"] == 1);
  const Table& strongest = section.tables[1];
  REQUIRE(strongest.rows.size() == 6);
  CHECK(strongest.rows[0].size() == 2);
  int behind = 0;
  for (const auto& row : strongest.rows) {
    CHECK(row[1].small == "theirs");
    behind += row[1].look == "fail";
  }
  CHECK(behind == 3);
  // What is missing for one reason is one line.
  const Section gaps =
      GapSection(MakeModel({*record::ReadRun(folder.File("run.jsonl"))}));
  REQUIRE(gaps.tables.size() == 1);
  CHECK(gaps.tables[0].rows.size() == 2);
  CHECK(gaps.tables[0].rows[1][1].text ==
        "time, forward, n = 1k (in 6 of 6 settings)");
}

}  // namespace
}  // namespace saccade::reports
