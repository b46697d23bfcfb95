// Variants explained in the words of their own files.
#include "bench/explain.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <regex>

#include "tests/program.h"

namespace saccade::bench {
namespace {

TEST_CASE("every variant's file says what it is, its equation and its source") {
  CHECK(Explanations().size() == Variants().size());
  for (const Variant* v : Variants()) {
    CAPTURE(v->name);
    const std::string text = ExplanationOf(*v);
    CHECK(text.starts_with(std::string(v->name) + ": "));
    CHECK(text.find("\n  ") != std::string::npos);  // a formula
    CHECK(text.find("\nSource: ") != std::string::npos);
  }
}

TEST_CASE("the page of variants is that of their files") {
  std::ifstream in(std::string(SACCADE_SOURCE_DIR) + "/variants/README.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  CHECK_MESSAGE(page == VariantsPage(),
                "write it again: saccade list --markdown > variants/README.md");
  CHECK(Saccade({"list", "--markdown"}).out == VariantsPage());
  // Fences come in pairs.
  const std::regex fence("(^|\n)```");
  const auto fences =
      std::distance(std::sregex_iterator(page.begin(), page.end(), fence), {});
  CHECK(fences >= 2 * static_cast<int>(Variants().size()));
  CHECK(fences % 2 == 0);
}

TEST_CASE("list --explain takes names and globs, and suggests others") {
  const std::string name(Variants().front()->name);
  const Answer one = Saccade({"list", "--explain", name});
  CHECK(one.code == kExitOk);
  CHECK(one.out.starts_with(ExplanationOf(*Variants().front())));
  const Answer all = Saccade({"list", "--explain", "*"});
  for (const Variant* v : Variants())
    CHECK(all.out.find(ExplanationOf(*v)) != std::string::npos);
  std::string wrong = name;
  std::swap(wrong[1], wrong[2]);
  const Answer none = Saccade({"list", "--explain", wrong});
  CHECK(none.code == kExitUsage);
  CHECK(OneLine(none.err));
  CHECK(none.err.find(name) != std::string::npos);
}

}  // namespace
}  // namespace saccade::bench
