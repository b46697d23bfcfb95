// Profiles into options: what is checked here need not be checked again.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "bench/extrapolation.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

Status ReadSpecs(const json& profile, const char* key,
                 std::vector<std::string>* specs) {
  if (!profile.contains(key)) return {};
  const json& list = profile[key];
  specs->clear();
  if (list.is_array()) {
    for (const json& spec : list) {
      if (spec.is_string()) specs->push_back(spec.get<std::string>());
    }
    if (specs->size() == list.size()) return {};
  }
  return Invalid(fmt::format("\"{}\" must be a list of spec strings", key));
}

Status ReadProbes(const json& profile, std::vector<const Probe*>* probes) {
  std::vector<std::string> names;
  if (!profile.contains("probes")) return {};
  if (!ReadSpecs(profile, "probes", &names).ok()) {
    return Invalid("\"probes\" must be a list of probes' names");
  }
  Result<std::vector<const Probe*>> found = FindProbes(names);
  if (!found.ok()) {
    return {found.status().code(), "\"probes\": " + found.status().message()};
  }
  *probes = std::move(*found);
  return {};
}

// A setting: its name, where it goes, and the range it must lie in.
struct Setting {
  const char* name;
  int64_t* count;  // or
  double* number;
  double low, high;
};

Status ReadList(const json& settings, const char* key, double high,
                std::vector<int64_t>* list) {
  if (!settings.contains(key)) return {};
  list->clear();
  const json& items = settings[key];
  bool ok = items.is_array() && !items.empty();
  for (size_t i = 0; ok && i < items.size(); ++i) {
    ok = items[i].is_number_integer() && items[i] >= 1 && items[i] <= high;
    if (ok) list->push_back(items[i].get<int64_t>());
  }
  if (ok) return {};
  return Invalid(
      fmt::format("\"learn_settings\": \"{}\" must be a list of whole numbers "
                  "from 1 to {}",
                  key, high));
}

Status ReadSettings(const json& settings, LearnOptions* o) {
  if (!settings.is_object()) {
    return Invalid("\"learn_settings\" must be an object");
  }
  constexpr double kMany = 1 << 30;
  const Setting known[] = {
      {"width", &o->width, nullptr, 8, 4096},
      {"layers", &o->layers, nullptr, 1, 64},
      {"heads", &o->heads, nullptr, 1, 256},
      {"train_len", &o->train_len, nullptr, 4, 1 << 20},
      {"steps", &o->steps, nullptr, 1, kMany},
      {"tokens_per_step", &o->tokens_per_step, nullptr, 4, 1 << 24},
      {"rate", nullptr, &o->rate, 0, 1},
      {"test_bytes", &o->test_bytes, nullptr, 1, kMany},
      {"targets", &o->targets, nullptr, 1, 1 << 20},
      {"probe_max_len", &o->probe_max_len, nullptr, 1, 1 << 20},
      {"probe_effort", nullptr, &o->probe_effort, 1e-3, 1e3},
      {"probe_tokens_per_step", &o->probe_tokens_per_step, nullptr, 1, 1 << 24},
      {"probe_sequences", &o->probe_sequences, nullptr, 1, 1 << 20},
  };
  for (const auto& [key, value] : settings.items()) {
    if (key == "multiples" || key == "seeds") continue;
    const auto* setting =
        std::find_if(std::begin(known), std::end(known),
                     [&key](const Setting& s) { return key == s.name; });
    if (setting == std::end(known)) {
      return Invalid(fmt::format("\"learn_settings\" has no \"{}\"", key));
    }
    const bool whole = setting->count != nullptr;
    if (!(whole ? value.is_number_integer() : value.is_number()) ||
        value < setting->low || value > setting->high) {
      return Invalid(fmt::format(
          "\"learn_settings\": \"{}\" must be a {}number from {} to {}", key,
          whole ? "whole " : "", setting->low, setting->high));
    }
    if (whole) {
      *setting->count = value.get<int64_t>();
    } else {
      *setting->number = value.get<double>();
    }
  }
  if (Status s = ReadList(settings, "multiples", 1024, &o->multiples); !s.ok())
    return s;
  std::vector<int64_t> seeds(o->seeds.begin(), o->seeds.end());
  if (Status s = ReadList(settings, "seeds", kMany, &seeds); !s.ok()) return s;
  o->seeds.assign(seeds.begin(), seeds.end());
  return {};
}

Status ReadClaims(const json& claims, LearnOptions* o) {
  if (!claims.is_object()) return Invalid("\"claims\" must be an object");
  for (const auto& [role, specs] : claims.items()) {
    if (Status s = ReadSpecs(claims, role.c_str(), &o->roles[role]); !s.ok())
      return s;
  }
  return {};
}

}  // namespace

Result<LearnOptions> LearnOptionsFrom(const json& profile) {
  if (!profile.is_object()) return Invalid("a profile must be an object");
  LearnOptions o;
  Status status = ReadSpecs(profile, "learn", &o.specs);
  if (status.ok()) status = ReadSpecs(profile, "probe", &o.probe_specs);
  if (status.ok()) status = ReadProbes(profile, &o.probes);
  if (status.ok() && profile.contains("learn_settings")) {
    status = ReadSettings(profile["learn_settings"], &o);
  }
  if (status.ok() && profile.contains("claims")) {
    status = ReadClaims(profile["claims"], &o);
  }
  if (!status.ok()) return status;
  return o;
}

}  // namespace saccade::bench
