// The schema for programs says what the program itself checks, and files are
// checked line by line.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "record/record.h"
#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::record {
namespace {

using bench::Answer, bench::OneLine, bench::Saccade;

// A value that the field may have.
Json Sample(const Field& field) {
  switch (field.type) {
    case Type::kText:
      return field.choices.empty() ? std::string("a text")
                                   : std::string(field.choices.substr(
                                         0, field.choices.find('|')));
    case Type::kCount:
      return field.name == "schema" ? kSchemaVersion : 3;
    case Type::kNumber:
      return field.low;
    case Type::kFlag:
      return true;
    case Type::kNumbers:
      return {field.low, nullptr};
    case Type::kTexts:
      return {"one", "two"};
  }
  return {};
}

std::vector<std::string> Names(std::string_view list) {
  std::istringstream in{std::string(list)};
  std::vector<std::string> names;
  for (std::string name; in >> name;) names.push_back(name);
  return names;
}

// With every field that the kind may have.
Json Whole(const Kind& kind) {
  Json record = {{"kind", kind.name}};
  for (const std::string_view list :
       {kind.identity, kind.result, kind.optional})
    for (const std::string& name : Names(list))
      record[name] = Sample(*FindField(name));
  return record;
}

// Records of every kind, right and wrong in every field.
std::vector<Json> Cases() {
  std::vector<Json> cases = {Json::object(), {{"kind", 1}}, {{"kind", "none"}}};
  for (const Kind& kind : Kinds()) {
    const Json whole = Whole(kind);
    cases.push_back(whole);
    const auto with = [&](const std::string& field, const Json& value) {
      cases.push_back(whole);
      cases.back()[field] = value;
    };
    for (const auto& [field, value] : whole.items()) {
      if (field == "kind") continue;
      cases.push_back(whole);
      cases.back().erase(field);
      with(field, nullptr);
      with(field, "not one of the choices");
      with(field, -1);
      with(field, 2.5);
      with(field, 1e301);
      with(field, true);
      with(field, {1, "two"});
      with(field, {{"an", "object"}});
    }
    with("unheard_of", 1);
    with("status", nullptr);
    for (const char* status : {"ok", "fail", "interrupted", "so so"}) {
      with("status", status);
      with("status", status);
      cases.back()["reason"] = "because";
      cases.push_back({{"kind", kind.name}, {"status", status}});
      for (const std::string& name : Names(kind.identity))
        cases.back()[name] = whole[name];
      cases.push_back(cases.back());
      cases.back()["reason"] = "because";
    }
  }
  return cases;
}

TEST_CASE("the JSON Schema allows what a writer may write, and nothing else") {
  const Folder folder;
  const std::string schema =
      folder.Write("schema.json", Saccade({"schema"}).out);
  const std::vector<Json> cases = Cases();
  std::string lines;
  for (const Json& record : cases) lines += record.dump() + "\n";
  const std::string command =
      fmt::format("python3 {}/tests/schema_check.py {} {}", SACCADE_SOURCE_DIR,
                  schema, folder.Write("lines.jsonl", lines));
  std::FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string verdicts;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe))
    if (c != '\n') verdicts += static_cast<char>(c);
  REQUIRE_MESSAGE(pclose(pipe) == 0, "is python3-jsonschema installed?");
  REQUIRE(verdicts.size() == cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const Status status = Validate(cases[i], Strictness::kStrict);
    CHECK_MESSAGE(status.ok() == (verdicts[i] == '1'), cases[i].dump(), ": ",
                  status.message());
  }
}

TEST_CASE("a file is valid, or every line that is not is named") {
  const Folder folder;
  const Kind& speed = *FindKind("speed");
  const std::string header = Whole(*FindKind("run")).dump() + "\n";
  const std::string good = Whole(speed).dump() + "\n";
  folder.Write("run.jsonl", header + good + "\n" + good);
  const Answer valid = Saccade({"schema", "--validate", folder.path()});
  CHECK(valid.code == bench::kExitOk);
  CHECK(valid.out == (folder / "run.jsonl") + ": valid\n");
  CHECK(valid.err.empty());

  Json odd = Whole(speed);
  odd["speed"] = 1;
  Json late = Whole(speed);
  late["median_ns"] = "late";
  const std::string path = folder.Write(
      "bad.jsonl", header + "{\n" + good + odd.dump() + "\n" + late.dump() +
                       "\n" + header + good.substr(0, 20));
  const Answer bad = Saccade({"schema", "--validate", path});
  CHECK(bad.code == bench::kExitUsage);
  CHECK(OneLine(bad.err));
  std::istringstream said(bad.out);
  for (const char* what :
       {":2: no valid JSON at byte 2", ":4: field \"speed\" does not belong",
        ":5: field \"median_ns\" must be a number", ":6: a second header",
        ":7: cut off"}) {
    std::string line;
    REQUIRE(std::getline(said, line));
    CHECK_MESSAGE(line.find(path + what) == 0, line);
  }
  // One bad file among good ones is enough; all are looked at.
  const Answer both =
      Saccade({"schema", "--validate", path, folder.path(), folder / "none"});
  CHECK(both.code == bench::kExitUsage);
  CHECK(both.out.find(": valid\n") != std::string::npos);
  CHECK(both.err.find("none: No such file") != std::string::npos);
}

TEST_CASE("a file without a header is no run, whatever else it holds") {
  const Folder folder;
  for (const std::string& text :
       {std::string(), std::string("{}\n"), Whole(*FindKind("speed")).dump(),
        std::string("{\"kind\":\"run\",\"schema\":99}\n")}) {
    CAPTURE(text);
    const Answer a =
        Saccade({"schema", "--validate", folder.Write("x.jsonl", text)});
    CHECK(a.code == bench::kExitUsage);
    CHECK(a.out.find("x.jsonl:1: ") != std::string::npos);
  }
}

TEST_CASE("many malformed lines are all named") {
  const Folder folder;
  std::string text = Whole(*FindKind("run")).dump() + "\n";
  for (int i = 0; i < 1000; ++i) text += "?\n";
  std::vector<std::string> said;
  const Result<int64_t> wrong =
      CheckRun(folder.Write("x.jsonl", text),
               [&](const std::string& line) { said.push_back(line); });
  REQUIRE(wrong.ok());
  CHECK(*wrong == 1000);
  CHECK(said.size() == 1000);
}

}  // namespace
}  // namespace saccade::record
