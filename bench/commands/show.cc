// saccade show: records of runs as a table.
#include "reports/show.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>

#include "bench/choices.h"
#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/verify.h"
#include "nearest.h"
#include "record/record.h"

namespace saccade::bench {
namespace {

using reports::ShowFormat;

constexpr char kExamples[] = R"(
Without --kind it shows times where there are any, else memory, else what was
learned. Columns are fields of the records; `saccade schema` explains them. In
text and Markdown what all rows share stands above the table.

Examples:
  saccade show my-run
  saccade show my-run --pass decode --sort kv_len,median_ns
  saccade show my-run --only 'softmax.*' --columns variant,kv_len,median_ns
  saccade show my-run --kind memory --format markdown
  saccade show my-run another-run --kind all --format csv > both.csv)";

struct Options {
  std::vector<std::string> runs, kinds, passes;
  std::string format = "text", only;
  reports::ShowOptions show;
};

const std::map<std::string, ShowFormat> kFormats = {
    {"text", ShowFormat::kText},
    {"markdown", ShowFormat::kMarkdown},
    {"csv", ShowFormat::kCsv},
    {"jsonl", ShowFormat::kJsonl}};

// Of columns and what to sort by.
Status CheckFields(const char* option, const std::vector<std::string>& names,
                   std::vector<std::string_view> known) {
  for (const record::Field& field : record::Fields())
    known.push_back(field.name);
  for (const std::string& name : names) {
    const std::string_view field =
        std::string_view(name).substr(name.starts_with('-'));
    if (std::find(known.begin(), known.end(), field) == known.end())
      return NotFound(fmt::format("{}: records have no field '{}'{}", option,
                                  field, DidYouMean(field, known)));
  }
  return {};
}

std::vector<std::string_view> KindNames() {
  std::vector<std::string_view> names = NamesIn(record::Kinds());
  names.push_back("all");
  return names;
}

Status CheckNames(const char* option, const char* what,
                  const std::vector<std::string>& names,
                  const std::vector<std::string_view>& known) {
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end())
      return NotFound(fmt::format("{}: there is no {} '{}'{}", option, what,
                                  name, DidYouMean(name, known)));
  return {};
}

bool IsOneOf(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Which records are asked for.
struct Filter {
  std::vector<std::string> kinds, passes, globs;

  bool Takes(const record::Record& r) const {
    return (IsOneOf(kinds, "all") || IsOneOf(kinds, r.kind())) &&
           (passes.empty() || IsOneOf(passes, r.Text("pass"))) &&
           (globs.empty() || AnyMatches(globs, r.Text("variant")) ||
            AnyMatches(globs, r.Text("peer")));
  }
};

// What else the runs hold, for somebody who looked for it.
void SayTheRest(const std::vector<record::Run>& runs, const Filter& filter,
                const Host& host) {
  std::map<std::string, int> rest;
  for (const record::Run& run : runs)
    for (const record::Record& r : run.records)
      if (!IsOneOf(filter.kinds, r.kind()) && r.kind() != "end")
        ++rest[r.kind()];
  std::string list;
  for (const auto& [kind, count] : rest)
    list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, kind);
  if (!list.empty())
    Say(host, fmt::format("also recorded: {} (--kind KIND, or all)", list));
}

int Show(const Options& o, const Host& host) {
  Status status = CheckNames("--kind", "kind", o.kinds, KindNames());
  if (status.ok())
    status = CheckNames("--pass", "pass", o.passes, NamesOfAll(kPasses));
  if (status.ok())
    status = CheckFields("--columns", o.show.columns, {"run", "all"});
  if (status.ok()) status = CheckFields("--sort", o.show.sort, {"run"});
  if (!status.ok()) return Complain(status, host);
  std::vector<record::Run> runs;
  for (const std::string& path : o.runs) {
    Result<record::Run> run = record::ReadRun(record::RunFile(path));
    if (!run.ok()) return Complain(run.status(), host);
    for (const std::string& warning : run->warnings) Say(host, warning);
    run->path = path;
    runs.push_back(std::move(*run));
  }
  const bool by_itself = o.kinds.empty();
  const Filter filter = {by_itself ? reports::KindsToShow(runs) : o.kinds,
                         o.passes, SplitSpecs(o.only)};
  std::vector<reports::ShownRecord> shown;
  for (const record::Run& run : runs) {
    if (filter.Takes(run.header)) shown.push_back({&run.header, run.path});
    for (const record::Record& r : run.records)
      if (filter.Takes(r)) shown.push_back({&r, run.path});
  }
  if (by_itself) SayTheRest(runs, filter, host);
  if (shown.empty())
    return Complain(NotFound("no record of these runs is like that"), host);
  reports::ShowOptions options = o.show;
  options.format = kFormats.at(o.format);
  fmt::print(host.out, "{}", reports::ShowRecords(std::move(shown), options));
  return kExitOk;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("RUN", o->runs, "Folders or run.jsonl files")
      ->type_name(kFolder)
      ->required();
  TakesOneOf(app.add_option("--format", o->format, "How it is written"),
             {"text", "markdown", "csv", "jsonl"})
      ->capture_default_str();
  const auto list = [&](const char* name, std::vector<std::string>* to,
                        const char* about) {
    return app.add_option(name, *to, about)
        ->delimiter(',')
        ->allow_extra_args(false);
  };
  TakesListOf(list("--kind", &o->kinds, "Of which records"), KindNames());
  app.add_option("--only", o->only,
                 "Variants and peers: globs over spec strings and names")
      ->type_name(kVariants);
  TakesListOf(list("--pass", &o->passes, "Of which passes"),
              NamesOfAll(kPasses));
  list("--columns", &o->show.columns,
       "Fields to show, in this order; all: with arrays and long texts");
  list("--sort", &o->show.sort,
       "Fields to sort by, the first counts most; --sort=-FIELD: the greatest "
       "first");
  app.add_option("--digits", o->show.digits,
                 "Significant digits of what is no whole number; 0: all")
      ->check(CLI::Range(0, 17))
      ->capture_default_str();
  return [o](const Invocation& call) { return Show(*o, call.host); };
}

}  // namespace

namespace commands {
const Command show = {"show", "Show the records of runs as a table", kExamples,
                      Declare};
}

}  // namespace saccade::bench
