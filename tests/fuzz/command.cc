// Command lines, an argument a line; what follows a blank line becomes a file
// of options. They are parsed and checked, and nothing is run.
#include <CLI/CLI.hpp>
#include <sstream>

#include "bench/cell_server.h"
#include "bench/cli.h"
#include "bench/cli_parse.h"
#include "bench/compare.h"
#include "bench/config_file.h"
#include "bench/memory.h"
#include "bench/verify.h"
#include "tests/fuzz/input.h"

namespace saccade::bench {
namespace {

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Whether the parser takes them; its complaint must say something.
bool Parses(CLI::App* app, const std::vector<std::string>& arguments) {
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app->parse(reversed);
  } catch (const CLI::ParseError& e) {
    fuzz::Require(e.get_exit_code() == 0 || e.what()[0] != '\0');
    return false;
  }
  return true;
}

// What is refused is refused in one line, without characters that a terminal
// obeys.
void RequireOneLine(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  if (RunCommand(arguments, {out, err}) != kExitUsage) return;
  const std::string text = err.str();
  fuzz::Require(text.find('\n') == text.size() - 1);
  for (const char c : text)
    fuzz::Require(c == '\n' || static_cast<unsigned char>(c) >= ' ');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::InputFile file("options.toml");
  const std::string_view text = fuzz::TextOf(data, size);
  const size_t blank = text.find("\n\n");
  std::vector<std::string> arguments = LinesOf(text.substr(0, blank));
  if (blank != std::string_view::npos) {
    arguments.push_back("--config");
    arguments.push_back(file.Write(text.substr(blank + 2)));
  }
  if (arguments.empty()) return 0;
  if (arguments[0] == kServeCommand) return 0;  // it reads its input
  if (arguments[0] == kMemoryCommand) {
    // It measures what it is asked for: only the question is read here.
    fuzz::RequireClear(CellFromJson(arguments.back()).status());
    return 0;
  }
  const CommandLineParser parser = MakeParser();
  const auto all = TakeConfig(*parser.app, arguments);
  fuzz::RequireClear(all.status());
  if (!all.ok()) {
    RequireOneLine(arguments);
    return 0;
  }
  if (!Parses(parser.app.get(), *all)) RequireOneLine(arguments);
  // Of the main job, also what is made of its options.
  CLI::App app("", "saccade");
  CompareOverrides overrides;
  CLI::App* const compare = app.add_subcommand("compare");
  DeclareCompareOptions(compare, &overrides);
  DeclareEverywhere(compare);
  if (Parses(&app, *all))
    fuzz::RequireClear(MakeCompareOptions(overrides).status());
  for (const std::string& argument : arguments)
    fuzz::RequireClear(ParseCase(argument).status());
  return 0;
}

}  // namespace saccade::bench
