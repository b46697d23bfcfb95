// From a profile and a command line to what is to be measured.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "bench/cli_parse.h"
#include "bench/compare.h"
#include "bench/machine.h"
#include "bench/profile.h"
#include "nearest.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

// Reads keys of a JSON object; the first that is not as it should be is kept
// as the status.
class Keys {
 public:
  Keys(const json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  const Status& status() const { return status_; }

  void Number(const char* key, double* value, double low, double high) {
    const json* const j = Find(key);
    if (!j) return;
    if (j->is_number() && *j >= low && *j <= high) {
      *value = j->get<double>();
    } else {
      Wrong(key, fmt::format("a number from {} to {}", low, high));
    }
  }

  // A text, a number, or an array of either, as text with commas.
  std::string List(const char* key) {
    const json* const j = Find(key);
    if (!j) return {};
    std::string text;
    for (const json& item : j->is_array() ? *j : json::array({*j})) {
      if (!item.is_string() && !item.is_number_integer()) {
        Wrong(key, "a text, a whole number or a list of them");
        return {};
      }
      text += (text.empty() ? "" : ",") +
              (item.is_string() ? item.get<std::string>() : item.dump());
    }
    return text;
  }

  // An object within; an empty one when missing.
  const json& Object(const char* key) {
    static const json kEmpty = json::object();
    const json* const j = Find(key);
    if (!j) return kEmpty;
    if (j->is_object()) return *j;
    Wrong(key, "an object");
    return kEmpty;
  }

  // Says so when there is a key that nobody reads: a slip in a profile must
  // not pass for a setting.
  void OnlyKnown(std::vector<std::string_view> known) {
    for (const auto& [key, value] : object_.items())
      if (status_.ok() &&
          std::find(known.begin(), known.end(), key) == known.end())
        status_ = Invalid(fmt::format("{}: there is no key \"{}\"{}", where_,
                                      key, DidYouMean(key, known)));
  }

 private:
  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }
  void Wrong(const char* key, const std::string& should) {
    if (status_.ok())
      status_ =
          Invalid(fmt::format("{}: \"{}\" must be {}", where_, key, should));
  }

  const json& object_;
  const std::string where_;
  Status status_;
};

// Items of a list, each read by `read`; `option` begins the message.
template <class T>
Status ReadList(std::string_view option, std::string_view text,
                const std::function<Result<T>(std::string_view)>& read,
                std::vector<T>* items) {
  items->clear();
  for (const std::string& part : Split(text, ',')) {
    const Result<T> item = read(part);
    if (!item.ok())
      return Invalid(fmt::format("{}: {}", option, item.status().message()));
    if (std::find(items->begin(), items->end(), *item) == items->end())
      items->push_back(*item);
  }
  if (items->empty()) return Invalid(fmt::format("{}: an empty list", option));
  return {};
}

Status ReadSweep(std::string_view option, std::string_view text, int64_t most,
                 std::vector<int64_t>* numbers) {
  Result<std::vector<int64_t>> sweep = ParseSweep(text);
  if (!sweep.ok())
    return Invalid(fmt::format("{}: {}", option, sweep.status().message()));
  if (sweep->back() > most)
    return Invalid(
        fmt::format("{}: {} is more than {}", option, sweep->back(), most));
  *numbers = std::move(*sweep);
  return {};
}

Result<DType> ReadDType(std::string_view name) {
  for (const DType t : {DType::kF32, DType::kBF16})
    if (name == NameOf(t)) return t;
  return Invalid(fmt::format("'{}' is no dtype: there are f32 and bf16", name));
}

Result<Mask> ReadMask(std::string_view name) {
  for (const Mask m : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft})
    if (name == NameOf(m)) return m;
  return Invalid(fmt::format(
      "'{}' is no mask: there are none, causal and causal_top_left", name));
}

// 0 stands for all cores.
Result<int> ReadThreads(std::string_view text) {
  if (text == "0" || text == "all") return UsableCores();
  const Result<int64_t> n = ParseCount(text);
  if (!n.ok() || *n > 1024)
    return Invalid(fmt::format(
        "'{}' is no number of threads: write 1 to 1024, or 0 for all cores",
        text));
  return static_cast<int>(*n);
}

// `measure`: "speed" or "memory", whose key of the profile says what differs
// from "shape".
Status ReadGrid(const json& profile, const char* measure,
                const CompareOverrides& over, Grid* grid) {
  Keys top(profile, over.profile);
  const json& shape_json = top.Object("shape");
  const json& own_json = top.Object(measure);
  if (!top.status().ok()) return top.status();
  Keys shape(shape_json, over.profile + ": shape");
  Keys own(own_json, fmt::format("{}: {}", over.profile, measure));
  shape.OnlyKnown(
      {"batch", "heads", "kv_heads", "dims", "dtypes", "masks", "threads"});
  // The command line, then the measure's own key, then the shared one.
  const auto pick = [&](const std::string& given, const char* key,
                        const char* initial) {
    if (!given.empty()) return given;
    std::string text = own.List(key);
    if (text.empty()) text = shape.List(key);
    return text.empty() ? std::string(initial) : text;
  };
  constexpr int64_t kMost = int64_t{1} << 24;
  Status status = ReadSweep("-n", pick(over.lengths, "lengths", "1k"), kMost,
                            &grid->lengths);
  if (status.ok())
    status = ReadSweep("-d", pick(over.dims, "dims", "64"), 1024, &grid->dims);
  if (status.ok())
    status = ReadList<Pass>("--pass", pick(over.passes, "passes", "forward"),
                            ParsePass, &grid->passes);
  if (status.ok())
    status = ReadList<DType>("--dtype", pick(over.dtypes, "dtypes", "f32"),
                             ReadDType, &grid->dtypes);
  if (status.ok())
    status = ReadList<Mask>("--mask", pick(over.masks, "masks", "causal"),
                            ReadMask, &grid->masks);
  if (status.ok())
    status = ReadList<int>("-t", pick(over.threads, "threads", "0"),
                           ReadThreads, &grid->threads);
  double batch = 1, heads = 4, kv_heads = 0;
  shape.Number("batch", &batch, 1, 4096);
  shape.Number("heads", &heads, 1, 4096);
  shape.Number("kv_heads", &kv_heads, 0, 4096);
  grid->batch = over.batch > 0 ? over.batch : static_cast<int64_t>(batch);
  grid->heads = over.heads > 0 ? over.heads : static_cast<int64_t>(heads);
  grid->kv_heads =
      over.kv_heads > 0 ? over.kv_heads : static_cast<int64_t>(kv_heads);
  if (grid->kv_heads > 0 && grid->heads % grid->kv_heads != 0)
    return Invalid(fmt::format("--kv-heads: {} heads cannot share {} evenly",
                               grid->heads, grid->kv_heads));
  if (status.ok()) status = shape.status();
  return status.ok() ? own.status() : status;
}

Status ReadTiming(const json& profile, const CompareOverrides& over,
                  CompareOptions* options) {
  SpeedSettings& t = options->timing;
  Keys top(profile, over.profile);
  Keys speed(top.Object("speed"), over.profile + ": speed");
  speed.OnlyKnown({"passes", "lengths", "dims", "dtypes", "masks", "threads",
                   "sample_seconds", "cell_seconds", "least_rounds",
                   "most_rounds", "longest_pass", "longest_prefill",
                   "memory_share"});
  double least = t.least_rounds, most = t.most_rounds;
  speed.Number("sample_seconds", &t.sample_seconds, 1e-6, 60);
  speed.Number("cell_seconds", &t.cell_seconds, 1e-6, 3600);
  speed.Number("least_rounds", &least, 1, 1000);
  speed.Number("most_rounds", &most, least, 1000);
  speed.Number("longest_pass", &t.longest_pass, 1e-6, 36000);
  speed.Number("longest_prefill", &t.longest_prefill, 1e-6, 36000);
  speed.Number("memory_share", &t.memory_share, 0.01, 1);
  t.least_rounds = static_cast<int>(least);
  t.most_rounds = static_cast<int>(most);
  t.seed = static_cast<uint64_t>(over.seed);
  Keys memory(top.Object("memory"), over.profile + ": memory");
  memory.OnlyKnown({"passes", "lengths", "dims", "dtypes", "masks", "threads",
                    "longest_child"});
  memory.Number("longest_child", &options->longest_child, 0.1, 36000);
  for (const Keys* k : {&top, &speed, &memory})
    if (!k->status().ok()) return k->status();
  return {};
}

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

// Specs of `list` that --only asks for: those it names, and those whose
// variant one of its globs matches.
std::vector<std::string> Chosen(const std::vector<std::string>& list,
                                const std::vector<std::string>& only) {
  if (only.empty()) return list;
  std::vector<std::string> chosen;
  for (const std::string& spec : list) {
    const std::string name = spec.substr(0, spec.find_first_of(":+"));
    const auto wants = [&](const std::string& o) {
      return o == spec || o == name;
    };
    if (std::any_of(only.begin(), only.end(), wants)) chosen.push_back(spec);
  }
  for (const std::string& o : only)
    if (o.find_first_of(":+") != std::string::npos &&
        std::find(chosen.begin(), chosen.end(), o) == chosen.end())
      chosen.push_back(o);
  return chosen;
}

Status ReadLearn(const json& profile, const CompareOverrides& over,
                 CompareOptions* options) {
  const bool text = options->measures.contains("extrapolation");
  const bool probes = options->measures.contains("probes");
  if (!probes && !over.probes.empty())
    return Invalid("--probes: probes are not among what is measured");
  if (!text && !probes) return {};
  Result<LearnOptions> learn = LearnOptionsFrom(profile);
  if (!learn.ok())
    return {learn.status().code(),
            over.profile + ": " + learn.status().message()};
  options->learn = std::move(*learn);
  LearnOptions& l = options->learn;
  const std::vector<std::string> only =
      over.only.empty() ? std::vector<std::string>() : options->specs;
  l.specs = text ? Chosen(l.specs, only) : std::vector<std::string>();
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
  }
  l.corpus = over.corpus;
  if (over.seed != 1) l.seeds = {static_cast<uint64_t>(over.seed)};
  l.budget_seconds = 0;
  for (const char* name : {"extrapolation", "probes"})
    if (options->measures.contains(name))
      l.budget_seconds += options->seconds[name];
  return {};
}

// Specs of the profile's list, and variants that --only names beside it.
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
  const Result<LearnOptions> learn = LearnOptionsFrom(profile);
  if (!learn.ok())
    return {learn.status().code(),
            over.profile + ": " + learn.status().message()};
  l.model.width = learn->width;
  l.model.layers = learn->layers;
  l.model.heads = learn->heads;
  l.model.train_len = learn->train_len;
  l.seed = static_cast<uint64_t>(over.seed);
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

// Commas separate specs, except before knob=value.
std::vector<std::string> SplitSpecs(std::string_view text) {
  std::vector<std::string> specs;
  for (const std::string& part : Split(text, ',')) {
    const size_t equals = part.find('=');
    const bool knob =
        equals != std::string::npos && part.find_first_of(":.+") > equals;
    if (knob && !specs.empty()) {
      specs.back() += "," + part;
    } else {
      specs.push_back(part);
    }
  }
  return specs;
}

}  // namespace

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
    if (!matched && specs.size() == before)
      return NotFound(fmt::format(
          "no variant matches '{}'; `saccade list` names them all", item));
  }
  if (specs.empty()) return Invalid("an empty list of variants");
  return specs;
}

Result<CompareOptions> MakeCompareOptions(const CompareOverrides& over) {
  const Result<json> profile = LoadProfile(over.profile);
  if (!profile.ok()) return profile.status();
  CompareOptions options;
  options.profile = over.profile;
  options.command = over.command;
  options.dry_run = over.dry_run;
  Keys top(*profile, over.profile);
  // "learn" and those after it are read by LearnOptionsFrom.
  top.OnlyKnown({"about", "measures", "seconds", "variants", "shape", "speed",
                 "memory", "learn", "probe", "probes", "learn_settings",
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
  if (status.ok()) status = ReadGrid(*profile, "speed", over, &options.speed);
  if (status.ok()) status = ReadGrid(*profile, "memory", over, &options.memory);
  if (status.ok()) status = ReadTiming(*profile, over, &options);
  if (status.ok()) status = ReadLearn(*profile, over, &options);
  if (status.ok()) status = ReadLenses(*profile, over, &options);
  if (status.ok()) status = ReadPeers(over, &options);
  if (!status.ok()) return status;
  options.out = over.out;
  if (options.out.empty()) {
    std::string stamp = UtcNow();
    std::erase_if(stamp, [](char c) { return c == ':' || c == '-'; });
    options.out = fmt::format("saccade-{}", stamp);
  }
  return options;
}

std::vector<std::vector<CellSpec>> Grid::Groups(
    const std::vector<std::string>& specs) const {
  std::vector<std::vector<CellSpec>> groups;
  for (const int64_t length : lengths)
    for (const int64_t dim : dims)
      for (const Mask mask : masks)
        for (const DType dtype : dtypes)
          for (const int t : threads)
            for (const Pass pass : passes) {
              std::vector<CellSpec>& group = groups.emplace_back();
              for (const std::string& spec : specs)
                group.push_back({spec,
                                 {batch, heads, kv_heads, dim, mask},
                                 pass,
                                 dtype,
                                 length,
                                 t});
            }
  return groups;
}

}  // namespace saccade::bench
