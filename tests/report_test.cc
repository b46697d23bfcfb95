// Reports from records: what a reader gets from a whole run, from a damaged or
// empty one, and from one that means harm.
#include "reports/report.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <random>
#include <regex>

#include "report_fixture.h"

namespace saccade::reports {
namespace {

const std::string kFixture = DataFile("run_small.jsonl");

// The report of runs, checked as every report is.
struct Report {
  std::string html, markdown;
  std::vector<Element> elements;
};

Report Make(const ReportFolder& folder,
            const std::vector<std::string>& run_files) {
  const Status status = WriteReport(run_files, folder.File("out"));
  REQUIRE_MESSAGE(status.ok(), status.message());
  Report report = {folder.Html(), folder.Markdown(), {}};
  report.elements = CheckPage(report.html);
  CheckMarkdown(report.markdown);
  return report;
}

Report MakeFrom(const std::string& text) {
  ReportFolder folder;
  return Make(folder, {folder.Run(text)});
}

// Whether a number that is none stands in the report.
bool ShowsNoNumber(const std::string& text) {
  static const std::regex word(R"((^|[^a-z])-?(nan|inf)([^a-z]|$))",
                               std::regex::icase);
  return std::regex_search(text, word);
}

// To renew the golden report after a change that is meant:
//
//   SACCADE_UPDATE_GOLDEN=1 build/release/saccade_tests -tc='*golden*'
//
// and read what `git diff tests/data/run_small.md` says.
TEST_CASE("The report of a synthetic run is the golden one, line by line") {
  ReportFolder folder;
  const Report report = Make(folder, {kFixture});
  const auto golden = DataFile("run_small.md");
  if (std::getenv("SACCADE_UPDATE_GOLDEN") != nullptr) {
    Save(golden, report.markdown);
    MESSAGE("renewed: ", golden.string());
  }
  const auto want = LinesOf(Load(golden));
  const auto have = LinesOf(report.markdown);
  const auto [w, h] =
      std::mismatch(want.begin(), want.end(), have.begin(), have.end());
  INFO("line " << w - want.begin() + 1);
  INFO("golden: " << (w == want.end() ? "(ends)" : *w));
  INFO("report: " << (h == have.end() ? "(ends)" : *h));
  CHECK((w == want.end() && h == have.end()));
}

TEST_CASE("The same records give the same bytes of a report") {
  ReportFolder folder;
  const Report first = Make(folder, {kFixture});
  const Report second = Make(folder, {kFixture});
  CHECK(first.html == second.html);
  CHECK(first.markdown == second.markdown);
}

TEST_CASE("A report says first what it found and then shows it") {
  ReportFolder folder;
  const Report report = Make(folder, {kFixture});
  const auto at = [&](const std::string& part) {
    const size_t place = report.html.find(part);
    CHECK_MESSAGE(place != std::string::npos, part);
    return place;
  };
  CHECK(at("<title>Attention variants, compared</title>") < at("<h1>"));
  CHECK(at("<h1>") < at("id=\"verdict\""));
  CHECK(at("id=\"verdict\"") < at("The best by each measure"));
  CHECK(at("The best by each measure") < at("The verdict</caption>"));
  CHECK(at("The verdict</caption>") < at("<figure"));
  CHECK(at("id=\"quality-time\"") < at("id=\"quality-memory\""));
  CHECK(at("id=\"quality-memory\"") < at("id=\"findings\""));
  CHECK(at("id=\"findings\"") < at("<nav"));
  for (const char* section : {"time", "decode", "peak", "memory", "assertions",
                              "checks", "gaps", "machine", "repeat"}) {
    INFO(section);
    CHECK(at("<nav") < at(fmt::format("<section id=\"{}\"", section)));
  }
  // Synthetic records must say so on the first screen.
  CHECK(at("nothing here was measured") < at("id=\"verdict\""));
}

TEST_CASE("The verdict for a terminal has a row for each variant") {
  const Result<record::Run> run = record::ReadRun(kFixture);
  REQUIRE(run.ok());
  const std::string table = VerdictTable(*run);
  size_t variants = 0;
  for (const record::Record& record : run->records) {
    if (record.kind() != "variant") continue;
    ++variants;
    CHECK(Mentions(table, "\n" + record.Text("variant") + " "));
  }
  CHECK(variants == 10);
  CHECK(Mentions(table, "FAIL"));
  CHECK(table.ends_with("\n"));
}

TEST_CASE("Nothing in a record becomes markup or script in a report") {
  std::string harm;
  SUBCASE("a script") { harm = "<script>alert(1)</script>"; }
  SUBCASE("the end of the chart's script") { harm = "</script><b>"; }
  SUBCASE("the end of a section of characters") { harm = "]]><!--"; }
  SUBCASE("a comment's end") { harm = "--><img src=x onerror=y>"; }
  SUBCASE("an attribute") { harm = "\" onmouseover=\"x' y=z"; }
  SUBCASE("a cell's end") { harm = "a | b | c"; }
  SUBCASE("code") { harm = "``` `x` ~~~"; }
  SUBCASE("a link and a picture") { harm = "![x](http://e.org) [a]: b @you"; }
  SUBCASE("backslashes") { harm = "\\| \\"; }
  SUBCASE("entities") { harm = "&lt;b&gt; &amp; &"; }
  SUBCASE("a template") {
    harm = "{{title}} {{{policy}}} {{>figure_template}}";
  }
  SUBCASE("lines") { harm = "a\n\n# b\r\n<hr>\n```\n\t| c"; }
  SUBCASE("control and direction") { harm = "\x1b[31m\u202e\u2028\u0007"; }
  SUBCASE("long") { harm = std::string(20000, '<'); }

  // Into every text of every record that is not one of a few words.
  std::string text;
  for (const std::string& line : LinesOf(Load(kFixture))) {
    Fields fields = Fields::parse(line);
    for (auto& [name, value] : fields.items()) {
      const record::Field* field = record::FindField(name);
      REQUIRE(field != nullptr);
      if (name == "kind" || !field->choices.empty()) continue;
      if (value.is_string()) value = value.get<std::string>() + harm;
      if (!value.is_array()) continue;
      for (auto& item : value) {
        if (item.is_string()) item = item.get<std::string>() + harm;
      }
    }
    text += fields.dump() + "\n";
  }
  const Report report = MakeFrom(text);
  // No element or attribute that the honest report does not have.
  ReportFolder folder;
  std::set<std::pair<std::string, std::string>> known;
  for (const Element& element : Make(folder, {kFixture}).elements) {
    known.emplace(element.name, "");
    for (const auto& [name, value] : element.attributes) {
      known.emplace(element.name, name);
    }
  }
  for (const Element& element : report.elements) {
    CHECK(known.contains({element.name, ""}));
    for (const auto& [name, value] : element.attributes) {
      if (!known.contains({element.name, name})) FAIL_CHECK(name);
    }
  }
  for (const char* character : {"\x1b", "\u202e", "\u2028", "\a"}) {
    CHECK_FALSE(Mentions(report.html, character));
    CHECK_FALSE(Mentions(report.markdown, character));
  }
}

TEST_CASE("A hostile name is shown as it is written") {
  const std::string name = "a<b>|`c`&\"d'</script>";
  const Report report =
      MakeFrom(Lines({Header(), Speed(name, 64, {1e6}), Speed(name, 128, {4e6}),
                      Speed("other", 128, {3e6})}));
  CHECK(
      Mentions(report.html, "a&lt;b&gt;|`c`&amp;&quot;d&apos;&lt;/script&gt;"));
  CHECK(Mentions(report.markdown,
                 "a&lt;b&gt;\\|\\`c\\`&amp;\"d'&lt;/script&gt;"));
  bool drawn = false;
  for (const Element& element : report.elements) {
    if (!Mentions(element.raw, "\"series\"")) continue;
    if (!element.attributes.contains("type")) continue;
    const Fields chart = Fields::parse(element.raw);
    for (const auto& series : chart["series"]) {
      drawn |= series["name"] == name;
    }
  }
  CHECK(drawn);
}

TEST_CASE("A command cannot leave its block in Markdown") {
  ReportFolder folder;
  Fields fence = Header(), markup = Header();
  fence["command"] = "```";
  markup["command"] = "<img src=x>\n</pre>";
  const Report report = Make(folder, {folder.Run(Lines({fence}), "a"),
                                      folder.Run(Lines({markup}), "b")});
  CHECK(Mentions(report.markdown, "\n    ```\n"));
  CHECK(Mentions(report.markdown, "\n    <img src=x> </pre>\n"));
}

TEST_CASE("A run without measurements makes a report that says so") {
  const Report report = MakeFrom(Lines({Header()}));
  CHECK(Mentions(report.markdown, "Nothing was measured."));
  CHECK(Mentions(report.markdown, "did not come to its end"));
  CHECK_FALSE(Mentions(report.html, "id=\"verdict\""));
  CHECK_FALSE(Mentions(report.html, "<figure"));
  CHECK(VerdictTable(RunOf({})) == "Nothing was measured.\n");
}

TEST_CASE("What was left out is said beside the table and counted below it") {
  const auto skipped = [](const char* variant) {
    return Failed({{"kind", "train"},
                   {"variant", variant},
                   {"task", "text"},
                   {"seed", 1}},
                  "skipped", "dropped: too long");
  };
  const std::string whole = VerdictTable(RunOf({Speed("a.one", 64, {1e6})}));
  CHECK(Mentions(whole, "a.one"));
  CHECK_FALSE(Mentions(whole, "trainings"));
  const std::string table = VerdictTable(
      RunOf({Speed("a.one", 64, {1e6}), Text("a.one", "plain", 128, 1),
             Speed("a.two", 64, {1e6}),
             Failed(Speed("a.two", 128, {1}), "skipped", "dropped: too long"),
             skipped("a.two"), skipped("a.one")}));
  CHECK(Mentions(table, "A dash is what was not measured, 2 trainings among"));
  CHECK(Mentions(table, "\n  2 trainings skipped: dropped\n"));
  CHECK(Mentions(table, "\n  1 cell skipped: dropped\n"));
}

TEST_CASE("A run with failures only shows each with its reason, and no time") {
  const Report report = MakeFrom(Lines(
      {Header(),
       Verify("a.one", "forward", 3),
       Speed("a.one", 64, {1234567}),
       Failed(Speed("a.two", 64, {1}), "skipped", "needs 9 GiB"),
       Failed(Speed("a.three", 64, {1}), "unsupported", "no causal form"),
       Failed(Memory("a.two", "forward", 64, 0, 0), "fail", "child died"),
       Failed(Text("a.two", "plain", 128, 1), "fail", "loss was not finite"),
       {{"kind", "end"}}}));
  for (const char* part :
       {"FAIL", "3 of 10 cases beyond the error budget", "skipped",
        "needs 9 GiB", "unsupported", "no causal form", "child died",
        "loss was not finite", "Not correct here: a.one"}) {
    CHECK_MESSAGE(Mentions(report.markdown, part), part);
  }
  CHECK_FALSE(Mentions(report.markdown, "1.23 ms"));
  CHECK_FALSE(Mentions(report.markdown, "Fastest"));
  CHECK_FALSE(Mentions(report.markdown, "did not come to its end"));
}

TEST_CASE("A last line that was cut off is named, the others stand") {
  const std::string text = Load(kFixture);
  const Report whole = MakeFrom(text);
  const Report report = MakeFrom(text.substr(0, text.size() - 9));
  CHECK(Mentions(report.markdown, "1 remark on reading the record"));
  CHECK(Mentions(report.markdown, "did not come to its end"));
  CHECK(Mentions(report.markdown, "run.jsonl:"));
  CHECK_FALSE(Mentions(whole.markdown, "remark"));
  CHECK_FALSE(Mentions(whole.markdown, "did not come to its end"));
  const auto row = [](const Report& r) {
    for (const std::string& line : LinesOf(r.markdown)) {
      if (line.starts_with("| linear.elu |")) return line;
    }
    return std::string();
  };
  CHECK(row(report) == row(whole));
  CHECK(row(whole) != "");
}

TEST_CASE("What is no run makes no report, and one clear line") {
  ReportFolder folder;
  std::string path = folder.File("missing.jsonl");
  SUBCASE("missing") {}
  SUBCASE("empty") { path = folder.Run(""); }
  SUBCASE("another schema") {
    Fields header = Header();
    header["schema"] = record::kSchemaVersion + 1;
    path = folder.Run(Lines({header}));
  }
  SUBCASE("a header without its processor") {
    Fields header = Header();
    header.erase("cpu");
    path = folder.Run(Lines({header}));
  }
  SUBCASE("a folder") { path = folder.File(""); }
  // One good run beside it does not help.
  const Status status = WriteReport({kFixture, path}, folder.File("out"));
  REQUIRE_FALSE(status.ok());
  CHECK(Mentions(status.message(), path));
  CHECK_FALSE(Mentions(status.message(), "\n"));
  CHECK_FALSE(std::filesystem::exists(folder.File("out/report.html")));
  CHECK(WriteReport({}, folder.File("out")).code() == Code::kInvalid);
}

TEST_CASE("Runs of two machines are pooled with a warning") {
  ReportFolder folder;
  const std::string a = folder.Run(Lines({Header("first processor"),
                                          Speed("a.one", 64, {1e6}),
                                          {{"kind", "end"}}}),
                                   "a");
  const std::string b = folder.Run(Lines({Header("second processor"),
                                          Speed("a.one", 64, {5e6}),
                                          Speed("a.two", 64, {2e6}),
                                          {{"kind", "end"}}}),
                                   "b");
  const std::string warning = "These runs are of different machines or builds";
  const Report both = Make(folder, {a, b});
  CHECK(Mentions(both.markdown, warning));
  CHECK(Mentions(both.html, warning));
  CHECK(Mentions(both.markdown, "first processor; second processor"));
  // The later record of a cell counts.
  CHECK(Mentions(both.markdown, "5.00 ms"));
  CHECK_FALSE(Mentions(both.markdown, "1.00 ms"));
  CHECK(Mentions(both.markdown, "Fastest forward pass at n = 64: a.two"));
  CHECK_FALSE(Mentions(Make(folder, {a}).markdown, warning));
  CHECK_FALSE(Mentions(Make(folder, {a, a}).markdown, warning));
}

TEST_CASE("A pass above the peak of the machine puts its report in doubt") {
  const std::string warning = "Some passes seem faster than this machine";
  Fields speed = Speed("a.one", 64, {1e6});
  speed["peak_share"] = 1.02;
  CHECK_FALSE(Mentions(MakeFrom(Lines({Header(), speed})).markdown, warning));
  speed["peak_share"] = 3.5;
  CHECK(Mentions(MakeFrom(Lines({Header(), speed})).markdown, warning));
}

TEST_CASE("Fields that are missing leave gaps, not numbers") {
  const Report report = MakeFrom(
      Lines({Header(),
             {{"kind", "speed"},
              {"variant", "bare"},
              {"pass", "forward"},
              {"q_len", 64},
              {"kv_len", 64},
              {"cache", "warm"},
              {"median_ns", 2e6}},
             {{"kind", "speed"}, {"variant", "lost"}, {"median_ns", 7e6}},
             {{"kind", "speed"},
              {"variant", "dropped"},
              {"pass", "forward"},
              {"q_len", 64},
              {"kv_len", 64},
              {"cache", "warm"}},
             {{"kind", "verify"},
              {"variant", "bare"},
              {"pass", "forward"},
              {"target", "AVX2"},
              {"status", "skipped"},
              {"reason", "not asked for"}}}));
  CHECK(Mentions(report.markdown,
                 "| bare | not run | **2.00 ms** | 1 (baseline) | – | – | "
                 "fastest here |"));
  CHECK(Mentions(report.markdown, "2 remarks on reading the record"));
  CHECK_FALSE(Mentions(report.markdown, "7.00 ms"));
  CHECK_FALSE(ShowsNoNumber(report.markdown));
}

TEST_CASE("Each change at test time has a column, a line and a switch") {
  const auto text = [](const std::string& variant, const std::string& change,
                       double far) {
    return std::vector{Text(variant, change, 128, 2.5),
                       Text(variant, change, 2048, far)};
  };
  std::vector<Fields> records = {Header()};
  for (const auto& some :
       {text("a.turns", "logn", 4.2), text("a.turns", "window", 2.51),
        text("a.turns", "plain", 4.9), text("a.turns", "yarn", 2.493),
        text("b.fixed", "plain", 2.61)})
    records.insert(records.end(), some.begin(), some.end());
  ReportFolder folder;
  const Report report = Make(folder, {folder.Run(Lines(records))});
  CHECK(Mentions(report.markdown,
                 "| variant | plain at 1× | plain | window | logn | yarn |"));
  CHECK(Mentions(report.markdown,
                 "| a.turns | 2.500 | 4.900 | 2.510 | 4.200 | 2.493 |"));
  CHECK(Mentions(report.markdown, "| b.fixed | 2.500 | 2.610 | – | – | – |"));
  CHECK(Mentions(report.html, "class=\"best n\">2.493"));
  CHECK(Mentions(report.html, "class=\"best n\">2.610"));
  for (const auto& element : report.elements) {
    if (element.name != "script" || !Mentions(element.raw, "\"yarn\""))
      continue;
    const auto chart = nlohmann::json::parse(element.raw);
    std::map<std::string, int> styles;
    for (const auto& series : chart["series"])
      styles[series["layer"]] = series["style"];
    CHECK(styles == std::map<std::string, int>{
                        {"plain", 0}, {"window", 1}, {"logn", 2}, {"yarn", 3}});
  }
  // With a window alone the verdict says it all.
  records.resize(7);
  records.erase(records.begin() + 1, records.begin() + 3);
  ReportFolder other;
  CHECK(!Mentions(Make(other, {other.Run(Lines(records))}).markdown,
                  "Changes at test time"));
}

TEST_CASE("Models matched by FLOPs stand beside those that are not") {
  const auto model = [](const std::string& variant, bool by_flops,
                        int64_t steps, double flops, double near, double far) {
    std::vector<Fields> records = {Text(variant, "plain", 128, near),
                                   Text(variant, "plain", 2048, far),
                                   {{"kind", "train"},
                                    {"variant", variant},
                                    {"task", "text"},
                                    {"seed", 1},
                                    {"train_len", 128},
                                    {"params", 1234},
                                    {"steps", steps},
                                    {"tokens", steps * 1000},
                                    {"flops", flops},
                                    {"final_loss", 1.5},
                                    {"loss", {3.0, by_flops ? 1.25 : 1.5}}}};
    if (by_flops)
      for (Fields& r : records) r["match"] = "flops";
    return records;
  };
  const auto report = [&](bool matched) {
    std::vector<Fields> records = {Header()};
    for (const auto& some : {model("dear", false, 400, 1.2e12, 2.5, 4.875),
                             model("cheap", true, 600, 1.2e12, 2.625, 2.25),
                             model("cheap", false, 400, 0.8e12, 2.75, 2.875)}) {
      if (!matched && some[0].contains("match")) continue;
      records.insert(records.end(), some.begin(), some.end());
    }
    ReportFolder folder;
    return Make(folder, {folder.Run(Lines(records))});
  };
  const Report both = report(true);
  CHECK(Mentions(both.markdown,
                 "| cheap | parameters | 1234 | 2.000 | 400 | 800 | 2.750 | "
                 "2.875 |\n| cheap | FLOPs | 1234 | 2.000 | 600 | 1200 | "
                 "2.625 | 2.250 |"));
  CHECK(Mentions(both.markdown, "| dear | parameters | 1234 | 3.000 |"));
  // Nothing else is told by them.
  for (const char* number : {"2.250", "2.625", "2.62 ", "2.25 "}) {
    const size_t first = both.markdown.find(number);
    const bool once =
        first == std::string::npos ||
        both.markdown.find(number, first + 1) == std::string::npos;
    CHECK(once);
  }
  CHECK(!Mentions(both.html, "1.25,"));
  const Report one = report(false);
  CHECK(Mentions(one.markdown, "| cheap | 1234 | 2.000 | 400 | 800 |"));
  CHECK(!Mentions(one.markdown, "matched by"));
}

TEST_CASE("Absurd numbers are refused or shown, and never as nan or inf") {
  std::string text = Lines({Header(), Speed("sane", 64, {2e6, 3e6, 4e6})});
  for (const char* number : {"NaN", "Infinity", "1e999", "-1e999", "null", "[]",
                             "\"5\"", "0", "-5", "1e308", "5e-324"}) {
    for (const char* length : {"64", "9007199254740992", "0", "-1", "1e30"}) {
      text += fmt::format(
          R"({{"kind":"speed","variant":"odd","pass":"forward","q_len":{0},)"
          R"("kv_len":{0},"cache":"warm","median_ns":{1},"ns":[{1},{1}],)"
          R"("flops":{1},)"
          R"("bytes":{1},"peak_share":{1},"bandwidth_share":{1}}})"
          "\n",
          length, number);
      text += fmt::format(
          R"({{"kind":"extrapolation","variant":"odd","protocol":"tail",)"
          R"("switch":"plain","seed":{0},"train_len":{0},"eval_len":{0},)"
          R"("bits_per_byte":{1},"low":{1},"high":{1}}})"
          "\n",
          length, number);
      text += fmt::format(
          R"({{"kind":"memory","variant":"odd","pass":"forward","q_len":{0},)"
          R"("kv_len":{0},"scratch_bytes":{0},"saved_bytes":{0},)"
          R"("state_bytes":{0},"rss_growth_bytes":{1}}})"
          "\n",
          length, number);
    }
  }
  const Report report = MakeFrom(text);
  CHECK(Mentions(report.markdown, "3.00 ms"));
  CHECK(Mentions(report.markdown, "remarks on reading the record"));
  CHECK_FALSE(ShowsNoNumber(report.markdown));
  for (const Element& element : report.elements) {
    if (element.attributes.contains("type")) {
      CHECK_FALSE(ShowsNoNumber(element.raw));
    }
  }
}

TEST_CASE("Bytes changed at random make an error or a sound report") {
  const std::string text = Load(kFixture);
  std::mt19937 random(7);
  ReportFolder folder;
  size_t reports = 0;
  for (int round = 0; round < 24; ++round) {
    std::string mutant = text;
    for (int change = 0; change < 40; ++change) {
      mutant[random() % mutant.size()] = static_cast<char>(random());
    }
    mutant.resize(mutant.size() - random() % 2000);
    const std::string path = folder.Run(mutant);
    INFO("round " << round);
    const Status status = WriteReport({path}, folder.File("out"));
    if (!status.ok()) {
      CHECK(Mentions(status.message(), path));
      continue;
    }
    ++reports;
    CheckPage(folder.Html());
    CheckMarkdown(folder.Markdown());
  }
  CHECK(reports > 0);
}

TEST_CASE("The report of a long run is a file to send around") {
  ReportFolder folder;
  const std::filesystem::path path = std::filesystem::path(SACCADE_SOURCE_DIR) /
                                     "reports/example/standard/run.jsonl";
  const Report report = Make(folder, {path});
  // It grows with what was compared, and little beside.
  std::ifstream file(path);
  size_t variants = 0;
  for (std::string line; std::getline(file, line);)
    variants += Mentions(line, R"("kind":"variant")");
  CHECK(variants > 0);
  CHECK(report.html.size() < 700'000 + 100'000 * variants);
  CHECK(report.html.size() > report.markdown.size());
}

TEST_CASE("A report that cannot be written leaves the old one") {
  ReportFolder folder;
  const Report old = Make(folder, {kFixture});
  const std::string other = folder.Run(Lines({Header()}));
  rlimit saved = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &saved) == 0);
  rlimit tight = saved;
  tight.rlim_cur = 1000;  // as a disk with no more room
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const Status full = WriteReport({other}, folder.File("out"));
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &saved) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(full.code() == Code::kExhausted);
  CHECK(Mentions(full.message(), "report.html"));
  CHECK(folder.Html() == old.html);
  CHECK(folder.Markdown() == old.markdown);
  CHECK_FALSE(std::filesystem::exists(folder.File("out/report.html.part")));
  const Status blocked = WriteReport({kFixture}, other + "/out");
  CHECK(blocked.code() == Code::kIo);
  CHECK(Mentions(blocked.message(), other));
}

}  // namespace
}  // namespace saccade::reports
