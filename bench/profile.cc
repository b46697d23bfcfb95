#include "bench/profile.h"

#include <fmt/format.h>

#include <vector>

#include "nearest.h"
#include "record/file.h"
#include "record/json.h"

namespace saccade::bench {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 20;
constexpr int kMaxDepth = 16;

Result<nlohmann::json> Parse(std::string_view name, std::string_view text) {
  Result<nlohmann::json> profile =
      record::ParseJson<nlohmann::json>(text, kMaxDepth);
  if (!profile.ok())
    return Invalid(fmt::format("{}: {}", name, profile.status().message()));
  if (!profile->is_object())
    return Invalid(fmt::format("{}: a profile is a JSON object", name));
  return profile;
}

}  // namespace

Result<nlohmann::json> LoadProfile(const std::string& name) {
  if (name.ends_with(".json")) {
    const Result<std::string> text = record::ReadFile(name, kMaxFile);
    return text.ok() ? Parse(name, *text) : text.status();
  }
  std::vector<std::string_view> names;
  for (const BuiltInProfile& p : BuiltInProfiles()) {
    if (p.name == name) return Parse(p.name, p.text);
    names.push_back(p.name);
  }
  return NotFound(
      fmt::format("there is no profile '{}'{}", name, DidYouMean(name, names)));
}

}  // namespace saccade::bench
