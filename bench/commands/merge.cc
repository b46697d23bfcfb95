// saccade merge: one run from the shards of a comparison.
#include "bench/merge.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>

#include "bench/choices.h"
#include "bench/command.h"
#include "bench/commands/compare.h"
#include "bench/compare_records.h"
#include "bench/learn/claims.h"
#include "reports/report.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Shards may be measured one after the other or at once, on machines of one kind.
What is timed against each other is in one shard. The result is a run like any
other; assertions are judged on the whole of it.

Examples:
  saccade compare --profile full --shard 1/2 --out part-1
  saccade compare --profile full --shard 2/2 --out part-2
  saccade merge part-1 part-2 -o whole)";

struct Options {
  std::vector<std::string> shards;
  std::string out, machines = "same";
  bool partial = false;
};

// Of a run that trained: what one run would have judged at its end.
Status AddClaims(const record::Run& shard, MergedRun* merged) {
  std::vector<nlohmann::json> records(merged->records.begin(),
                                      merged->records.end());
  const bool trained =
      std::any_of(records.begin(), records.end(),
                  [](const auto& r) { return r["kind"] == "train"; });
  if (!trained) return {};
  Result<CompareOverrides> begun = RecordedOverrides(shard);
  if (!begun.ok()) return begun.status();
  begun->shard.clear();
  const Result<CompareOptions> options = MakeCompareOptions(*begun);
  if (!options.ok()) return options.status();
  for (const nlohmann::json& claim : JudgeClaims(options->learn, records))
    merged->records.emplace_back(claim);
  return {};
}

Status Write(const MergedRun& merged, const std::string& out) {
  Result<std::unique_ptr<RecordSink>> sink =
      RecordSink::Create(out, merged.header);
  if (!sink.ok()) return sink.status();
  for (const record::Json& r : merged.records) {
    const Status status = (*sink)->Write(r);
    if (!status.ok()) return status;
  }
  return (*sink)->Finish(merged.missing.empty() ? "ok" : "interrupted",
                         merged.missing, merged.seconds);
}

int Report(const std::string& out, const Host& host) {
  const std::string file = out + "/run.jsonl";
  const Result<record::Run> run = record::ReadRun(file);
  if (!run.ok()) return Complain(run.status(), host);
  const Status written = reports::WriteReport({file}, out);
  if (!written.ok()) return Complain(written, host);
  std::error_code ignored;
  fmt::print(host.out, "{}\nreport: {}\n", reports::VerdictTable(*run),
             std::filesystem::absolute(out + "/report.html", ignored).string());
  const bool failed = std::any_of(
      run->records.begin(), run->records.end(), [](const record::Record& r) {
        return r.status() == "fail" &&
               (r.kind() == "verify" || r.kind() == "speed");
      });
  return failed ? kExitFailedCheck : kExitOk;
}

int Merge(const Options& o, const Host& host) {
  std::vector<record::Run> runs;
  for (const std::string& shard : o.shards) {
    Result<record::Run> run = record::ReadRun(record::RunFile(shard));
    if (!run.ok()) return Complain(run.status(), host);
    for (const std::string& warning : run->warnings) Say(host, warning);
    runs.push_back(std::move(*run));
  }
  Result<MergedRun> merged =
      MergeShards(runs, {o.partial, o.machines == "differ"});
  if (!merged.ok()) return Complain(merged.status(), host);
  merged->header["command"] = WholeCommand(runs.front().header.Text("command"));
  Status status = AddClaims(runs.front(), &*merged);
  if (status.ok()) status = Write(*merged, o.out);
  if (!status.ok()) return Complain(status, host);
  if (!merged->missing.empty()) Say(host, merged->missing);
  return Report(o.out, host);
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("SHARD", o->shards, "Folders or run.jsonl files of all shards")
      ->type_name(kFolder)
      ->required();
  app.add_option("-o,--out", o->out,
                 "Folder for the record and the report, new or without a run")
      ->type_name(kFolder)
      ->required();
  app.add_flag("--partial", o->partial,
               "Merge what there is, though shards are missing or unfinished");
  TakesOneOf(app.add_option("--machines", o->machines,
                            "differ: cells say which machine they are of"),
             {"same", "differ"})
      ->capture_default_str();
  return [o](const Invocation& call) { return Merge(*o, call.host); };
}

}  // namespace

namespace commands {
const Command merge = {"merge", "Make one run of the shards of a comparison",
                       kExamples, Declare};
}

}  // namespace saccade::bench
