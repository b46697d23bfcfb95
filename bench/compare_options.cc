// From a profile and a command line to what is to be measured.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "bench/cli_parse.h"
#include "bench/compare.h"
#include "bench/json_keys.h"
#include "bench/learn/jobs.h"
#include "bench/learn/random.h"
#include "bench/machine.h"
#include "bench/profile.h"
#include "nearest.h"
#include "record/json.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

Status ReadMeasures(const json& profile, const CompareOverrides& over,
                    CompareOptions* options) {
  Keys top(profile, over.profile);
  std::string list =
      over.measures.empty() ? top.List("measures") : over.measures;
  if (list.empty()) list = "verify,speed,memory";
  const std::vector<std::string_view> known(std::begin(kMeasures),
                                            std::end(kMeasures));
  for (const std::string& name : Split(list, ',')) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      return NotFound(fmt::format("--measure: there is no measure '{}'{}", name,
                                  DidYouMean(name, known)));
    options->measures.insert(name);
  }
  if (options->measures.empty()) return Invalid("--measure: an empty list");
  // Correct before fast: nothing is timed or weighed that was not checked.
  if (options->measures.contains("speed") ||
      options->measures.contains("memory"))
    options->measures.insert("verify");
  Keys seconds(top.Object("seconds"), over.profile + ": seconds");
  seconds.OnlyKnown(known);
  double sum = 0;
  for (const std::string& name : options->measures) {
    double s = 60;
    seconds.Number(name.c_str(), &s, 0.1, 1e7);
    sum += options->seconds[name] = s;
  }
  if (!over.budget.empty()) {
    const Result<double> budget = ParseDuration(over.budget);
    if (!budget.ok())
      return Invalid(fmt::format("--budget: {}", budget.status().message()));
    for (auto& [name, s] : options->seconds) s *= *budget / sum;
  }
  return top.status().ok() ? seconds.status() : top.status();
}

bool Contains(const std::vector<std::string>& list, const std::string& spec) {
  return std::find(list.begin(), list.end(), spec) != list.end();
}

// Specs of `list` that --only asks for, and those that it spells out.
std::vector<std::string> Chosen(const std::vector<std::string>& list,
                                const std::vector<std::string>& only) {
  if (only.empty()) return list;
  std::vector<std::string> chosen = Named(list, only);
  for (const std::string& o : only)
    if (o.find_first_of(":+") != std::string::npos && !Contains(chosen, o))
      chosen.push_back(o);
  return chosen;
}

// Globs among the specs stand for variants with default knobs; a name that is
// none is said at once.
Status ExpandEach(std::vector<std::string>* specs) {
  std::vector<std::string> all;
  for (const std::string& item : *specs) {
    const Result<std::vector<std::string>> some = ExpandSpecs(item);
    if (!some.ok()) return some.status();
    for (const std::string& spec : *some)
      if (!Contains(all, spec)) all.push_back(spec);
  }
  *specs = std::move(all);
  return {};
}

// Those of the command line, each once.
std::vector<uint64_t> SeedsOf(const CompareOverrides& over) {
  std::vector<uint64_t> seeds;
  for (const int64_t seed : over.seeds) {
    const auto s = static_cast<uint64_t>(seed);
    if (std::find(seeds.begin(), seeds.end(), s) == seeds.end())
      seeds.push_back(s);
  }
  return seeds;
}

// What is matched by FLOPs is also trained without. The reference is the
// profile's, whatever of it --only leaves.
Status CheckMatched(LearnOptions* l) {
  if (l->flop_matched.empty()) return {};
  const Status expanded = ExpandEach(&l->flop_matched);
  if (!expanded.ok()) return expanded;
  for (const std::string& spec : l->flop_matched)
    if (!Contains(l->specs, spec))
      return Invalid(fmt::format(
          "\"flop_matched\": {} is not among those to \"learn\"", spec));
  l->flop_reference = l->specs.front();
  return {};
}

// What the run measures, and --only and --probes leave.
Status CutFurther(bool text, bool probes, const std::vector<std::string>& only,
                  LearnOptions* l) {
  std::erase_if(l->further, [&](const FurtherTask& further) {
    if (further.task == kText) return !text;
    return !probes;
  });
  for (FurtherTask& further : l->further) {
    const Status expanded = ExpandEach(&further.specs);
    if (!expanded.ok()) return expanded;
    if (!only.empty()) further.specs = Named(further.specs, only);
  }
  return {};
}

Status ReadLearn(const json& profile, const CompareOverrides& over,
                 CompareOptions* options) {
  const bool text = options->measures.contains("extrapolation");
  const bool probes = options->measures.contains("probes");
  if (!probes && !over.probes.empty())
    return Invalid("--probes: probes are not among what is measured");
  if (!text && !over.protocols.empty())
    return Invalid("--protocols: extrapolation is not among what is measured");
  if (!text && !over.save_models.empty())
    return Invalid(
        "--save-models: extrapolation is not among what is measured");
  std::error_code none;
  if (std::filesystem::exists(over.save_models, none) &&
      !std::filesystem::is_directory(over.save_models, none))
    return Invalid("--save-models: " + over.save_models + " is not a folder");
  if (!text && !probes) return {};
  Result<LearnOptions> learn = LearnOptionsFrom(profile);
  if (!learn.ok())
    return {learn.status().code(),
            over.profile + ": " + learn.status().message()};
  options->learn = std::move(*learn);
  LearnOptions& l = options->learn;
  Status expanded = ExpandEach(&l.specs);
  if (expanded.ok()) expanded = ExpandEach(&l.probe_specs);
  if (expanded.ok()) expanded = CheckMatched(&l);
  const std::vector<std::string> only =
      over.only.empty() ? std::vector<std::string>() : options->specs;
  if (expanded.ok()) expanded = CutFurther(text, probes, only, &l);
  if (!expanded.ok())
    return {expanded.code(), over.profile + ": " + expanded.message()};
  l.specs = text ? Chosen(l.specs, only) : std::vector<std::string>();
  std::erase_if(l.flop_matched, [&l](const std::string& spec) {
    return !Contains(l.specs, spec);
  });
  l.probe_specs =
      probes ? Chosen(l.probe_specs, only) : std::vector<std::string>();
  if (!over.probes.empty()) {
    Result<std::vector<const Probe*>> found =
        FindProbes(Split(over.probes, ','));
    if (!found.ok())
      return {found.status().code(),
              "--probes: " + found.status().message() +
                  "; `saccade list --probes` explains them all"};
    l.probes = std::move(*found);
    std::erase_if(l.further, [&l](const FurtherTask& further) {
      return further.task != kText &&
             std::none_of(
                 l.probes.begin(), l.probes.end(),
                 [&](const Probe* p) { return p->name == further.task; });
    });
  }
  if (!over.protocols.empty()) {
    Result<std::vector<const Protocol*>> found =
        FindProtocols(Split(over.protocols, ','));
    if (!found.ok())
      return {found.status().code(),
              "--protocols: " + found.status().message()};
    l.protocols = std::move(*found);
  }
  l.corpus = over.corpus;
  l.save_models = over.save_models;
  l.look = options->measures.contains("lenses");
  if (!over.seeds.empty()) l.seeds = SeedsOf(over);
  l.budget_seconds = 0;
  for (const char* name : {"extrapolation", "probes"})
    if (options->measures.contains(name))
      l.budget_seconds += options->seconds[name];
  return {};
}

// Specs of the profile's list, variants that --only names beside it, and what
// is trained on text: to have what it was before beside what it became.
Status ReadLenses(const json& profile, const CompareOverrides& over,
                  CompareOptions* options) {
  if (!options->measures.contains("lenses")) return {};
  Keys top(profile, over.profile);
  const std::string list = top.List("lenses");
  if (!top.status().ok()) return top.status();
  Result<std::vector<std::string>> listed =
      list.empty() ? options->specs : ExpandSpecs(list);
  if (!listed.ok())
    return Invalid(fmt::format("{}: \"lenses\": {}", over.profile,
                               listed.status().message()));
  LensOptions& l = options->lenses;
  l.specs = over.only.empty() ? *listed : Chosen(*listed, options->specs);
  for (const std::string& spec : options->specs)
    if (!over.only.empty() && Chosen(*listed, {spec}).empty())
      l.specs.push_back(spec);
  for (const std::string& spec : options->learn.specs)
    if (std::find(l.specs.begin(), l.specs.end(), spec) == l.specs.end())
      l.specs.push_back(spec);
  const Result<LearnOptions> learn = LearnOptionsFrom(profile);
  if (!learn.ok())
    return {learn.status().code(),
            over.profile + ": " + learn.status().message()};
  l.model.width = learn->width;
  l.model.layers = learn->layers;
  l.model.heads = learn->heads;
  l.model.train_len = learn->train_len;
  l.seed = over.seed();
  return {};
}

Status ReadPeers(const CompareOverrides& over, CompareOptions* options) {
  if (over.peers.empty()) return {};
  Result<std::vector<std::string>> peers = ParsePeers(over.peers);
  if (!peers.ok())
    return {peers.status().code(), "--peers: " + peers.status().message()};
  if (!options->measures.contains("speed"))
    return Invalid("--peers: peers are timed, and speed is not measured");
  options->peers = std::move(*peers);
  return {};
}

// What is asked for by hand is measured: a profile's time is for its own cells.
// Without a budget there is as much as these may need.
void GiveTime(const CompareOverrides& over, CompareOptions* options) {
  const bool by_hand = !(over.lengths + over.dims + over.dtypes + over.threads +
                         over.passes + over.masks + over.peers + over.cache)
                            .empty();
  if (!by_hand || !over.budget.empty()) return;
  const auto give = [&](const char* measure, double seconds) {
    const auto it = options->seconds.find(measure);
    if (it != options->seconds.end())
      it->second = std::max(it->second, seconds);
  };
  double speed = 0, memory = 0;
  for (const Part& part : options->speed) {
    const size_t rows =
        part.specs.size() + (part.peers ? options->peers.size() : 0);
    // Half of the cells may be as long as is allowed, and are run some times.
    speed += static_cast<double>(part.groups.size() * rows) *
             (1 + part.timing.least_rounds * part.timing.longest_pass / 2);
  }
  for (const Part& part : options->memory)
    memory += static_cast<double>(part.groups.size() * part.specs.size()) *
              part.longest_child;
  give("speed", speed);
  give("memory", memory);
}

}  // namespace

Status NoMatch(std::string_view glob) {
  std::vector<std::string_view> names;
  for (const Variant* v : Variants()) names.push_back(v->name);
  std::string plain(glob);
  std::erase_if(plain, [](char c) { return c == '*' || c == '?'; });
  return NotFound(
      fmt::format("no variant matches '{}'{}; `saccade list` names them all",
                  glob, DidYouMean(plain, names)));
}

Result<std::vector<std::string>> ExpandSpecs(std::string_view text) {
  std::vector<std::string> specs;
  const auto add = [&specs](std::string spec) {
    if (std::find(specs.begin(), specs.end(), spec) == specs.end())
      specs.push_back(std::move(spec));
  };
  for (const std::string& item : SplitSpecs(text)) {
    if (item.find_first_of("*?") == std::string::npos) {
      const Result<Spec> spec = ParseSpec(item);
      if (!spec.ok()) return spec.status();
      add(item);
      continue;
    }
    const size_t before = specs.size();
    bool matched = false;
    for (const Variant* v : Variants())
      if (GlobMatches(item, v->name)) add(std::string(v->name)), matched = true;
    if (!matched && specs.size() == before) return NoMatch(item);
  }
  if (specs.empty()) return Invalid("an empty list of variants");
  return specs;
}

std::vector<std::string> Named(const std::vector<std::string>& list,
                               const std::vector<std::string>& only) {
  std::vector<std::string> named;
  for (const std::string& spec : list) {
    const std::string name = reports::BaseName(spec);
    const auto wants = [&](const std::string& o) {
      return o == spec || o == name;
    };
    if (std::any_of(only.begin(), only.end(), wants)) named.push_back(spec);
  }
  return named;
}

namespace {

// Of all that decides what is measured and how. The same settings said in other
// words differ, which is the safe side.
uint64_t Digest(const json& profile, const CompareOverrides& o) {
  return Hash(record::Dump(
      json::array({profile,    o.only,   o.measures, o.probes,    o.peers,
                   o.lengths,  o.dims,   o.dtypes,   o.threads,   o.passes,
                   o.masks,    o.budget, o.longest,  o.batch,     o.heads,
                   o.kv_heads, o.corpus, o.seeds,    o.protocols, o.cache})));
}

}  // namespace

Result<CompareOptions> MakeCompareOptions(const CompareOverrides& over) {
  const Result<json> profile = LoadProfile(over.profile);
  if (!profile.ok()) return profile.status();
  CompareOptions options;
  options.profile = over.profile;
  options.command = over.command;
  options.note = over.note;
  options.dry_run = over.dry_run;
  options.strict = over.strict;
  options.digest = Digest(*profile, over);
  Keys top(*profile, over.profile);
  // "learn" and those after it are read by LearnOptionsFrom.
  top.OnlyKnown({"about", "measures", "seconds", "variants", "shape", "speed",
                 "memory", "learn", "further", "flop_matched", "probe",
                 "probes", "protocols", "switches", "learn_settings", "drop",
                 "claims", "lenses"});
  std::string list = over.only.empty() ? top.List("variants") : over.only;
  if (!top.status().ok()) return top.status();
  Result<std::vector<std::string>> specs =
      ExpandSpecs(list.empty() ? "*" : list);
  if (!specs.ok())
    return Status(
        specs.status().code(),
        fmt::format("{}: {}", over.only.empty() ? over.profile : "--only",
                    specs.status().message()));
  options.specs = std::move(*specs);
  Status status = ReadMeasures(*profile, over, &options);
  for (const auto& [measure, parts] :
       {std::pair{"speed", &options.speed}, {"memory", &options.memory}}) {
    if (!status.ok()) return status;
    Result<std::vector<Part>> read =
        ReadParts(*profile, measure, over, options.specs);
    status = read.status();
    if (status.ok()) *parts = std::move(*read);
  }
  if (status.ok()) status = ReadLearn(*profile, over, &options);
  if (status.ok()) status = ReadLenses(*profile, over, &options);
  if (status.ok()) status = ReadPeers(over, &options);
  if (!status.ok()) return status;
  GiveTime(over, &options);
  if (!over.shard.empty()) {
    const Result<Shard> shard = ParseShard(over.shard);
    if (!shard.ok())
      return Invalid(fmt::format("--shard: {}", shard.status().message()));
    KeepShard(*shard, &options);
  }
  options.resume = !over.resume.empty();
  if (options.resume && !over.out.empty() && over.out != over.resume)
    return Invalid("--resume: the run goes on in its own folder, not in --out");
  options.out = options.resume ? over.resume : over.out;
  if (options.out.empty()) {
    std::string stamp = UtcNow();
    std::erase_if(stamp, [](char c) { return c == ':' || c == '-'; });
    options.out = fmt::format("saccade-{}", stamp);
  }
  return options;
}

}  // namespace saccade::bench
