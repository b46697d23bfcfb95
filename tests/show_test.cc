// A table of records says the same in every format.
#include "reports/show.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <sstream>

#include "tests/program.h"
#include "tests/report_fixture.h"

namespace saccade::reports {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// What RFC 4180 says, and nothing more lenient.
Rows ParseCsv(const std::string& text) {
  Rows rows;
  for (size_t i = 0; i < text.size();) {
    std::vector<std::string>& row = rows.emplace_back();
    while (true) {
      std::string& cell = row.emplace_back();
      if (text[i] == '"') {
        for (++i; text.at(i) != '"' || text.at(i + 1) == '"'; ++i) {
          if (text[i] == '"') ++i;
          cell += text[i];
        }
        ++i;
      } else {
        while (text.at(i) != ',' && text[i] != '\r') {
          REQUIRE((text[i] != '"' && text[i] != '\n'));
          cell += text[i++];
        }
      }
      if (text.at(i++) == ',') continue;
      REQUIRE(text.at(i++) == '\n');
      break;
    }
    CHECK(row.size() == rows.front().size());
  }
  return rows;
}

// The rows of a Markdown table, heads first.
Rows ParseMarkdown(const std::string& text) {
  Rows rows;
  for (const std::string& line : LinesOf(text)) {
    if (line.empty() || line[0] != '|' || Mentions(line, "---")) continue;
    std::vector<std::string>& row = rows.emplace_back();
    for (size_t i = 1; i < line.size();) {
      const size_t end = line.find(" |", i);
      row.push_back(line.substr(i + 1, end - i - 1));
      row.back().erase(std::remove(row.back().begin(), row.back().end(), '\\'),
                       row.back().end());
      i = end + 2;
    }
  }
  return rows;
}

// Those of an aligned one without empty cells and spaces in them.
Rows ParseText(const std::string& text) {
  Rows rows;
  for (const std::string& line : LinesOf(text)) {
    std::istringstream words(line);
    rows.push_back({std::istream_iterator<std::string>(words), {}});
  }
  rows.erase(rows.begin() + 3);  // the rule
  rows.erase(rows.begin(), rows.begin() + 2);
  return rows;
}

record::Run Sample() {
  Fields one = Speed("softmax.flash", 1024, {1234567.8912, 1.5e6, 1e6});
  Fields two = Speed("softmax.window:size=2,sinks=1", 2048, {0.123456789});
  one["peak_share"] = 2.0 / 3;
  two["peak_share"] = 1e-7;
  one["flops"] = two["flops"] = 34359738368.0;
  one["threads"] = two["threads"] = 2;
  return RunOf({one, two, Memory("softmax.flash", "forward", 1024, 1, 2)});
}

std::string Show(const record::Run& run, ShowOptions options,
                 const std::string& kind = "speed") {
  std::vector<ShownRecord> records;
  for (const record::Record& r : run.records)
    if (r.kind() == kind) records.push_back({&r, "run"});
  return ShowRecords(records, options);
}

TEST_CASE("a number has the same digits in every format") {
  const record::Run run = Sample();
  const std::vector<std::string> columns = {"variant", "median_ns",
                                            "peak_share", "flops"};
  for (const int digits : {3, 6, 0}) {
    CAPTURE(digits);
    ShowOptions o = {.columns = columns, .digits = digits};
    const Rows text = ParseText(Show(run, o));
    o.format = ShowFormat::kMarkdown;
    const Rows markdown = ParseMarkdown(Show(run, o));
    o.format = ShowFormat::kCsv;
    const Rows csv = ParseCsv(Show(run, o));
    o.format = ShowFormat::kJsonl;
    Rows json = {columns};
    for (const std::string& line : LinesOf(Show(run, o))) {
      // Read as text, or the digits would be the parser's.
      std::vector<std::string>& row = json.emplace_back();
      const Fields fields = Fields::parse(line);
      for (const std::string& column : columns) {
        const size_t begin =
            line.find('"' + column + "\": ") + column.size() + 4;
        row.push_back(
            fields[column].is_string()
                ? fields[column].get<std::string>()
                : line.substr(begin, line.find_first_of(",}", begin) - begin));
      }
    }
    REQUIRE(csv.size() == 3);
    CHECK(text == csv);
    CHECK(markdown == csv);
    CHECK(json == csv);
    CHECK(csv[1][1] == (digits == 0 ? "1234567.8912" : "1234568"));
    CHECK(csv[1][3] == "34359738368");
    if (digits == 0) CHECK(std::stod(csv[1][2]) == 2.0 / 3);
  }
}

TEST_CASE("digits before the point are never rounded away") {
  CHECK(FormatDigits(22412346.4, 3) == "22412346");
  CHECK(FormatDigits(0.7983746, 6) == "0.798375");
  CHECK(FormatDigits(2.5, 6) == "2.5");
  CHECK(FormatDigits(-0.0, 6) == "0");
  CHECK(FormatDigits(99999.96, 6) == "100000");
  CHECK(FormatDigits(1e-9, 3) == "1e-09");
  CHECK(FormatDigits(1e300, 3) == "1e+300");
  for (const double x : {0.1, 2.0 / 3, 1e22, 5e-300, 123456789.125})
    CHECK(std::stod(FormatDigits(x, 0)) == x);
}

TEST_CASE("text shows what varies, and once what is common") {
  const std::vector<std::string> lines = LinesOf(Show(Sample(), {}));
  REQUIRE(lines.size() == 6);
  CHECK(lines[0] ==
        "2 records: kind speed, pass forward, kv_len as q_len, threads 2, "
        "cache warm, flops "
        "34359738368, status ok");
  const Rows table = ParseText(Show(Sample(), {}));
  CHECK(table[0] == std::vector<std::string>{"variant", "q_len", "median_ns",
                                             "peak_share"});
  // What is measured is a column even when there is one record.
  CHECK(Mentions(Show(Sample(), {}, "memory"), "state_bytes"));
}

TEST_CASE("a program gets every column, in every row of CSV") {
  const Rows csv = ParseCsv(Show(Sample(), {.format = ShowFormat::kCsv}));
  for (const char* column : {"kind", "variant", "threads", "status"})
    CHECK(std::count(csv[0].begin(), csv[0].end(), column) == 1);
  CHECK(std::count(csv[0].begin(), csv[0].end(), "ns") == 0);
  const Rows all = ParseCsv(
      Show(Sample(), {.format = ShowFormat::kCsv, .columns = {"all"}}));
  const auto ns = std::find(all[0].begin(), all[0].end(), "ns");
  REQUIRE(ns != all[0].end());
  CHECK(all[1][static_cast<size_t>(ns - all[0].begin())] ==
        "[1234568, 1500000, 1000000]");
}

TEST_CASE("what CSV and Markdown could misread is quoted") {
  const std::string reason = "it said \"no\", twice,\r\nand | left <b>";
  const record::Run run =
      RunOf({Failed(Speed("a.b", 1, {1}), "skipped", reason)});
  const std::vector<std::string> columns = {"variant", "reason", "kv_len"};
  const Rows csv =
      ParseCsv(Show(run, {.format = ShowFormat::kCsv, .columns = columns}));
  CHECK(csv[1] == std::vector<std::string>{"a.b", reason, "1"});
  const std::string markdown =
      Show(run, {.format = ShowFormat::kMarkdown, .columns = columns});
  CHECK(!Mentions(markdown, "<b>"));
  CHECK(Mentions(markdown, "\\|"));
  const std::string json =
      Show(run, {.format = ShowFormat::kJsonl, .columns = columns});
  CHECK(Fields::parse(json)["reason"] == reason);
}

TEST_CASE("rows are sorted by fields, those without one last") {
  const record::Run run = RunOf({Speed("b.b", 10, {3}),
                                 Failed(Speed("c.c", 10, {1}), "skipped", "x"),
                                 Speed("a.a", 9, {5}), Speed("b.a", 10, {4})});
  const auto order = [&](std::vector<std::string> sort) {
    std::string names;
    const Rows rows = ParseCsv(Show(run, {.format = ShowFormat::kCsv,
                                          .columns = {"variant"},
                                          .sort = std::move(sort)}));
    for (size_t i = 1; i < rows.size(); ++i) names += rows[i][0] + " ";
    return names;
  };
  CHECK(order({}) == "b.b c.c a.a b.a ");
  CHECK(order({"median_ns"}) == "b.b b.a a.a c.c ");
  CHECK(order({"-median_ns"}) == "a.a b.a b.b c.c ");
  CHECK(order({"kv_len"}) == "a.a b.b c.c b.a ");
  CHECK(order({"-kv_len", "variant"}) == "b.a b.b c.c a.a ");
}

using bench::Answer, bench::Saccade;

TEST_CASE("the command shows what is asked for, and says what else there is") {
  const ReportFolder folder;
  std::vector<Fields> records = {Header()};
  for (const record::Record& r : Sample().records)
    records.push_back(r.fields());
  folder.Write("run.jsonl", Lines(records));
  const Answer times = Saccade({"show", folder.path()});
  CHECK(times.code == bench::kExitOk);
  CHECK(Mentions(times.out, "median_ns"));
  CHECK(!Mentions(times.out, "scratch_bytes"));
  CHECK(Mentions(times.err, "also recorded: 1 memory"));
  const auto rows = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"show", folder.path(), "--format",
                                          "csv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Answer a = Saccade(arguments);
    INFO(a.err);
    REQUIRE(a.code == bench::kExitOk);
    return ParseCsv(a.out).size() - 1;
  };
  CHECK(rows({"--kind", "all"}) == 4);  // the header too
  CHECK(rows({"--kind", "speed,memory"}) == 3);
  CHECK(rows({"--only", "softmax.w*"}) == 1);
  CHECK(rows({"--only", "softmax.window:size=2,sinks=1,softmax.flash"}) == 2);
  CHECK(rows({"--pass", "forward"}) == 2);
}

TEST_CASE("what the command cannot show it says in a line") {
  const ReportFolder folder;
  folder.Write("run.jsonl", Lines({Header(), Speed("a.b", 1, {1})}));
  const auto refused = [&](const std::vector<std::string>& more,
                           const std::string& what) {
    std::vector<std::string> arguments = {"show", folder.path()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Answer a = Saccade(arguments);
    CHECK(a.code == bench::kExitUsage);
    CHECK(a.out.empty());
    INFO(a.err);
    CHECK(LinesOf(a.err).size() == 1);
    CHECK(Mentions(a.err, what));
  };
  refused({"--columns", "variant,median_n"}, "did you mean median_ns?");
  refused({"--sort", "-kv_le"}, "did you mean kv_len?");
  refused({"--kind", "sped"}, "did you mean speed?");
  refused({"--pass", "forwards"}, "forwards");
  refused({"--only", "x*"}, "no record");
  refused({"--digits", "18"}, "18");
}

}  // namespace
}  // namespace saccade::reports
