// saccade report: the report of recorded runs, made again.
#include "reports/report.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "bench/choices.h"
#include "bench/command.h"
#include "record/record.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Examples:
  saccade report my-run another-run -o both
  saccade report my-run --note 'before the new kernel')";

struct ReportOptions {
  std::vector<std::string> runs;  // files, or folders with a run.jsonl
  std::string out;                // empty: the folder of the first run
  std::string note;
};

int MakeReport(const ReportOptions& options, const Host& host) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> files;
  for (const std::string& run : options.runs)
    files.push_back(fs::is_directory(run, ignored) ? run + "/run.jsonl" : run);
  std::string out = options.out;
  if (out.empty()) out = fs::path(files[0]).parent_path().string();
  if (out.empty()) out = ".";
  for (const std::string& file : files) {
    const Result<record::Run> run = record::ReadRun(file);
    if (!run.ok()) return Complain(run.status(), host);
    for (const std::string& warning : run->warnings) Say(host, warning);
    if (files.size() == 1)
      fmt::print(host.out, "{}\n", reports::VerdictTable(*run));
  }
  const Status status = reports::WriteReport(files, out, options.note);
  if (!status.ok()) return Complain(status, host);
  fmt::print(host.out, "report: {}\n",
             fs::absolute(out + "/report.html", ignored).string());
  return kExitOk;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<ReportOptions>();
  app.add_option("RUN", o->runs, "Folders or run.jsonl files")
      ->type_name(kFolder)
      ->required();
  app.add_option("-o,--out", o->out, "Folder for the report")
      ->type_name(kFolder);
  app.add_option("--note", o->note, "A remark to show on the first page");
  return [o](const Invocation& call) { return MakeReport(*o, call.host); };
}

}  // namespace

namespace commands {
const Command report = {"report", "Make the report of recorded runs again",
                        kExamples, Declare};
}

}  // namespace saccade::bench
