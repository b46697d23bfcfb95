// What the tests of the report have in common: a folder, records, and a reader
// of HTML that is stricter than browsers are.
#ifndef SACCADE_TESTS_REPORT_FIXTURE_H_
#define SACCADE_TESTS_REPORT_FIXTURE_H_

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "record/record.h"
#include "record/schema.h"
#include "reports/report.h"
#include "tests/folder.h"

namespace saccade::reports {

using Fields = record::Json;

inline std::string Load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void Save(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::filesystem::path DataFile(const std::string& name) {
  return std::filesystem::path(SACCADE_SOURCE_DIR) / "tests/data" / name;
}

inline bool Mentions(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

inline std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// A folder of its own for each test, removed at the end.
class ReportFolder : public Folder {
 public:
  std::string File(const std::string& name) const { return *this / name; }

  // Writes a run's file and gives its path.
  std::string Run(const std::string& text, const std::string& name = "run") {
    const std::string path = File(name + ".jsonl");
    Save(path, text);
    return path;
  }
  std::string Html() const { return Load(File("out/report.html")); }
  std::string Markdown() const { return Load(File("out/report.md")); }
};

// ---- records

inline Fields Header(const std::string& cpu = "a processor") {
  return {{"kind", "run"},
          {"schema", record::kSchemaVersion},
          {"cpu", cpu},
          {"threads", 2},
          {"compiler", "g++ 0"},
          {"commit", "0123abc"},
          {"command", "saccade compare"},
          {"started", "2025-01-01T00:00:00Z"}};
}

// A forward pass with its raw samples.
inline Fields Speed(const std::string& variant, int64_t length,
                    const std::vector<double>& ns) {
  Fields fields = {{"kind", "speed"}, {"variant", variant}, {"pass", "forward"},
                   {"q_len", length}, {"kv_len", length},   {"cache", "warm"},
                   {"ns", ns}};
  std::vector<double> sorted = ns;
  std::sort(sorted.begin(), sorted.end());
  fields["median_ns"] = sorted[sorted.size() / 2];
  return fields;
}

inline Fields Memory(const std::string& variant, const std::string& pass,
                     int64_t length, int64_t scratch, int64_t state) {
  return {{"kind", "memory"}, {"variant", variant},  {"pass", pass},
          {"q_len", length},  {"kv_len", length},    {"scratch_bytes", scratch},
          {"saved_bytes", 0}, {"state_bytes", state}};
}

inline Fields Verify(const std::string& variant, const std::string& pass,
                     int64_t failures) {
  return {{"kind", "verify"}, {"variant", variant},
          {"pass", pass},     {"target", "AVX2"},
          {"cases", 10},      {"failures", failures},
          {"kappa", 8},       {"worst", failures > 0 ? 99.0 : 2.0}};
}

inline Fields Text(const std::string& variant, const std::string& change,
                   int64_t length, double bits, int64_t seed = 1) {
  return {{"kind", "extrapolation"},
          {"variant", variant},
          {"protocol", "same-target"},
          {"switch", change},
          {"seed", seed},
          {"train_len", 128},
          {"eval_len", length},
          {"bits_per_byte", bits}};
}

inline Fields Failed(Fields fields, const std::string& status,
                     const std::string& reason) {
  for (const char* result : {"median_ns", "ns", "scratch_bytes", "saved_bytes",
                             "state_bytes", "bits_per_byte"}) {
    fields.erase(result);
  }
  fields["status"] = status;
  fields["reason"] = reason;
  return fields;
}

// A run's file as text.
inline std::string Lines(const std::vector<Fields>& records) {
  std::string text;
  for (const Fields& fields : records) text += fields.dump() + "\n";
  return text;
}

// A run as read. Every record must be one that a writer may write.
inline record::Run RunOf(const std::vector<Fields>& records) {
  record::Run run;
  run.header = record::Record(Header());
  for (const Fields& fields : records) {
    const Status status = record::Validate(fields, record::Strictness::kStrict);
    REQUIRE_MESSAGE(status.ok(), status.message());
    run.records.emplace_back(fields);
  }
  return run;
}

// ---- HTML

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  size_t begin = 0, end = 0;  // of the start tag in the page
  std::string raw;            // of script and style: what is inside
};

// The start tags of a page in their order. Fails the test where the page is
// not well-formed: an element left open, crossed or closed twice, an attribute
// without quotes or given twice, a bare '<' or '&'.
std::vector<Element> ParseHtml(const std::string& html);

// Facts that hold for every report, whatever the records were; the elements.
std::vector<Element> CheckPage(const std::string& html);

// The same for the Markdown: rows are as wide as their heads, and nothing in
// it can become an element or break out of its line.
void CheckMarkdown(const std::string& markdown);

}  // namespace saccade::reports

#endif  // SACCADE_TESTS_REPORT_FIXTURE_H_
