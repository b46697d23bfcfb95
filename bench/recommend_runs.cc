#include "bench/recommend_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include "bench/compare.h"
#include "bench/machine.h"
#include "bench/resume.h"
#include "record/json.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;
using record::Record;
using record::Run;

constexpr char kRuns[] = "runs", kExamples[] = "reports/example";

// Of a measurement made for a recommendation.
constexpr char kBudget[] = "60s", kLongest[] = "1s", kLongestOwn[] = "30s";
constexpr int64_t kShort = 512, kLong = 8192;  // tokens

std::vector<Run> RunsIn(const std::string& folder) {
  std::vector<Run> runs;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    Result<Run> run =
        record::ReadRun((entry.path() / "run.jsonl").generic_string());
    if (!run.ok()) continue;
    run->path = entry.path().generic_string();
    runs.push_back(std::move(*run));
  }
  // The newest first.
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
    return std::pair(a.header.Text("started"), a.path) >
           std::pair(b.header.Text("started"), b.path);
  });
  return runs;
}

// What tells the machine from this one; or empty.
std::string OtherMachine(const Run& run, const record::Json& here) {
  for (const std::string_view field : kMachineFields) {
    const std::string name(field);
    const record::Json there = run.header.fields().value(name, record::Json()),
                       now = here.value(name, record::Json());
    if (there != now)
      return fmt::format("its {} is {}, here it is {}", name,
                         record::Dump(there), record::Dump(now));
  }
  return {};
}

bool Times(const Run& run, const CellSpec& cell) {
  return std::any_of(run.records.begin(), run.records.end(),
                     [&](const Record& r) {
                       const std::optional<TimedPass> p = TimedOf(r);
                       return p && p->pass == NameOf(cell.pass) &&
                              p->dtype == NameOf(cell.dtype);
                     });
}

// How much a run says about quality.
int64_t Trainings(const Run& run) {
  return std::count_if(
      run.records.begin(), run.records.end(), [](const Record& r) {
        return r.ok() && r.kind() == "train" && !r.Has("match");
      });
}

void TakeLearned(const Run& run, RecommendRuns* found) {
  if (Trainings(run) > (found->learned ? Trainings(*found->learned) : 0))
    found->learned = run;
}

}  // namespace

std::vector<TimedPass> RecommendRuns::Passes() const {
  std::vector<TimedPass> passes;
  for (const Run& run : timed)
    for (const Record& r : run.records)
      if (std::optional<TimedPass> p = TimedOf(r)) {
        // Runs are sittings of their own.
        p->shape += " " + run.path;
        passes.push_back(std::move(*p));
      }
  return passes;
}

std::set<std::string> RecommendRuns::Failed(const CellSpec& cell) const {
  std::set<std::string> failed;
  for (const Run& run : timed)
    for (const Record& r : run.records)
      if (r.kind() == "verify" && r.status() == "fail" &&
          r.Text("pass") == NameOf(cell.pass) &&
          r.Text("dtype") == NameOf(cell.dtype))
        failed.insert(reports::BaseName(r.Text("variant")));
  return failed;
}

std::vector<std::string> RecommendRuns::Specs() const {
  std::vector<std::string> known;
  const auto add = [&](const Run& run) {
    for (const Record& r : run.records)
      if (r.kind() == "variant" && ParseSpec(r.Text("variant")).ok())
        known.push_back(r.Text("variant"));
  };
  for (const Run& run : timed) add(run);
  if (learned) add(*learned);
  std::vector<std::string> specs;
  for (const Variant* v : Variants()) {
    specs.emplace_back(v->name);
    for (const std::string& spec : known)
      if (reports::BaseName(spec) == v->name &&
          std::find(specs.begin(), specs.end(), spec) == specs.end())
        specs.push_back(spec);
  }
  return specs;
}

Result<RecommendRuns> FindRuns(const std::vector<std::string>& named,
                               const Wish& wish) {
  RecommendRuns found;
  const record::Json here = MachineFacts();
  for (const std::string& path : named) {
    Result<Run> run = record::ReadRun(record::RunFile(path));
    if (!run.ok()) return run.status();
    run->path = path;
    TakeLearned(*run, &found);
    if (!Times(*run, wish.cell)) continue;
    if (const std::string other = OtherMachine(*run, here); !other.empty())
      found.notes.push_back(
          fmt::format("{} is of another machine: {}", path, other));
    found.timed.push_back(std::move(*run));
  }
  if (!named.empty() && !found.timed.empty() && found.learned) return found;
  // What the named ones do not say is looked for where runs are kept.
  for (const char* folder : {kRuns, kExamples}) {
    const bool mine = folder == kRuns;
    for (const Run& run : RunsIn(folder)) {
      if (!found.learned || named.empty()) TakeLearned(run, &found);
      if (mine && found.timed.empty() && OtherMachine(run, here).empty() &&
          Times(run, wish.cell))
        found.timed.push_back(run);
    }
    if (found.learned && mine) break;
  }
  return found;
}

Result<Run> MeasureNow(const Wish& wish, const std::vector<std::string>& specs,
                       bool own_shape, const Host& host) {
  const CellSpec& c = wish.cell;
  CompareOverrides over;
  over.measures = "speed";
  for (const std::string& spec : specs)
    over.only += (over.only.empty() ? "" : ",") + spec;
  // Two octaves apart, for what lies between is interpolated.
  const int64_t longest = std::min(c.length, kLong);
  over.lengths = own_shape || longest <= kShort
                     ? fmt::format("{}", c.length)
                     : fmt::format("{}:{}:x4,{}", kShort, longest, longest);
  over.dims = fmt::format("{}", c.shape.dim);
  over.heads = c.shape.heads;
  over.kv_heads = c.shape.kv_heads;
  over.batch = c.shape.batch;
  over.masks = NameOf(c.shape.mask);
  over.passes = NameOf(c.pass);
  over.dtypes = NameOf(c.dtype);
  over.threads = fmt::format("{}", c.threads);
  over.budget = kBudget;
  over.longest = own_shape ? kLongestOwn : kLongest;
  over.command = fmt::format(
      "saccade compare --measure speed{} -n {} -d {} --heads {} --batch {}{} "
      "--mask {} --pass {} --dtype {} -t {} --budget {} --longest {}",
      over.only.empty() ? "" : " --only '" + over.only + "'", over.lengths,
      over.dims, over.heads, over.batch,
      over.kv_heads > 0 ? fmt::format(" --kv-heads {}", over.kv_heads) : "",
      over.masks, over.passes, over.dtypes, over.threads, over.budget,
      over.longest);
  std::string stamp = UtcNow();
  std::erase_if(stamp, [](char ch) { return ch == ':' || ch == '-'; });
  over.out =
      fmt::format("{}/{}-{}", kRuns, own_shape ? "check" : "recommend", stamp);
  const Result<CompareOptions> options = MakeCompareOptions(over);
  if (!options.ok()) return options.status();
  std::ostringstream unread;  // its verdict is not what was asked for
  const int code = Compare(
      *options, {unread, host.err, host.terminal, host.program, host.stop,
                 host.may_exit, host.places, host.root, host.talk});
  if (code == kExitInterrupted) return Exhausted("interrupted");
  Result<Run> run = record::ReadRun(over.out + "/run.jsonl");
  if (run.ok()) run->path = over.out;
  return run;
}

}  // namespace saccade::bench
