// saccade recommend: which variant to take for a problem.
#include "bench/recommend.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/choices.h"
#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/compare.h"
#include "bench/machine.h"
#include "bench/recommend_runs.h"
#include "reports/plain.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

using nlohmann::ordered_json;
using reports::FormatBytes;
using reports::FormatLength;
using reports::FormatTime;

constexpr char kExamples[] = R"(
Times are foretold from passes that this machine has timed: those of --run, or
of the newest run in runs/ that has such passes; where there is none, some are
timed now. Quality is known of models that were trained in a run: --need says
what they must be good at. Memory is exact, by the plan.

Examples:
  saccade recommend -n 32k -d 64 --heads 8 --pass decode --memory 2GiB
  saccade recommend -n 32k --heads 8 --need recall --run runs/quick
  saccade recommend -n 8k --train-len 1k --need language --check
  saccade recommend -n 4k --pass backward --layers 12 --memory 8GiB --json)";

struct Options {
  std::string length = "4k", mask = "causal", pass = "forward", dtype = "f32",
              need = "any", memory, train_len, only, threads = "0";
  int64_t dim = 64, heads = 4, kv_heads = 0, batch = 1, layers = 1;
  std::vector<std::string> runs;
  bool check = false, json = false, causal = false;
};

constexpr size_t kChecked = 3;  // of the fastest

Result<Wish> WishOf(const Options& o) {
  CompareOverrides over;  // the same words, read the same way
  over.lengths = o.length;
  over.dims = fmt::format("{}", o.dim);
  over.heads = o.heads;
  over.kv_heads = o.kv_heads;
  over.batch = o.batch;
  over.masks = o.mask;
  over.passes = o.pass;
  over.dtypes = o.dtype;
  over.threads = o.threads;
  over.measures = "speed";
  const Result<CompareOptions> read = MakeCompareOptions(over);
  if (!read.ok()) return read.status();
  const auto& groups = read->speed.front().groups;
  if (groups.size() != 1)
    return Invalid(
        "one problem is recommended for at a time: give one length, "
        "pass, mask, dtype and number of threads");
  Wish wish;
  wish.cell = groups.front().front();
  wish.cell.spec.clear();
  for (const Need need : kNeeds)
    if (o.need == NameOf(need)) wish.need = need;
  wish.layers = o.layers;
  if (!o.memory.empty()) {
    const Result<double> bytes = ParseBytes(o.memory);
    if (!bytes.ok())
      return Invalid(fmt::format("--memory: {}", bytes.status().message()));
    wish.memory = *bytes;
  }
  if (!o.train_len.empty()) {
    const Result<int64_t> tokens = ParseCount(o.train_len);
    if (!tokens.ok())
      return Invalid(fmt::format("--train-len: {}", tokens.status().message()));
    wish.train_len = *tokens;
  }
  return wish;
}

std::vector<std::string> SpecsFor(const Options& o, const RecommendRuns& runs) {
  std::vector<std::string> specs = runs.Specs();
  const std::vector<std::string> globs = SplitSpecs(o.only);
  if (globs.empty()) return specs;
  std::erase_if(specs, [&](const std::string& spec) {
    return std::none_of(globs.begin(), globs.end(), [&](const auto& glob) {
      return GlobMatches(glob, spec) ||
             GlobMatches(glob, reports::BaseName(spec));
    });
  });
  for (const std::string& glob : globs)
    if (glob.find_first_of("*?") == std::string::npos &&
        std::find(specs.begin(), specs.end(), glob) == specs.end())
      specs.push_back(glob);
  return specs;
}

std::string Percent(double share) {
  return fmt::format("{:.0f} %", 100 * share);
}

std::string ProblemText(const Wish& w) {
  const CellSpec& c = w.cell;
  return fmt::format(
      "{}, n = {}, {}, {}, {} heads of {}{}, batch {}, {} thread{}",
      NameOf(c.pass), FormatLength(c.length), NameOf(c.shape.mask),
      NameOf(c.dtype), c.shape.heads, c.shape.dim,
      c.shape.kv_heads > 0
          ? fmt::format(" sharing {} key heads", c.shape.kv_heads)
          : "",
      c.shape.batch, c.threads, c.threads == 1 ? "" : "s");
}

// "2.29 (as :size=32+rope)" where the evidence is of other knobs.
std::string ReadingText(const std::optional<Reading>& r,
                        const std::string& spec) {
  if (!r) return "–";
  std::string text = fmt::format("{:.2f}", r->value);
  if (r->change != "plain") text += ", " + r->change;
  if (r->spec != spec) text += fmt::format(" (of {})", r->spec);
  return text;
}

std::string Ranking(const Recommendation& r) {
  reports::Table table;
  table.columns = {
      {""},       {"variant", false},   {"time"},         {"to the first"},
      {"memory"}, {"bits/byte", false}, {"recall", false}};
  const bool checked =
      std::any_of(r.candidates.begin(), r.candidates.end(),
                  [](const Candidate& c) { return c.measured.has_value(); });
  if (checked) table.columns.insert(table.columns.begin() + 3, {"measured"});
  const double best = *r.candidates.front().seconds;
  for (const Candidate& c : r.candidates) {
    if (!c.rejected.empty()) break;
    std::vector<reports::Cell> row = {
        {fmt::format("{}", table.rows.size() + 1)},
        {c.spec},
        {(c.timed ? "" : "~ ") + FormatTime(*c.seconds * 1e9)},
        {reports::FormatRatio(*c.seconds / best)},
        {FormatBytes(c.bytes.all())},
        {ReadingText(c.language, c.spec)},
        {ReadingText(c.recall, c.spec)}};
    if (checked)
      row.insert(row.begin() + 3,
                 {c.measured ? FormatTime(*c.measured * 1e9) : "–"});
    table.rows.push_back(std::move(row));
  }
  return reports::AlignTable(table);
}

// What the times rest on, and how far they can be trusted.
std::string TimesText(const Recommendation& r, const RecommendRuns& runs,
                      const Wish& wish) {
  std::string out = "Times are foretold from";
  for (const record::Run& run : runs.timed)
    out += fmt::format(" {} ({}, {});", run.path, run.header.Text("machine"),
                       run.header.Text("started"));
  out.back() = '.';
  if (std::any_of(r.candidates.begin(), r.candidates.end(),
                  [](const auto& c) { return c.rejected.empty() && !c.timed; }))
    out += " ~: timed with other knobs or positions.";
  for (const std::string& note : runs.notes) out += " " + note + ".";
  const HeldOut& h = r.held_out;
  if (h.shapes == 0)
    return out +
           " No two shapes of this pass were timed: how far they can be "
           "trusted is not known.\n";
  return out + fmt::format(
                   " On {} held-out shape{} ({} passes of {} {}): picks within "
                   "3 % of "
                   "the best in {}, worst {}; half of the times within {}.\n",
                   h.shapes, h.shapes == 1 ? "" : "s", NameOf(wish.cell.pass),
                   h.variants,
                   r.of_rest ? "variants that would do"
                             : "variants, whatever they do",
                   h.close, Percent(h.worst), Percent(h.median));
}

std::string CheckText(const Recommendation& r) {
  double picked = 0, best = 0;
  for (const Candidate& c : r.candidates) {
    if (!c.measured) continue;
    if (picked == 0) picked = best = *c.measured;
    best = std::min(best, *c.measured);
  }
  if (picked == 0) return {};
  return fmt::format(
      "Measured just now, the first of the ranking takes {} more than the best "
      "of those measured.\n",
      Percent(picked / best - 1));
}

std::string QualityText(const Quality* quality, const Wish& wish) {
  if (quality == nullptr)
    return "Of quality nothing is known: no run with trainings was found.\n";
  std::string out;
  if (!quality->LanguageSource().empty())
    out += fmt::format("Language: {}. Within {} of the best will do.\n",
                       quality->LanguageSource(), Percent(kWorseLanguage));
  if (!quality->RecallSource().empty())
    out += fmt::format("Recall: {}. Within {:.1f} of the best will do.\n",
                       quality->RecallSource(), kWorseRecall);
  if (wish.times() > 1)
    out += fmt::format(
        "Read at {:.3g} times the training length, or as far as was read.\n",
        wish.times());
  return out;
}

std::string CompareCommand(const Wish& wish, const std::string& spec) {
  const CellSpec& c = wish.cell;
  return fmt::format(
      "saccade compare --measure speed,memory --only '{}' -n {} -d {} --heads "
      "{} --pass {} --mask {} --dtype {} -t {}",
      spec, c.length, c.shape.dim, c.shape.heads, NameOf(c.pass),
      NameOf(c.shape.mask), NameOf(c.dtype), c.threads);
}

void PrintText(const Recommendation& r, const RecommendRuns& runs,
               const Quality* quality, const Wish& wish, const Host& host) {
  fmt::print(host.out, "{}; need: {}{}\n\n", ProblemText(wish),
             NameOf(wish.need),
             wish.memory > 0 ? ", at most " + FormatBytes(wish.memory) : "");
  const Candidate& first = r.candidates.front();
  if (first.rejected.empty()) fmt::print(host.out, "{}\n", Ranking(r));
  std::string rejected;
  for (const Candidate& c : r.candidates)
    if (!c.rejected.empty())
      rejected += fmt::format("  {}: {}\n", c.spec, c.rejected);
  if (!rejected.empty()) fmt::print(host.out, "Rejected:\n{}\n", rejected);
  fmt::print(host.out, "{}{}{}", TimesText(r, runs, wish), CheckText(r),
             QualityText(quality, wish));
  if (!first.rejected.empty()) return;
  fmt::print(host.out,
             "\nIn code:\n  saccade::Attention::Make(\"{}\", problem)\nTo see "
             "it measured:\n  {}\n",
             first.spec, CompareCommand(wish, first.spec));
}

ordered_json ReadingJson(const std::optional<Reading>& r) {
  if (!r) return nullptr;
  return {{"value", r->value},         {"of", r->spec},
          {"switch", r->change},       {"seeds", r->seeds},
          {"train_len", r->train_len}, {"eval_len", r->eval_len}};
}

ordered_json CandidateJson(const Candidate& c) {
  ordered_json json = {{"spec", c.spec}};
  if (!c.rejected.empty()) json["rejected"] = c.rejected;
  if (c.seconds) {
    json["seconds"] = *c.seconds;
    json["timed_as_is"] = c.timed;
  }
  if (c.measured) json["measured_seconds"] = *c.measured;
  json["memory_bytes"] = {
      {"kept", c.bytes.kept}, {"scratch", c.bytes.scratch}, {"io", c.bytes.io}};
  json["bits_per_byte"] = ReadingJson(c.language);
  json["recall"] = ReadingJson(c.recall);
  return json;
}

void PrintJson(const Recommendation& r, const RecommendRuns& runs,
               const Quality* quality, const Wish& wish, const Host& host) {
  const Candidate& first = r.candidates.front();
  ordered_json timed = ordered_json::array(), all = ordered_json::array();
  for (const record::Run& run : runs.timed) timed.push_back(run.path);
  for (const Candidate& c : r.candidates) all.push_back(CandidateJson(c));
  ordered_json json = {
      {"problem", ProblemText(wish)},
      {"need", NameOf(wish.need)},
      {"recommended",
       first.rejected.empty() ? ordered_json(first.spec) : ordered_json()},
      {"candidates", all},
      {"times",
       {{"runs", timed},
        {"held_out_shapes", r.held_out.shapes},
        {"within_3_percent", r.held_out.close},
        {"worst_regret", r.held_out.worst},
        {"median_error", r.held_out.median}}},
      {"quality",
       {{"language", quality ? quality->LanguageSource() : ""},
        {"recall", quality ? quality->RecallSource() : ""}}}};
  fmt::print(host.out, "{}\n", json.dump(2));
}

// Measures the first few at the wish's own shape.
Status Check(const Wish& wish, const Host& host, Recommendation* r) {
  std::vector<std::string> specs;
  for (const Candidate& c : r->candidates)
    if (c.rejected.empty() && specs.size() < kChecked) specs.push_back(c.spec);
  if (specs.empty()) return {};
  const Result<record::Run> run = MeasureNow(wish, specs, true, host);
  if (!run.ok()) return run.status();
  for (const record::Record& record : run->records)
    if (const std::optional<TimedPass> p = TimedOf(record))
      for (Candidate& c : r->candidates)
        if (c.spec == p->spec) c.measured = p->seconds;
  return {};
}

int Answer(const Options& o, const Host& host) {
  const Result<Wish> wish = WishOf(o);
  if (!wish.ok()) return Complain(wish.status(), host);
  Result<RecommendRuns> runs = FindRuns(o.runs, *wish);
  if (!runs.ok()) return Complain(runs.status(), host);
  if (runs->timed.empty()) {
    Say(host,
        fmt::format("no run of this machine timed {} passes of {}: timing "
                    "some now, for a minute at most",
                    NameOf(wish->cell.pass), NameOf(wish->cell.dtype)));
    Result<record::Run> now = MeasureNow(*wish, {}, false, host);
    if (!now.ok()) return Complain(now.status(), host);
    runs->timed.push_back(std::move(*now));
  }
  std::optional<Quality> quality;
  if (runs->learned) quality.emplace(*runs->learned);
  const std::vector<std::string> specs = SpecsFor(o, *runs);
  for (const std::string& spec : specs)
    if (const Result<Spec> parsed = ParseSpec(spec); !parsed.ok())
      return Complain(parsed.status(), host);
  if (specs.empty())
    return Complain(NotFound("--only: no variant is like that"), host);
  const Quality* const known = quality ? &*quality : nullptr;
  Recommendation r = Recommend(*wish, specs, TimePredictor(runs->Passes()),
                               known, runs->Failed(wish->cell));
  if (o.check) {
    const Status checked = Check(*wish, host, &r);
    if (!checked.ok()) return Complain(checked, host);
  }
  (o.json ? PrintJson : PrintText)(r, *runs, known, *wish, host);
  return r.candidates.front().rejected.empty() ? kExitOk : kExitUsage;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  const auto positive = CLI::Range(1, 4096);
  app.add_option("-n,--length", o->length, "Tokens: 32k; the context, decoding")
      ->required();
  app.add_option("-d,--dim", o->dim, "Width of a head")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--heads", o->heads, "Query heads")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--kv-heads", o->kv_heads, "Key and value heads")
      ->check(positive);
  app.add_option("--batch", o->batch, "Sequences")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--layers", o->layers,
                 "Layers that each keep a state, or what backward needs")
      ->check(positive)
      ->capture_default_str();
  TakesOneOf(app.add_option("--pass", o->pass, "What is run"),
             NamesOfAll(kPasses))
      ->capture_default_str();
  CLI::Option* const mask =
      TakesOneOf(
          app.add_option("--mask", o->mask, "Which keys a query may see"),
          NamesOfAll(kMasks))
          ->capture_default_str();
  app.add_flag("--causal", o->causal, "As --mask causal")->excludes(mask);
  TakesOneOf(app.add_option("--dtype", o->dtype, "How tensors are stored"),
             NamesOfAll(kDTypes))
      ->capture_default_str();
  app.add_option("-t,--threads", o->threads, "Threads; 0 means all cores")
      ->capture_default_str();
  TakesOneOf(
      app.add_option("--need", o->need, "What models of it must be good at"),
      NamesOfAll(kNeeds))
      ->capture_default_str();
  app.add_option("--train-len", o->train_len,
                 "Tokens that the model is trained at, where it is to read "
                 "more: quality is then that of reading beyond");
  app.add_option("--memory", o->memory, "At most that much: 512MiB, 2GiB");
  app.add_option("--run", o->runs, "Folders or run.jsonl files to go by")
      ->type_name(kFolder);
  app.add_option("--only", o->only, "Globs and spec strings")
      ->type_name(kVariants);
  app.add_flag("--check", o->check,
               "Measure the first few at this very shape, and say the regret");
  app.add_flag("--json", o->json, "As JSON");
  return [o](const Invocation& call) { return Answer(*o, call.host); };
}

}  // namespace

namespace commands {
const Command recommend = {"recommend",
                           "Rank variants for a problem, and say why",
                           kExamples, Declare};
}

}  // namespace saccade::bench
