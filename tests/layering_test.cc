// The shape of the house, read from the source tree: who includes whom, and
// that the list of variants is the only place that lists them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "saccade/variant.h"

namespace saccade {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = SACCADE_SOURCE_DIR;

std::string Read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool IsSource(const fs::path& path) {
  return path.extension() == ".h" || path.extension() == ".cc" ||
         path.extension() == ".def";
}

// Sources of a top folder, relative to the root.
std::vector<std::string> SourcesOf(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder))
    if (entry.is_regular_file() && IsSource(entry.path()))
      files.push_back(fs::relative(entry.path(), kRoot).generic_string());
  std::sort(files.begin(), files.end());
  REQUIRE(!files.empty());
  return files;
}

// What a file includes in quotes, as paths from the root where they are ours.
std::vector<std::string> IncludesOf(const std::string& file) {
  static const std::regex include(R"(^\s*#\s*include\s*"([^"]+)\")");
  std::vector<std::string> found;
  std::istringstream lines(Read(kRoot / file));
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, include)) continue;
    const std::string name = match[1];
    for (const fs::path& base :
         {fs::path("."), fs::path("common"), fs::path(file).parent_path()})
      if (fs::exists(kRoot / base / name)) {
        found.push_back((base / name).lexically_normal().generic_string());
        break;
      }
  }
  return found;
}

bool StartsWithAny(const std::string& s, const std::vector<std::string>& of) {
  return std::any_of(of.begin(), of.end(), [&](const std::string& prefix) {
    return s.rfind(prefix, 0) == 0;
  });
}

// Every include of `folder` begins with one of `allowed`.
void CheckIncludes(const std::string& folder,
                   const std::vector<std::string>& allowed) {
  for (const std::string& file : SourcesOf(folder))
    for (const std::string& name : IncludesOf(file))
      CHECK_MESSAGE(StartsWithAny(name, allowed), file, " includes ", name);
}

TEST_CASE("common includes nothing but common") {
  CheckIncludes("common", {"common/"});
}

TEST_CASE("public headers include public headers only") {
  CheckIncludes("common/saccade", {"common/saccade/"});
}

TEST_CASE("records include records and status only") {
  CheckIncludes("common/record", {"common/record/", "common/saccade/status.h"});
}

TEST_CASE("engines and simd know nothing of records") {
  for (const std::string folder :
       {"common/engine", "common/simd", "common/saccade"})
    for (const std::string& file : SourcesOf(folder))
      for (const std::string& name : IncludesOf(file))
        CHECK_MESSAGE(!StartsWithAny(name, {"common/record/"}), file,
                      " includes ", name);
}

TEST_CASE("variants include common, and not one another") {
  for (const std::string& file : SourcesOf("variants"))
    for (const std::string& name : IncludesOf(file)) {
      const bool own = name == "variants/variants.def" || name == file;
      CHECK_MESSAGE((own || StartsWithAny(name, {"common/"})), file,
                    " includes ", name);
      CHECK_MESSAGE(!StartsWithAny(name, {"common/record/"}), file,
                    " includes ", name);
    }
}

TEST_CASE("bench reaches variants through the list only") {
  CheckIncludes("bench", {"common/", "bench/", "reports/"});
}

TEST_CASE("reports read records, and nothing of what was measured") {
  CheckIncludes("reports",
                {"reports/", "common/record/", "common/saccade/status.h"});
}

// Files from which `file` comes back to itself, the last one first.
bool ComesBack(const std::string& file, std::set<std::string>& done,
               std::vector<std::string>& way) {
  if (std::find(way.begin(), way.end(), file) != way.end()) {
    way.push_back(file);
    return true;
  }
  if (!done.insert(file).second) return false;
  way.push_back(file);
  for (const std::string& name : IncludesOf(file)) {
    // Highway's way to compile a file once a target.
    if (name == file) continue;
    if (ComesBack(name, done, way)) return true;
  }
  way.pop_back();
  return false;
}

TEST_CASE("includes do not run in circles") {
  std::set<std::string> done;
  for (const std::string folder :
       {"common", "variants", "bench", "reports", "tests"})
    for (const std::string& file : SourcesOf(folder)) {
      std::vector<std::string> way;
      const bool back = ComesBack(file, done, way);
      std::string names;
      for (const std::string& name : way) names += " " + name;
      CHECK_MESSAGE(!back, names);
    }
}

TEST_CASE("a variant's file is short") {
  std::vector<int64_t> lines;
  for (const std::string& file : SourcesOf("variants"))
    if (fs::path(file).extension() == ".cc") {
      const std::string text = Read(kRoot / file);
      lines.push_back(std::count(text.begin(), text.end(), '\n'));
    }
  std::sort(lines.begin(), lines.end());
  CHECK(lines[lines.size() / 2] < 250);
}

TEST_CASE("no code outside variants names a variant") {
  // Comments and examples in help texts may; a literal that begins with a name
  // is code that knows it.
  for (const std::string folder : {"common", "bench", "reports"})
    for (const std::string& file : SourcesOf(folder)) {
      std::istringstream lines(Read(kRoot / file));
      int number = 0;
      for (std::string line; std::getline(lines, line);) {
        ++number;
        const std::string code = line.substr(0, line.find("//"));
        for (const Variant* v : Variants())
          CHECK_MESSAGE(
              code.find('"' + std::string(v->name)) == std::string::npos, file,
              ":", number, " names ", v->name);
      }
    }
}

TEST_CASE("every line of the list has its file, and every file its line") {
  std::set<std::string> listed, files;
  const std::string list = Read(kRoot / "variants/variants.def");
  const std::regex entry(R"((^|\n)SACCADE_VARIANT\(([a-z0-9_]+)\))");
  for (std::sregex_iterator it(list.begin(), list.end(), entry), end; it != end;
       ++it)
    listed.insert((*it)[2]);
  for (const std::string& file : SourcesOf("variants"))
    if (fs::path(file).extension() == ".cc" && file != "variants/registry.cc")
      files.insert(fs::path(file).stem().string());
  CHECK(listed == files);
  CHECK(listed.size() == Variants().size());
  std::set<std::string> names;
  for (const Variant* v : Variants()) {
    std::string id(v->name);
    CHECK(std::count(id.begin(), id.end(), '.') == 1);
    std::replace(id.begin(), id.end(), '.', '_');
    names.insert(id);
  }
  CHECK(names == listed);
}

TEST_CASE("every entry says what it is and where it comes from") {
  for (const Variant* v : Variants()) {
    INFO(v->name);
    CHECK(Find(v->name) == v);
    CHECK(v->title.size() > 10);
    CHECK(v->source.size() > 10);
    CHECK(v->kappa > 0);
    CHECK(v->inputs.size() <= kMaxExtras);
    CHECK((v->cost && v->plan && v->oracle));
    for (const Knob& knob : v->knobs) {
      INFO(knob.name);
      CHECK(!knob.doc.empty());
      if (!knob.choices.empty()) continue;
      CHECK(knob.low <= knob.initial);
      CHECK(knob.initial <= knob.high);
    }
  }
}

TEST_CASE("header guards are the path") {
  for (const std::string folder :
       {"common", "variants", "bench", "reports", "tests"})
    for (const std::string& file : SourcesOf(folder)) {
      if (fs::path(file).extension() != ".h") continue;
      // Headers for Highway's foreach_target are included once a target and
      // have a guard of another kind.
      if (file.find("-inl.h") != std::string::npos) continue;
      std::string path = file;
      if (path.rfind("common/saccade/", 0) == 0) path.erase(0, 15);
      std::string guard = "SACCADE_" + path + "_";
      for (char& c : guard)
        c = std::isalnum(static_cast<unsigned char>(c))
                ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                : '_';
      CHECK_MESSAGE(
          Read(kRoot / file).find("#ifndef " + guard) != std::string::npos,
          file, " has no guard ", guard);
    }
}

TEST_CASE("files stay of a size to read") {
  for (const std::string folder :
       {"common", "variants", "bench", "reports", "tests"})
    for (const std::string& file : SourcesOf(folder)) {
      const std::string text = Read(kRoot / file);
      const auto lines = std::count(text.begin(), text.end(), '\n');
      const bool header = fs::path(file).extension() == ".h" &&
                          file.find("-inl.h") == std::string::npos;
      // Tests are lists of statements, and may be longer.
      const int most = file.rfind("tests/", 0) == 0 ? 700 : header ? 320 : 600;
      CHECK_MESSAGE(lines <= most, file, " has ", lines, " lines");
    }
}

TEST_CASE("a stranger finds the way in") {
  for (const char* name :
       {"README.md", "LICENSE", "CMakeLists.txt", "CMakePresets.json",
        "bench/quickstart.sh", "bench/packages.txt", "tests/run.sh"})
    CHECK_MESSAGE(fs::exists(kRoot / name), name);
  const std::string readme = Read(kRoot / "README.md");
  CHECK(readme.find("bench/quickstart.sh") != std::string::npos);
  CHECK(readme.find("tests/run.sh") != std::string::npos);
}

}  // namespace
}  // namespace saccade
