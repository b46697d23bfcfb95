// What a report offers to choose by: who is dominated, the roofline, filters,
// the commands behind figures, and a note.
#include <doctest/doctest.h>

#include "report_fixture.h"
#include "reports/repeat.h"
#include "reports/sections.h"

namespace saccade::reports {
namespace {

struct Made {
  Model model;
  Verdict verdict;
  Page page;

  explicit Made(const std::vector<Fields>& records)
      : model(MakeModel({RunOf(records)})), verdict(MakeVerdict(model)) {
    AddAnswers(model, verdict, &page);
    AddFilters(model, &page);
  }
};

// A variant that takes `ns` and reads text at so many bits a byte.
std::vector<Fields> Option(const std::string& variant, double ns, double bits) {
  return {Speed(variant, 64, {ns, ns, ns, ns, ns, ns}),
          Text(variant, "plain", 128, bits)};
}

std::vector<Fields> Join(std::initializer_list<std::vector<Fields>> lists) {
  std::vector<Fields> all;
  for (const auto& list : lists)
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

TEST_CASE("A variant is dominated by one that is no worse and surely better") {
  const Made made(Join({Option("a.fast", 1e6, 3), Option("a.good", 4e6, 2),
                        Option("a.slow", 5e6, 3), Option("a.tie", 4e6, 2.01),
                        Option("a.poor", 4e6, 2.5)}));
  REQUIRE(made.page.answer.pictures.size() == 1);
  const Table& table = made.page.answer.pictures[0].table;
  std::map<std::string, std::string> by;
  for (const auto& row : table.rows) by[row[0].text] = row.back().text;
  CHECK(by == std::map<std::string, std::string>{{"a.fast", "none"},
                                                 {"a.good", "none"},
                                                 {"a.slow", "a.good"},
                                                 {"a.tie", "none"},
                                                 {"a.poor", "a.good"}});
  // Faded are the same.
  for (const Json& series : made.page.answer.pictures[0].chart.at("series")) {
    if (series.at("bare").get<bool>()) continue;
    const Json& point = series.at("points").at(0);
    const bool faded = point.size() > 5 && point[5].get<bool>();
    CHECK(faded == (by.at(series.at("name")) != "none"));
  }
}

TEST_CASE("What fails its check is in no picture of choices") {
  const Made made(Join({Option("a.one", 1e6, 3),
                        Option("a.two", 4e6, 2),
                        Option("a.wrong", 1e5, 1),
                        {Verify("a.wrong", "forward", 1)}}));
  REQUIRE(made.page.answer.pictures.size() == 1);
  CHECK(made.page.answer.pictures[0].table.rows.size() == 2);
}

TEST_CASE("A roofline tells work a second as a share of the lower roof") {
  const auto peak = [](const char* name, const char* rate, double value) {
    return Fields{
        {"kind", "peak"}, {"peak", name}, {"threads", 2}, {rate, value}};
  };
  Fields low = Speed("a.low", 64, {1e6}), high = Speed("a.high", 64, {1e6});
  for (Fields* cell : {&low, &high}) (*cell)["threads"] = 2;
  low["flops"] = 1e8;  // 100 GFLOP/s at 10 FLOPs a byte, below 20 GB/s
  low["bytes"] = 1e7;
  high["flops"] = 2e8;  // 200 GFLOP/s at 1000 FLOPs a byte
  high["bytes"] = 2e5;
  const Made made(
      {peak("fma", "gflops", 400), peak("stream", "gbps", 20), low, high});
  const Figure figure = RooflineFigure(made.model, 0);
  REQUIRE(figure.table.rows.size() == 2);
  const auto row = [&](size_t i) {
    std::string text;
    for (const Cell& cell : figure.table.rows[i]) text += cell.text + " ";
    return text;
  };
  CHECK(row(0) == "a.low forward 64 10.0 100 50 % ");
  CHECK(row(1) == "a.high forward 64 1000 200 50 % ");
  // The slope ends where it meets the level.
  const Json& roof = figure.chart.at("series").back();
  REQUIRE(roof.at("bare").get<bool>());
  REQUIRE(roof.at("points").size() == 3);
  CHECK(roof.at("points")[1] == Json({20.0, 400.0}));
}

TEST_CASE("There is a verdict for each pass and length, and filters for them") {
  Fields decode = Speed("a.one", 128, {5e3});
  decode["pass"] = "decode";
  const Made made({Speed("a.one", 64, {1e6}), Speed("a.one", 128, {4e6}),
                   Speed("a.two", 64, {3e6}), decode});
  CHECK(made.page.answer.title == "The forward pass at n = 128");
  std::vector<std::string> titles;
  for (const Answer& other : made.page.others) titles.push_back(other.title);
  REQUIRE(titles == std::vector<std::string>{"The forward pass at n = 64",
                                             "Decoding at n = 128"});
  const Table& decoding = made.page.others[1].verdict;
  CHECK(decoding.columns[2].text == "time a token, n = 128");
  CHECK(decoding.rows[0][2].text == "5.00 µs");
  std::vector<std::string> names;
  for (const Filter& filter : made.page.filters) names.push_back(filter.name);
  CHECK(names == std::vector<std::string>{"pass", "from", "to"});
}

TEST_CASE("Settings that differ in storage and threads can be filtered by") {
  std::vector<Fields> records;
  for (const char* const dtype : {"f32", "bf16"}) {
    for (const int threads : {1, 2}) {
      Fields speed = Speed("a.one", 64, {1e6});
      speed["dtype"] = dtype;
      speed["threads"] = threads;
      records.push_back(speed);
    }
  }
  const Made made(records);
  REQUIRE(made.page.filters.size() == 2);
  CHECK(made.page.filters[0].name == "dtype");
  CHECK(made.page.filters[1].name == "threads");
  REQUIRE(made.page.settings.size() == 4);
  CHECK(made.page.settings[3].at("dtype") == "bf16");
  CHECK(made.page.settings[3].at("threads") == "2 threads");
}

TEST_CASE("A figure's command is one that a shell takes as it is meant") {
  Fields speed = Speed("a'; rm -rf ~ '", 64, {1e6});
  speed["repeat"] =
      "saccade compare --measure speed --only 'x' -n 64 -d 32 --heads 2 "
      "--dtype f32 --mask causal --pass forward -t 2";
  const Made made(std::vector<Fields>{speed});
  CHECK(RepeatCells(made.model, *made.model.setting(), "speed", {"forward"},
                    {0}, {64, 128}) ==
        "saccade compare --measure speed --only 'a'\\''; rm -rf ~ '\\''' "
        "--pass forward -n 64,128 -d 32 --heads 2 --dtype f32 --mask causal "
        "-t 2");
  CHECK(RepeatTraining(made.model, {"--protocols", "$(reboot)"}, {}) ==
        "saccade compare --protocols '$(reboot)'");
  CHECK(Quote("") == "''");
}

TEST_CASE("Pooled runs that were made in different ways are repeated each") {
  Model model;
  for (const char* command :
       {"saccade compare --profile quick --out a", "saccade compare --out b",
        "saccade compare --out c --profile quick"}) {
    model.headers.emplace_back(Fields{{"command", command}});
  }
  CHECK(RepeatTraining(model, {"--probes", "all"}, {}) ==
        "saccade compare --profile quick --probes all\n"
        "saccade compare --probes all");
}

TEST_CASE("A note is shown first, and is text") {
  ReportFolder folder;
  const std::string run =
      folder.Run(Lines({Header(), Speed("a.one", 64, {1e6})}));
  REQUIRE(WriteReport({run}, folder.File("out"), "see <b>this</b> | {{title}}")
              .ok());
  const std::string html = folder.Html();
  CheckPage(html);
  CheckMarkdown(folder.Markdown());
  const size_t at = html.find("see &lt;b&gt;this&lt;/b&gt; | {{title}}");
  REQUIRE(at != std::string::npos);
  CHECK(at < html.find("<main"));
}

}  // namespace
}  // namespace saccade::reports
