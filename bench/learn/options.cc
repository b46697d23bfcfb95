// Profiles into options: what is checked here need not be checked again.
#include <fmt/format.h>

#include "bench/extrapolation.h"
#include "bench/json_keys.h"
#include "bench/learn/jobs.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr int64_t kMany = int64_t{1} << 30;
constexpr int64_t kLongest = int64_t{1} << 20;     // tokens of a sequence
constexpr int64_t kMostTokens = int64_t{1} << 24;  // of a step

// A list of names under `key`, if it is there.
template <class T>
Status ReadNames(
    Keys& top, const char* key,
    Result<std::vector<const T*>> (*find)(const std::vector<std::string>&),
    std::vector<const T*>* found) {
  std::vector<std::string> names;
  for (const T* one : *found) names.emplace_back(one->name);
  top.Texts(key, &names);
  if (!top.status().ok()) return top.status();
  Result<std::vector<const T*>> named = find(names);
  if (!named.ok()) {
    return {named.status().code(),
            fmt::format("\"{}\": {}", key, named.status().message())};
  }
  *found = std::move(*named);
  return {};
}

Status ReadSettings(const json& settings, LearnOptions* o) {
  Keys keys(settings, "\"learn_settings\"");
  keys.OnlyKnown({"width", "layers", "heads", "train_len", "steps", "warmup",
                  "tokens_per_step", "rate", "test_bytes", "targets",
                  "multiples", "seeds", "probe_max_len", "probe_effort",
                  "probe_tokens_per_step", "probe_sequences",
                  "checkpoint_seconds"});
  keys.Count("width", &o->width, 8, 4096);
  keys.Count("layers", &o->layers, 1, 64);
  keys.Count("heads", &o->heads, 1, 256);
  keys.Count("train_len", &o->train_len, 4, kLongest);
  keys.Count("steps", &o->steps, 1, kMany);
  keys.Count("warmup", &o->warmup, 0, kMany);
  keys.Count("tokens_per_step", &o->tokens_per_step, 4, kMostTokens);
  keys.Number("rate", &o->rate, 0, 1);
  keys.Count("test_bytes", &o->test_bytes, 1, kMany);
  keys.Count("targets", &o->targets, 1, kLongest);
  keys.Counts("multiples", &o->multiples, 1, 1024);
  keys.Count("probe_max_len", &o->probe_max_len, 1, kLongest);
  keys.Number("probe_effort", &o->probe_effort, 1e-3, 1e3);
  keys.Count("probe_tokens_per_step", &o->probe_tokens_per_step, 1,
             kMostTokens);
  keys.Count("probe_sequences", &o->probe_sequences, 1, kLongest);
  keys.Number("checkpoint_seconds", &o->checkpoint_seconds, 0, 36000);
  std::vector<int64_t> seeds(o->seeds.begin(), o->seeds.end());
  keys.Counts("seeds", &seeds, 0, kMany);
  o->seeds.assign(seeds.begin(), seeds.end());
  return keys.status();
}

Status ReadDrop(const json& rule, size_t number, LearnOptions* o) {
  Keys keys(rule, fmt::format("\"drop\", item {}", number));
  keys.OnlyKnown({"task", "variants", "seed"});
  DropRule r;
  keys.Text("task", &r.task);
  keys.Text("variants", &r.variants);
  int64_t seed = -1;
  keys.Count("seed", &seed, 0, kMany);
  if (seed >= 0) r.seed = static_cast<uint64_t>(seed);
  o->drops.push_back(std::move(r));
  return keys.status();
}

Status ReadFurther(const json& item, size_t number, LearnOptions* o) {
  const std::string where = fmt::format("\"further\", item {}", number);
  Keys keys(item, where);
  keys.OnlyKnown({"task", "variants", "seeds"});
  FurtherTask further;
  std::vector<int64_t> seeds;
  keys.Text("task", &further.task);
  keys.Texts("variants", &further.specs);
  if (item.contains("seeds")) keys.Counts("seeds", &seeds, 0, kMany);
  if (!keys.status().ok()) return keys.status();
  if (further.task != kText) {
    const Result<const Probe*> probe = FindProbe(further.task);
    if (!probe.ok())
      return {probe.status().code(), where + ": \"task\" is text or a probe: " +
                                         probe.status().message()};
  }
  further.seeds.assign(seeds.begin(), seeds.end());
  o->further.push_back(std::move(further));
  return {};
}

Status ReadClaims(const json& claims, LearnOptions* o) {
  Keys keys(claims, "\"claims\"");
  for (const auto& [role, specs] : claims.items())
    keys.Texts(role.c_str(), &o->roles[role]);
  return keys.status();
}

}  // namespace

Result<LearnOptions> LearnOptionsFrom(const json& profile) {
  LearnOptions o;
  Keys top(profile, "the profile");
  top.Texts("learn", &o.specs);
  top.Texts("flop_matched", &o.flop_matched);
  top.Texts("probe", &o.probe_specs);
  const json& further = top.Array("further");
  const json& drops = top.Array("drop");
  const json& settings = top.Object("learn_settings");
  const json& claims = top.Object("claims");
  Status status = top.status();
  if (status.ok()) status = ReadNames(top, "probes", FindProbes, &o.probes);
  if (status.ok())
    status = ReadNames(top, "protocols", FindProtocols, &o.protocols);
  if (status.ok())
    status = ReadNames(top, "switches", FindSwitches, &o.switches);
  if (status.ok()) status = ReadSettings(settings, &o);
  for (size_t i = 0; i < further.size() && status.ok(); ++i)
    status = ReadFurther(further[i], i + 1, &o);
  for (size_t i = 0; i < drops.size() && status.ok(); ++i)
    status = ReadDrop(drops[i], i + 1, &o);
  if (status.ok()) status = ReadClaims(claims, &o);
  if (!status.ok()) return status;
  return o;
}

}  // namespace saccade::bench
