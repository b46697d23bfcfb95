#include "bench/profile.h"

#include <fmt/format.h>

#include <vector>

#include "nearest.h"
#include "record/file.h"

namespace saccade::bench {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 20;
constexpr int kMaxDepth = 16;

Result<nlohmann::json> Parse(std::string_view name, std::string_view text) {
  if (record::JsonDepth(text) > kMaxDepth)
    return Invalid(
        fmt::format("{}: nested deeper than {} levels", name, kMaxDepth));
  try {
    nlohmann::json profile = nlohmann::json::parse(text);
    if (profile.is_object()) return profile;
    return Invalid(fmt::format("{}: a profile is a JSON object", name));
  } catch (const nlohmann::json::parse_error& e) {
    return Invalid(fmt::format("{}: no JSON at byte {}", name, e.byte));
  }
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
