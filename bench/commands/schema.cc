// saccade schema: what a record may hold, and whether files hold to it.
#include "record/schema.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "bench/choices.h"
#include "bench/command.h"
#include "record/record.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
A run's record is a file of JSON lines; the schema is of one line. --validate
names every line that does not hold to it, and exits with 2 if there is one.

Examples:
  saccade schema > schema.json
  saccade schema --format markdown
  saccade schema --validate my-run another-run/run.jsonl)";

struct Options {
  std::string format = "json";
  std::vector<std::string> files;
};

int ValidateFiles(const std::vector<std::string>& files, const Host& host) {
  bool valid = true;
  for (const std::string& file : files) {
    const std::string path = record::RunFile(file);
    const Result<int64_t> wrong = record::CheckRun(
        path,
        [&](const std::string& line) { fmt::print(host.out, "{}\n", line); });
    if (!wrong.ok()) {
      Complain(wrong.status(), host);
    } else if (*wrong == 0) {
      fmt::print(host.out, "{}: valid\n", path);
    } else {
      Say(host, fmt::format("{}: {} line{} not valid", path, *wrong,
                            *wrong == 1 ? " is" : "s are"));
    }
    valid &= wrong.ok() && *wrong == 0;
  }
  return valid ? kExitOk : kExitUsage;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::Option* const format =
      TakesOneOf(app.add_option("--format", o->format,
                                "JSON Schema, draft 2020-12, or tables"),
                 {"json", "markdown"})
          ->capture_default_str();
  app.add_option("--validate", o->files, "Folders or run.jsonl files to check")
      ->type_name(kFile)
      ->excludes(format);
  return [o](const Invocation& call) {
    if (!o->files.empty()) return ValidateFiles(o->files, call.host);
    fmt::print(call.host.out, "{}",
               o->format == "json" ? record::SchemaJson().dump(2) + "\n"
                                   : record::SchemaMarkdown());
    return kExitOk;
  };
}

}  // namespace

namespace commands {
const Command schema = {"schema", "Show the schema of records, or check files",
                        kExamples, Declare};
}

}  // namespace saccade::bench
