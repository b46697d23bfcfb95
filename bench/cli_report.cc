// saccade report: the report of recorded runs, made again.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <filesystem>

#include "bench/cli.h"
#include "reports/report.h"

namespace saccade::bench {

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
    for (const std::string& warning : run->warnings)
      fmt::print(host.err, "saccade: {}\n", warning);
    if (files.size() == 1)
      fmt::print(host.out, "{}\n", reports::VerdictTable(*run));
  }
  const Status status = reports::WriteReport(files, out);
  if (!status.ok()) return Complain(status, host);
  fmt::print(host.out, "report: {}\n",
             fs::absolute(out + "/report.html", ignored).string());
  return kExitOk;
}

}  // namespace saccade::bench
